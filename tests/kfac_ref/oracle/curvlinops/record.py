"""Makes the files of this folder, with the Python of an environment that has PyTorch 2.13 and curvlinops 3.0.1:
`python -m tests.kfac_ref.oracle.curvlinops.record`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from curvlinops import KFACLinearOperator
from torch import Tensor, nn

from autodiff.network import Network, described
from kfac_ref.data.npz_file import write_archive
from tests.kfac_ref.oracle.curvlinops import FOLDER

CASES = {"small": 11, "large": 31}
"""Primes that are no layer's number of locations, so that a scale can be told by its value."""
SAMPLES = {"type-2": 1, "empirical": 1, "mc": 1}
LOSSES = {"categorical": nn.CrossEntropyLoss, "bernoulli": nn.BCEWithLogitsLoss, "gaussian": nn.MSELoss}


def conv(out: int, kernel: Sequence[int], **keys: Any) -> dict[str, Any]:
    return {"kind": "conv", "out": out, "kernel": list(kernel), **keys}


def dense(out: int, activation: str = "identity", **keys: Any) -> dict[str, Any]:
    return {"kind": "dense", "out": out, "activation": activation, **keys}


def residual(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "residual", "layers": list(layers)}


SAME = {"padding": [1, 1], "activation": "tanh"}
NETWORKS: dict[str, tuple[list[int], list[dict[str, Any]], str]] = {
    "convolution": (
        [1, 6, 6],
        [conv(3, (3, 3), **SAME), {"kind": "average-pool", "size": [2, 2]}, conv(4, (2, 2), activation="tanh"),
         {"kind": "flatten"}, dense(3)],
        "categorical",
    ),
    "strided": (
        [2, 7, 5],
        [conv(4, (3, 2), stride=[2, 1], padding=[1, 0], bias=False, activation="tanh"),
         conv(3, (2, 2), activation="logistic"), {"kind": "global-mean"}, dense(4)],
        "gaussian",
    ),
    "sequence": (
        [5, 4], [dense(6, "tanh"), dense(3, "relu"), {"kind": "mean-over-positions"}, dense(3)], "bernoulli",
    ),
    "positions": ([4, 3], [dense(5, "tanh"), dense(3)], "categorical"),
    "residual-convolution": (
        [2, 4, 4],
        [conv(3, (2, 2), activation="tanh"), residual(conv(4, (3, 3), **SAME), conv(3, (3, 3), padding=[1, 1])),
         {"kind": "flatten"}, dense(3)],
        "categorical",
    ),
    "residual-sequence": (
        [6, 3],
        [dense(4, "tanh"), residual(dense(5, "tanh"), dense(4)), {"kind": "mean-over-positions"}, dense(2)],
        "gaussian",
    ),
}  # fmt: skip
PHI = {"identity": nn.Identity, "tanh": nn.Tanh, "relu": nn.ReLU, "logistic": nn.Sigmoid}


class Mean(nn.Module):
    """Over positions, or over the pixels of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if x.ndim == 3 else x.mean((2, 3))


class ClassesFirst(nn.Module):
    """(N, T, C) → (N, C, T), which the cross entropy wants."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def module(layers: Sequence[Mapping[str, Any]], channels: int, W: list[np.ndarray]) -> tuple[nn.Sequential, int]:
    """The layers as a PyTorch user has them, and the channels that come out; takes the weights from the front of W."""
    made: list[nn.Module] = []
    for layer in layers:
        match layer["kind"]:
            case "conv" | "dense":
                bias, out = layer.get("bias", True), layer["out"]
                w = torch.from_numpy(W.pop(0))
                if layer["kind"] == "conv":
                    geometry = {key: tuple(layer[key]) for key in ("stride", "padding") if key in layer}
                    one: Any = nn.Conv2d(channels, out, tuple(layer["kernel"]), bias=bias, **geometry)
                else:
                    one = nn.Linear(w.shape[1] - bias, out, bias=bias)
                one = one.double()
                one.weight.data = w[:, : w.shape[1] - bias].clone().reshape(one.weight.shape)
                if bias:
                    one.bias.data = w[:, -1].clone()
                made += [one, PHI[layer.get("activation", "identity")]()]
                channels = out
            case "average-pool":
                made.append(nn.AvgPool2d(tuple(layer["size"])))
            case "flatten":
                made.append(nn.Flatten())
            case "residual":
                made.append(Residual(module(layer["layers"], channels, W)[0]))
            case _:
                made.append(Mean())
    return nn.Sequential(*made), channels


def factors(
    network: Network, W: list[np.ndarray], X: np.ndarray, Y: np.ndarray, reduction: str, fisher: str, sharing: str
) -> dict[str, np.ndarray]:
    """Its Kronecker factors, as it has them."""
    model, _ = module(network.description()["network"], network.input[0], list(W))
    name = network.likelihood.name
    if name == "categorical" and len(network.output) > 1:
        model.append(ClassesFirst())
    targets = torch.from_numpy(Y.argmax(-1) if name == "categorical" else Y)
    kfac = KFACLinearOperator(
        model,
        LOSSES[name](reduction=reduction),
        list(model.parameters()),
        [(torch.from_numpy(X), targets)],
        fisher_type=fisher,
        mc_samples=SAMPLES[fisher],
        kfac_approx=sharing,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    kfac.compute_kronecker_factors()
    names = [name for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    theirs = {f"A_{i}": kfac._input_covariances[name] for i, name in enumerate(names, 1)}
    theirs |= {f"G_{i}": kfac._gradient_covariances[name] for i, name in enumerate(names, 1)}
    return {name: x.detach().numpy() for name, x in theirs.items()}


def record(name: str, size: str) -> None:
    """Write the file of one network and number of cases."""
    torch.manual_seed(0)
    rng, N = np.random.default_rng(list(f"{name} {size}".encode())), CASES[size]
    input_, layers, likelihood = NETWORKS[name]
    description = {"input": input_, "network": layers, "likelihood": likelihood}
    network = described(description)
    W = [np.round(1.3 / np.sqrt(shape[1]) * rng.standard_normal(shape), 3) for shape in network.shapes]
    X = np.round(rng.standard_normal((N, *input_)), 3)
    shape = (N, *network.output)
    Y = {
        "categorical": np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])],
        "bernoulli": rng.integers(2, size=shape).astype(float),
        "gaussian": np.round(rng.standard_normal(shape), 3),
    }[likelihood]
    kept: dict[str, np.ndarray] = {}
    G: dict[str, list[np.ndarray]] = {}
    outputs = list(product(("sum", "mean"), SAMPLES, ("expand", "reduce")))
    for reduction, fisher, sharing in outputs:
        for key, x in factors(network, W, X, Y, reduction, fisher, sharing).items():
            if key[0] == "G":
                G.setdefault(key, []).append(x)
            else:
                np.testing.assert_array_equal(kept.setdefault(f"A_{sharing}_{key[2:]}", x), x)
    settings = network.description() | {"outputs": [" ".join(output) for output in outputs]}
    arrays = {"settings": np.asarray(json.dumps(settings)), "X": X, "Y": Y}
    arrays |= {f"W_{i}": w for i, w in enumerate(W, 1)} | kept | {key: np.stack(x) for key, x in G.items()}
    write_archive(FOLDER / f"{name}-{size}.npz", arrays)


if __name__ == "__main__":
    for name, size in product(NETWORKS, CASES):
        record(name, size)
