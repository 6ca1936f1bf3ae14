"""Networks with each kind of layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import Network
from autodiff.initialisation import glorot_initialisation
from validation.theorems.stacks import Description, conv, dense


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
