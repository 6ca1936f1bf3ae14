"""Models in the formats of others: ONNX, and a state dict of PyTorch.

Both take inputs as they were before standardisation, in the order of `Model.input_names`; of a table's categories, one
input of 0 or 1 for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import to_numpy
from kfac_ref.data.files import write_whole
from kfac_ref.data.npz_file import one_line
from kfac_ref.data.scaling import Scaling
from kfac_ref.training.models import Model

OPSET, IR_VERSION = 17, 8
"""Of ONNX 1.12, from 2022, which whatever runs ONNX files now reads."""
ONNX_ACTIVATIONS = {
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "relu": "Relu",
    "softplus": "Softplus",
    "identity": "Identity",
}
MEANS = {"categorical": "Softmax", "bernoulli": "Sigmoid", "gaussian": "Identity"}
"""What makes E[y|z] of the outputs z."""


def onnx(model: Model, path: Path) -> None:
    """Write an ONNX file: input `X` (N, d_0), output `Y` (N, d_ℓ), what `Model.mean` gives, in the model's dtype.

    Names of inputs and outputs are in its metadata, under `inputs` and `outputs`, a line each.

    Raises
    ------
    ValueError
        If the package onnx is not installed, or an activation has no counterpart.
    """
    try:
        from onnx import checker, helper, numpy_helper
    except ImportError as error:
        raise ValueError('an ONNX file needs the package onnx: pip install "kfac-ref[onnx]"') from error
    network, dtype = model.network, to_numpy(model.parameters[0]).dtype
    nodes: list[Any] = []
    constants: list[Any] = []

    def node(operation: str, *operands: str, **attributes: Any) -> str:
        name = f"{operation}_{len(nodes)}"
        nodes.append(helper.make_node(operation, operands, [name], **attributes))
        return name

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(to_numpy(value), dtype=dtype), name))
        return name

    at = "X"
    if model.preparation.inputs is not None:
        scaling = model.preparation.inputs
        at = node("Sub", at, constant("inputs.mean", scaling.mean))
        at = node("Div", at, constant("inputs.scale", scaling.scale))
    for i, (W, phi) in enumerate(zip(model.parameters, network.activations, strict=True), start=1):
        if phi.name not in ONNX_ACTIVATIONS:
            raise ValueError(f"layer {i} has the activation {phi.name}, which cannot be written to an ONNX file")
        operands = constant(f"{i}.weight", W[:, :-1]), constant(f"{i}.bias", W[:, -1])
        at = node(ONNX_ACTIVATIONS[phi.name], node("Gemm", at, *operands, transB=1))
    at = node(MEANS[network.likelihood.name], at, **({"axis": -1} if network.likelihood.name == "categorical" else {}))
    back = model.preparation.inputs if model.purpose == "autoencoder" else model.preparation.outcomes
    if back is not None:
        at = node("Mul", at, constant("outcomes.scale", back.scale))
        at = node("Add", at, constant("outcomes.mean", back.mean))
    node("Identity", at)
    nodes[-1].output[0] = "Y"

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    ends = [
        helper.make_tensor_value_info(name, kind, ["N", d])
        for name, d in (("X", network.inputs), ("Y", network.outputs))
    ]
    graph = helper.make_graph(nodes, "kfac_ref", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="kfac-ref")
    made.ir_version = IR_VERSION
    texts = {"purpose": model.purpose, "inputs": "\n".join(model.input_names), "outputs": "\n".join(model.output_names)}
    helper.set_model_props(made, texts)
    checker.check_model(made)
    write_whole(path, lambda file: file.write(made.SerializeToString()))


def torch_state_dict(model: Model, path: Path) -> None:
    """Write the state dict of a `torch.nn.Sequential` of `Linear`s with activations between them, by `torch.save`.

    Its keys are `0.weight`, `0.bias`, `2.weight` and so on. Standardisation of inputs is folded into the first layer's
    parameters, and of numbers that are predicted into the last's, so that the network takes and gives them as they
    were; what it gives for classes are the outputs z.

    Raises
    ------
    ValueError
        If PyTorch is not installed.
    """
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
    """The parameters of a network that does what the model's does, standardisation included; float64."""
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
