"""A Hypothesis strategy: a network of any layers from its description, its parameters and a batch, in float64.

They are to find faults: every kind of layer with every key, kinks and ties and odd geometry. Those of
`validation.theorems.stacks` are to show that statements hold: smooth, and so small that F can be formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from autodiff import Network
from tests.conftest import random_parameters, random_targets
from tests.naive_layers import PHI, Naive
from tests.strategies import Problem

Shape = tuple[int, ...]
NAMES = sorted(PHI)

KINDS = {
    1: ("dense", "layer-norm", "batch-norm", "flatten"),
    2: ("dense", "layer-norm", "batch-norm", "recurrent", "recurrent", "flatten", "mean-over-positions"),
    3: (
        *("conv", "conv", "conv", "depthwise-conv", "depthwise-conv", "layer-norm", "batch-norm"),
        *("average-pool", "average-pool", "max-pool", "max-pool", "global-mean", "flatten"),
    ),
}
"""Of layers that take a vector, a sequence or an image."""
SAME = {
    1: ("dense", "layer-norm", "batch-norm", "flatten"),
    2: ("dense", "layer-norm", "batch-norm", "recurrent"),
    3: ("conv", "depthwise-conv", "layer-norm", "batch-norm", "average-pool", "max-pool"),
}
"""Those of them that can give the shape that they take."""
WEIGHTED = ("dense", "conv", "depthwise-conv", "recurrent", "layer-norm", "batch-norm")


@dataclass(repr=False)
class Stack(Problem):
    """A problem with the description of its network, and the outputs z (m, *output) by the naive implementation."""

    description: list[dict[str, Any]]
    z: np.ndarray


@st.composite
def stacks(draw, max_layers: int = 4, max_cases: int = 3) -> Stack:
    """1 to 6 layers of all kinds, residual blocks in each other too, on vectors, sequences or images; any likelihood.

    Hypothesis chooses at most how many layers and cases there are, and the seed of a generator from which all else is
    drawn: its own choices from a list favour the first, and then some kinds hardly come up. Networks that come near to
    the kink of a relu or to a tie in a window are left out, as there is nothing to difference there; and where a
    variance in a layer normalisation is near 0, as derivatives of all orders are large there.
    """
    most = draw(st.integers(1, max_layers), label="layers")
    m = draw(st.integers(1, max_cases), label="cases")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    shape = input_ = [
        (_whole(rng, 1, 5),),
        (_whole(rng, 1, 4), _whole(rng, 1, 4)),
        (_whole(rng, 1, 3), _whole(rng, 1, 6), _whole(rng, 1, 6)),
    ][rng.choice(3, p=[0.2, 0.3, 0.5])]
    description: list[dict[str, Any]] = []
    for _ in range(_whole(rng, most // 2, most)):
        layer, shape = _layer(rng, shape)
        description.append(layer)
    ending, shape = _end(rng, shape)
    description += ending
    likelihood = _one(rng, ("bernoulli", "categorical", "gaussian"))
    network = Network.of(description, input_, likelihood)
    W = random_parameters(rng, network, _one(rng, (0.5, 1.0, 2.0)))
    X = rng.standard_normal((m, *input_))
    runs = [Naive(W) for _ in X]
    z = np.stack([run.through(description, x) for run, x in zip(runs, X, strict=True)])
    assume(min(run.kink for run in runs) > 2e-3)
    positions = prod(shape[:-1])
    Y = random_targets(rng, likelihood, m * positions, shape[-1]).reshape(m, -1)
    return Stack(network, W, X, Y, rng, description, z)


def _one(rng, choices):
    return choices[rng.integers(len(choices))]


def _whole(rng, least: int, most: int) -> int:
    return int(rng.integers(least, most + 1))


def _layer(rng, shape: Shape, same: bool = False, depth: int = 0, last: bool = False) -> tuple[dict[str, Any], Shape]:
    """A layer for an input of `shape`, and its output's shape. With `same` that is `shape`; `last` has weights and no
    activation."""
    kinds = (SAME if same else KINDS)[len(shape)]
    if last:
        kinds = tuple(kind for kind in kinds if kind in WEIGHTED)
    elif depth < 2 and rng.random() < 0.2:
        inner = [_layer(rng, shape, same=True, depth=depth + 1)[0] for _ in range(_whole(rng, 1, 3))]
        return {"kind": "residual", "layers": inner}, shape
    kind, units = _one(rng, kinds), shape[0] if len(shape) == 3 else shape[-1]
    keys: dict[str, Any] = {}
    if kind in WEIGHTED:
        keys["activation"] = "identity" if last else _one(rng, NAMES)
    if kind in ("dense", "conv", "depthwise-conv", "recurrent"):
        keys["bias"] = bool(rng.random() < 0.7)
    if kind in ("dense", "conv", "recurrent"):
        keys["out"] = units if same else _whole(rng, 1, 4)
    if kind == "layer-norm":
        keys["epsilon"] = _one(rng, (1e-5, 0.1))
    if kind == "batch-norm":
        keys["mean"], keys["variance"] = rng.standard_normal(units).tolist(), rng.uniform(0.5, 2, units).tolist()
    output = shape
    if kind == "dense":
        output = (*shape[:-1], keys["out"])
    elif kind == "recurrent":
        keys["returns"] = "all" if same else _one(rng, ("last", "all"))
        output = (keys["out"],) if keys["returns"] == "last" else (shape[0], keys["out"])
    elif kind in ("conv", "depthwise-conv"):
        output = (keys.get("out", units), *_window(rng, keys, shape[1:], same))
    elif kind in ("average-pool", "max-pool"):
        output = (units, *_pool(rng, keys, shape[1:], same))
    elif kind == "flatten":
        output = (prod(shape),)
    elif kind in ("global-mean", "mean-over-positions"):
        output = (units,)
    return {"kind": kind, **keys}, output


def _window(rng, keys: dict[str, Any], image: Shape, same: bool) -> Shape:
    """Puts the geometry of a convolution among its keys; (H′, W′)."""
    if same:
        radius, dilation = [_whole(rng, 0, 1) for _ in image], [_whole(rng, 1, 2) for _ in image]
        keys["kernel"], keys["dilation"] = [2 * r + 1 for r in radius], dilation
        keys["padding"] = [r * d for r, d in zip(radius, dilation, strict=True)]
        return image
    sides = []
    for n in image:
        padding = _one(rng, (0, 0, 1, 2))
        kernel = _whole(rng, 1, min(3, n + 2 * padding))
        dilation = _whole(rng, 1, 3 if kernel == 1 else min(3, (n + 2 * padding - 1) // (kernel - 1)))
        sides.append((kernel, _one(rng, (1, 1, 2, 3)), padding, dilation))
    keys |= dict(zip(("kernel", "stride", "padding", "dilation"), map(list, zip(*sides, strict=True)), strict=True))
    placed = [range(0, n + 2 * p - d * (k - 1), s) for n, (k, s, p, d) in zip(image, sides, strict=True)]
    return tuple(map(len, placed))


def _pool(rng, keys: dict[str, Any], image: Shape, same: bool) -> Shape:
    """Puts size and stride of a pool among its keys; (H′, W′)."""
    if same:
        keys["size"] = [1, 1]
        return image
    keys["size"] = stride = [_whole(rng, 1, min(3, n)) for n in image]
    if rng.random() < 0.5:
        keys["stride"] = stride = [_whole(rng, 1, 3) for _ in image]
    return tuple(len(range(0, n - k + 1, s)) for n, k, s in zip(image, keys["size"], stride, strict=True))


def _end(rng, shape: Shape) -> tuple[list[dict[str, Any]], Shape]:
    """Layers that make a vector or a sequence of `shape` and end as a network may, and the shape behind them."""
    layers: list[dict[str, Any]] = []
    if len(shape) == 3:
        kind = _one(rng, ("flatten", "global-mean"))
        layers.append({"kind": kind})
        shape = (prod(shape),) if kind == "flatten" else shape[:1]
    layer, behind = _layer(rng, shape, last=True)
    residual = behind == shape and rng.random() < 0.3
    layers.append({"kind": "residual", "layers": [layer]} if residual else layer)
    if len(behind) == 2 and rng.random() < 0.3:
        layers.append({"kind": "mean-over-positions"})
        behind = behind[1:]
    return layers, behind
