"""Random networks of layers with shared weights: convolutions, pools, sequences, norms, residual blocks.

Statements are shown on them, so they are smooth, and so small that F can be formed. Those on which faults are looked
for, of every kind with every key, are made by the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from autodiff import Network
from autodiff.layers import built
from autodiff.network import Parameters
from autodiff.passes import ForwardPass
from validation.theorems.statement import Instance

ACTIVATIONS = ("tanh", "logistic", "softplus", "identity")
Description = tuple[tuple[int, ...], list[dict[str, Any]]]
"""The shape of a case, and the layers."""


def dense(out: int, activation: str = "identity", **keys: Any) -> dict[str, Any]:
    """A dense layer's description."""
    return {"kind": "dense", "out": out, "activation": activation, **keys}


def conv(out: int, kernel: Any, activation: str = "tanh", **keys: Any) -> dict[str, Any]:
    """A convolution's description."""
    return {"kind": "conv", "out": out, "kernel": kernel, "activation": activation, **keys}


def random_stack(rng: np.random.Generator) -> Description:
    """An image or a sequence, some layers of each kind that fits, and a dense layer."""
    bias = bool(rng.integers(2))
    shape, layers = _of_an_image(rng, bias) if rng.integers(2) else _of_a_sequence(rng, bias)
    return shape, [*layers, dense(int(rng.integers(2, 4)), bias=bias)]


def _phi(rng: np.random.Generator) -> str:
    return str(rng.choice(ACTIVATIONS))


def _one_of(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def _of_an_image(rng: np.random.Generator, bias: bool) -> Description:
    c, H, W = (int(n) for n in rng.integers((1, 4, 4), (4, 7, 7)))
    shape, layers = (c, H, W), [conv(2, int(rng.integers(1, 4)), _phi(rng), bias=bias)]
    for _ in range(rng.integers(3)):
        c, H, W = list(built(layers, shape))[-1].output
        k = int(rng.integers(1, min(3, H, W) + 1))
        norm = {"kind": "layer-norm", "activation": _phi(rng)}
        block = {"kind": "residual", "layers": [norm, conv(c, 3, _phi(rng), padding=1, bias=bias)]}
        padded = conv(2, k, _phi(rng), bias=bias, padding=int(rng.integers(2)))
        layers.append(_one_of(rng, padded, {"kind": "average-pool", "size": k}, block))
    return shape, [*layers, {"kind": _one_of(rng, "flatten", "global-mean")}]


def _of_a_sequence(rng: np.random.Generator, bias: bool) -> Description:
    shape = tuple(int(n) for n in rng.integers((1, 1), (5, 4)))
    out = int(rng.integers(2, 5))
    steps = {"kind": "recurrent", "out": out, "returns": "all", "bias": bias}
    block = {"kind": "residual", "layers": [{"kind": "layer-norm"}, dense(out, _phi(rng))]}
    ends = [[], [{"kind": "mean-over-positions"}], [{"kind": "flatten"}], [{"kind": "recurrent", "out": 3}]]
    return shape, [_one_of(rng, dense(out, _phi(rng), bias=bias), steps), block, *_one_of(rng, *ends)]


@dataclass(frozen=True)
class Stack:
    """A network of layers with shared weights at one point, with data, as an instance's seed and likelihood make it."""

    instance: Instance
    description: Description

    @classmethod
    def random(cls, instance: Instance) -> Stack:
        """A random stack of kinds."""
        return cls(instance, random_stack(instance.rng(3)))

    @cached_property
    def network(self) -> Network:
        return Network.of(self.description[1], self.description[0], self.instance.likelihood)

    @cached_property
    def parameters(self) -> Parameters:
        rng = self.instance.rng(0)
        return [rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in self.network.shapes]

    @cached_property
    def X(self) -> np.ndarray:
        """(N, *input), standard normal."""
        return self.instance.rng(1).standard_normal((self.instance.cases, *self.network.input))

    @property
    def forward_pass(self) -> ForwardPass:
        return ForwardPass(self.network, self.parameters, self.X)
