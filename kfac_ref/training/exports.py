"""Models in the formats of others: ONNX, and a state dict of PyTorch.

Both take inputs as they were before standardisation, in the order of `Model.input_names`; of a table's categories, one
input of 0 or 1 for each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autodiff.arrays import to_numpy
from autodiff.network import Network
from kfac_ref.data.files import write_whole
from kfac_ref.data.npz_file import one_line
from kfac_ref.data.scaling import Scaling
from kfac_ref.training.models import Model
from kfac_ref.training.onnx_graph import Graph, outputs

OPSET, IR_VERSION = 17, 8
"""Of ONNX 1.12, from 2022, which whatever runs ONNX files now reads."""
MEANS = {"categorical": "Softmax", "bernoulli": "Sigmoid", "gaussian": "Identity"}
"""What makes E[y|z] of the outputs z."""


def onnx(model: Model, path: Path) -> None:
    """Write an ONNX file: input `X` (N, d_0), output `Y` (N, d_ℓ), what `Model.mean` gives, in the model's dtype.

    Names of inputs and outputs are in its metadata, under `inputs` and `outputs`, a line each.

    Raises
    ------
    ValueError
        If the package onnx is not installed, or a layer or its activation has no counterpart.
    """
    try:
        from onnx import checker, helper
    except ImportError as error:
        raise ValueError('an ONNX file needs the package onnx: pip install "kfac-ref[onnx]"') from error
    network, graph = model.network, Graph(to_numpy(model.parameters[0]).dtype)
    at = "X"
    if model.preparation.inputs is not None:
        scaling = model.preparation.inputs
        at = graph.node("Sub", at, graph.constant("inputs.mean", scaling.mean))
        at = graph.node("Div", at, graph.constant("inputs.scale", scaling.scale))
    at = outputs(graph, network, model.parameters, at)
    at = _mean(graph, network, at)
    back = model.preparation.inputs if model.purpose == "autoencoder" else model.preparation.outcomes
    if back is not None:
        at = graph.node("Mul", at, graph.constant("outcomes.scale", back.scale))
        at = graph.node("Add", at, graph.constant("outcomes.mean", back.mean))
    graph.node("Identity", at)
    graph.nodes[-1].output[0] = "Y"

    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    ends = [
        helper.make_tensor_value_info(name, kind, ["N", d])
        for name, d in (("X", network.inputs), ("Y", network.outputs))
    ]
    whole = helper.make_graph(graph.nodes, "kfac_ref", ends[:1], ends[1:], graph.constants)
    made = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="kfac-ref")
    made.ir_version = IR_VERSION
    texts = {"purpose": model.purpose, "inputs": "\n".join(model.input_names), "outputs": "\n".join(model.output_names)}
    helper.set_model_props(made, texts)
    checker.check_model(made)
    write_whole(path, lambda file: file.write(made.SerializeToString()))


def _mean(graph: Graph, network: Network, z: str) -> str:
    """E[y|z] of outputs (N, d_ℓ), position by position where there are several."""
    likelihood = network.likelihood
    if likelihood.name != "categorical":
        return graph.node(MEANS[likelihood.name], z)
    several = likelihood.positions > 1
    z = graph.reshaped(z, (likelihood.positions, network.outputs // likelihood.positions)) if several else z
    p = graph.node("Softmax", z, axis=-1)
    return graph.reshaped(p, (network.outputs,)) if several else p


def torch_state_dict(model: Model, path: Path) -> None:
    """Write the state dict of a `torch.nn.Sequential` of `Linear`s with activations between them, by `torch.save`.

    Its keys are `0.weight`, `0.bias`, `2.weight` and so on. Standardisation of inputs is folded into the first layer's
    parameters, and of numbers that are predicted into the last's, so that the network takes and gives them as they
    were; what it gives for classes are the outputs z.

    Raises
    ------
    ValueError
        If PyTorch is not installed, or the network has other layers than dense ones on vectors.
    """
    if not model.network.fully_connected:
        raise ValueError(
            f"a state dict is of a Sequential of Linears, and the network is {model.network}: export it to onnx"
        )
    try:
        import torch
    except ImportError as error:
        raise ValueError("a state dict of PyTorch needs PyTorch, which is not installed; see pytorch.org") from error
    dtype = to_numpy(model.parameters[0]).dtype
    state = {}
    for i, W in enumerate(folded(model)):
        state[f"{2 * i}.weight"] = torch.from_numpy(np.ascontiguousarray(W[:, :-1], dtype=dtype))
        state[f"{2 * i}.bias"] = torch.from_numpy(np.ascontiguousarray(W[:, -1], dtype=dtype))
    try:
        write_whole(path, lambda file: torch.save(state, file))
    except RuntimeError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None


def folded(model: Model) -> list[np.ndarray]:
    """The parameters, of the shapes of W_1 … W_ℓ, of a network that does what the model's does, standardisation
    included; float64."""
    W = [to_numpy(w).astype(np.float64) for w in model.parameters]
    if model.preparation.inputs is not None:
        mean, scale = _host(model.preparation.inputs)
        W[0][:, :-1] /= scale
        W[0][:, -1] -= W[0][:, :-1] @ mean
    back = model.preparation.inputs if model.purpose == "autoencoder" else model.preparation.outcomes
    if back is not None:
        mean, scale = _host(back)
        W[-1] *= scale[:, None]
        W[-1][:, -1] += mean
    return W


def _host(scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
    return to_numpy(scaling.mean).astype(np.float64), to_numpy(scaling.scale).astype(np.float64)


def safetensors(model: Model, path: Path) -> None:
    """Write the model as `Model.save` does: `kfac_ref.load` reads it."""
    model.save(path)


FORMATS = {
    "onnx": (onnx, ".onnx"),
    "safetensors": (safetensors, ".safetensors"),
    "torch-state-dict": (torch_state_dict, ".pt"),
}
"""What writes each, and how its files' names end."""
