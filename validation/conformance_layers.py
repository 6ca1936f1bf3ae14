"""Conformance vectors with other layers than dense ones on vectors, and a captured one; see `make_conformance`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autodiff.network import Network
from autodiff.passes import forward
from kfac_ref.curvature import damping, factors, inverses, kronecker
from kfac_ref.oracle import CapturedCase, CapturedLayer, Case
from kfac_ref.oracle.captured import AnyCase
from kfac_ref.oracle.references import References


@dataclass(frozen=True)
class LayeredRecipe:
    """A case to be made."""

    about: str
    """What is special about it."""
    input: Sequence[int]
    layers: list[dict[str, Any]]
    likelihood: str
    cases: int
    captured: bool = False
    """Whether it is of the layers with weights alone, as another framework would hand them over."""
    constants: dict[str, Any] = field(default_factory=dict)


def _dense(out: int, activation: str = "identity", **keys: Any) -> dict[str, Any]:
    return {"kind": "dense", "out": out, "activation": activation, **keys}


def _conv(out: int, kernel: tuple[int, int], **keys: Any) -> dict[str, Any]:
    return {"kind": "conv", "out": out, "kernel": list(kernel), **keys}


RECIPES = {
    "convolution": LayeredRecipe(
        "a convolution with padding and a stride that differs along the axes; T is 8, and the input has 12 pixels",
        (2, 4, 3),
        [_conv(2, (3, 2), stride=[2, 1], padding=[1, 1], activation="tanh"), {"kind": "flatten"}, _dense(2)],
        "categorical", 8, constants={"gamma": 0.2, "lam": 0.03, "eta": 0.001},
    ),
    "without-bias": LayeredRecipe(
        "layers without a bias: no homogeneous coordinate, W_i has a column fewer",
        (1, 4, 4),
        [_conv(3, (2, 2), bias=False, activation="softplus"), _conv(2, (2, 2), bias=False, activation="tanh"),
         {"kind": "global-mean"}, _dense(3, bias=False)],
        "bernoulli", 9, constants={"gamma": 0.1},
    ),
    "sequence-mean": LayeredRecipe(
        "dense layers at each position of a sequence, and a mean over positions before the last",
        (4, 3), [_dense(3, "tanh"), _dense(4, "softplus"), {"kind": "mean-over-positions"}, _dense(2)],
        "gaussian", 10, constants={"lam": 0.05, "eta": 0.01},
    ),
    "sequence-positions": LayeredRecipe(
        "outputs and targets at each position: L is the sum over positions, and Y is (N, R C), position after position",
        (3, 2), [_dense(4, "tanh"), _dense(3)], "categorical", 7, constants={"gamma": 0.2},
    ),
    "layer-norm": LayeredRecipe(
        "a layer normalisation between dense layers: no Kronecker factors, its whole block is inverted",
        (5,), [_dense(4), {"kind": "layer-norm", "epsilon": 0.001, "activation": "tanh"}, _dense(3)],
        "categorical", 11, constants={"gamma": 0.3},
    ),
    "batch-norm": LayeredRecipe(
        "a batch normalisation with given statistics, behind a convolution",
        (1, 4, 4),
        [_conv(3, (2, 3)),
         {"kind": "batch-norm", "mean": [0.1, -0.2, 0.3], "variance": [0.5, 1.5, 0.8], "epsilon": 0.001,
          "activation": "tanh"},
         {"kind": "global-mean"}, _dense(2)],
        "gaussian", 9, constants={"gamma": 0.15},
    ),
    "residual": LayeredRecipe(
        "a residual block of two dense layers at each position",
        (4, 3),
        [_dense(3, "tanh"), {"kind": "residual", "layers": [_dense(4, "tanh"), _dense(3)]},
         {"kind": "mean-over-positions"}, _dense(2)],
        "categorical", 8, constants={"gamma": 0.1},
    ),
    "recurrent": LayeredRecipe(
        "a recurrent layer whose last state goes on: rows are [x_t; h_{t-1}; 1]",
        (5, 2), [{"kind": "recurrent", "out": 3, "activation": "tanh"}, _dense(2)],
        "bernoulli", 8, constants={"gamma": 0.2},
    ),
    "captured": LayeredRecipe(
        "a captured case: of a convolution, a normalisation and a dense layer only rows a_i and derivatives g_i are "
        "there, rounded, so that they are of no network; what takes the whole network is left out",
        (1, 4, 3),
        [_conv(2, (2, 2), stride=[2, 1], activation="tanh"), {"kind": "layer-norm", "epsilon": 0.1},
         {"kind": "flatten"}, _dense(3)],
        "categorical", 6, captured=True, constants={"gamma": 0.25},
    ),
}  # fmt: skip


def make(name: str) -> AnyCase:
    """The case called so."""
    recipe = RECIPES[name]
    rng = np.random.default_rng(list(name.encode()))
    network = Network.of(recipe.layers, recipe.input, recipe.likelihood)
    N, shape = recipe.cases, (recipe.cases, *network.output)

    def numbers(of: Sequence[int], scale: float = 1.0) -> np.ndarray:
        return np.round(scale * rng.standard_normal(of), 3)

    W = [numbers(of, 1.5 / math.sqrt(of[1])) for of in network.shapes]
    X = numbers((N, *recipe.input))
    Y = {
        "categorical": np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])],
        "bernoulli": np.round(rng.random(shape), 3),
        "gaussian": numbers(shape),
    }[recipe.likelihood].reshape(N, -1)
    z = np.asarray(forward(network, W, X).z)
    sampled = np.asarray(network.likelihood.sample(z, list(name.encode()))).round(3)
    if not recipe.captured:
        V = [numbers(of) for of in network.shapes]
        return Case(network, W, X, Y, V=V, sampled=sampled, **recipe.constants)
    references, layers = References(Case(network, W, X, Y)), []
    for i in range(1, network.layers + 1):
        g, x = np.round(references.jacobians[i - 1], 3), references.normalised(i)
        if x is None:
            rows = references.rows(i)
            bias = references.bias(i)
            layers.append(CapturedLayer(np.round(rows[..., : rows.shape[2] - bias], 3), g, bias))
        else:
            layers.append(CapturedLayer(np.round(x, 3), g, kind="normalisation"))
    return CapturedCase(recipe.likelihood, z.round(3), Y, layers, sampled=sampled, **recipe.constants)


def inverse(case: AnyCase, tridiagonal: bool = False) -> np.ndarray:
    """F̆⁻¹ or F̂⁻¹, dense, from what it makes of each parameter alone."""
    exact = factors.exact(case.forward_pass)
    gamma = case.gamma_used
    assert gamma is not None
    F_0 = inverses.invert(exact, damping.factorise(exact, gamma), tridiagonal)
    columns = np.eye(sum(d * p for d, p in case.network.shapes))
    shapes = case.network.shapes
    return np.stack([kronecker.flatten(F_0.apply(kronecker.unflatten(v, shapes))) for v in columns], axis=1)
