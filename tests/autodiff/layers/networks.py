"""Networks with each kind of layer, and random stacks of kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import Network
from autodiff.initialisation import glorot_initialisation

Description = tuple[tuple[int, ...], list[dict[str, Any]]]
"""The shape of a case, and the layers."""


def dense(out: int, activation: str = "identity", **keys: Any) -> dict[str, Any]:
    return {"kind": "dense", "out": out, "activation": activation, **keys}


def conv(out: int, kernel: Any, activation: str = "tanh", **keys: Any) -> dict[str, Any]:
    return {"kind": "conv", "out": out, "kernel": kernel, "activation": activation, **keys}


def norm(activation: str = "identity", epsilon: float = 1e-5) -> dict[str, Any]:
    return {"kind": "layer-norm", "activation": activation, "epsilon": epsilon}


def max_pool(size: Any, **keys: Any) -> dict[str, Any]:
    return {"kind": "max-pool", "size": size, **keys}


FLAT, GLOBAL, MEAN = ({"kind": kind} for kind in ("flatten", "global-mean", "mean-over-positions"))
BATCH_NORM = {"kind": "batch-norm", "mean": [0.1, -0.2, 0.3], "variance": [0.5, 1.5, 2.0], "activation": "logistic"}

EXAMPLES: dict[str, Description] = {
    "vector": ((4,), [dense(5, "tanh"), dense(3, bias=False)]),
    "sequence of outputs": ((3, 4), [dense(5, "softplus"), dense(2, bias=False, activation="tanh"), dense(3)]),
    "mean over positions": ((3, 4), [dense(5, "tanh"), MEAN, dense(3)]),
    "flattened sequence": ((3, 2), [dense(2, "tanh"), FLAT, dense(3)]),
    "convolution": ((1, 5, 6), [conv(2, [3, 2]), FLAT, dense(3)]),
    "two convolutions": (
        (2, 6, 5),
        [conv(3, 3, padding=1, stride=[2, 1]), conv(2, [2, 3], "logistic", bias=False), FLAT, dense(3)],
    ),
    "dilation": (
        (2, 6, 7),
        [conv(3, 2, dilation=[2, 3], padding=[0, 1]), conv(2, 2), GLOBAL, dense(3)],
    ),
    "average pools": (
        (2, 6, 7),
        [
            conv(3, 2),
            {"kind": "average-pool", "size": [2, 3]},
            conv(2, 1, "softplus"),
            {"kind": "average-pool", "size": 2, "stride": 1},
            FLAT,
            dense(3),
        ],
    ),
    "max pools": (
        (2, 6, 7),
        [
            conv(3, 2),
            max_pool(2),
            max_pool(2, stride=1),
            FLAT,
            dense(3),
        ],
    ),
    "pool before all weights": ((2, 4, 4), [max_pool(2), FLAT, dense(3)]),
    "depthwise": (
        (2, 5, 5),
        [
            {"kind": "depthwise-conv", "kernel": 3, "padding": 1, "activation": "tanh"},
            {"kind": "depthwise-conv", "kernel": [2, 1], "stride": 2, "bias": False, "dilation": [2, 1]},
            conv(3, 1),
            GLOBAL,
            dense(3),
        ],
    ),
    "recurrent": ((4, 3), [{"kind": "recurrent", "out": 5}, dense(3)]),
    "recurrent, all steps": (
        (4, 3),
        [
            {"kind": "recurrent", "out": 3, "returns": "all", "bias": False, "activation": "logistic"},
            {"kind": "recurrent", "out": 2, "returns": "all"},
            dense(3),
        ],
    ),
    "layer norm": ((4,), [dense(5), norm("tanh"), dense(3)]),
    "layer norm of a sequence": (
        (3, 4),
        [norm(epsilon=0.1), dense(4, "tanh"), norm(), dense(3)],
    ),
    "norms of an image": (
        (3, 4, 5),
        [
            BATCH_NORM,
            conv(3, 2, "identity"),
            norm("softplus"),
            GLOBAL,
            dense(3),
        ],
    ),
    "batch norm of a vector": ((4,), [dense(3), BATCH_NORM, dense(3)]),
    "residual": (
        (3, 4, 4),
        [
            {"kind": "residual", "layers": [conv(3, 3, padding=1), {"kind": "residual", "layers": [BATCH_NORM]}]},
            GLOBAL,
            {"kind": "residual", "layers": [dense(3, "logistic"), dense(3, "tanh")]},
            dense(3),
        ],
    ),
    "residual at the start of all weights": (
        (3, 2),
        [MEAN, {"kind": "residual", "layers": [dense(2, "tanh")]}, dense(3)],
    ),
    "relu": (
        (2, 5, 5),
        [conv(3, 2, "relu"), max_pool(2), FLAT, dense(4, "relu"), dense(3)],
    ),
}


def made(name: str, likelihood: str = "gaussian") -> Network:
    shape, layers = EXAMPLES[name]
    return Network.of(layers, shape, likelihood)


def parameters(network: Network, seed: int = 0) -> list[np.ndarray]:
    """Glorot's and some noise, so that no bias is 0 and no scale is 1."""
    rng = np.random.default_rng(seed + 1)
    return [W + 0.3 * rng.standard_normal(W.shape) for W in glorot_initialisation(network, seed)]


def random_stack(rng: np.random.Generator) -> Description:
    """A random network: an image or a sequence, some layers of each kind that fits, and a dense layer."""
    activations = ("tanh", "logistic", "softplus", "identity")

    def phi() -> str:
        return str(rng.choice(activations))

    def some(kinds: list[dict[str, Any]]) -> dict[str, Any]:
        return kinds[rng.integers(len(kinds))]

    layers: list[dict[str, Any]] = []
    bias = bool(rng.integers(2))
    if rng.integers(2):
        c, H, W = (int(n) for n in rng.integers((1, 4, 4), (4, 7, 7)))
        shape: tuple[int, ...] = (c, H, W)
        for _ in range(rng.integers(1, 4)):
            side = int(min(H, W))
            k = int(rng.integers(1, min(3, side) + 1))
            block = {"kind": "residual", "layers": [norm(phi()), conv(c, 3, phi(), padding=1, bias=bias)]}
            if not layers:  # layer norm of one channel is 0
                block["layers"] = block["layers"][1:]
            kind = some(
                [conv(2, k, phi(), bias=bias, padding=int(rng.integers(2))), {"kind": "average-pool", "size": k}, block]
            )
            if not layers and kind["kind"] != "conv":
                kind = conv(2, k, phi(), bias=bias)
            layers.append(kind)
            (c, H, W) = _shape(layers, shape)
        layers.append(some([FLAT, GLOBAL]))
    else:
        shape = tuple(int(n) for n in rng.integers((1, 1), (5, 4)))
        out = int(rng.integers(2, 5))
        layers.append(
            some([dense(out, phi(), bias=bias), {"kind": "recurrent", "out": out, "returns": "all", "bias": bias}])
        )
        layers.append({"kind": "residual", "layers": [norm(), dense(out, phi())]})
        layers += some([[], [MEAN], [FLAT], [{"kind": "recurrent", "out": 3}]])  # type: ignore[list-item]
    layers.append(dense(int(rng.integers(2, 4)), bias=bias))
    return shape, layers


def _shape(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> tuple[int, ...]:
    from autodiff.layers import built

    return list(built(layers, shape))[-1].output
