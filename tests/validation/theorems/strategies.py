"""Hypothesis strategies: instances of a statement's space, their inputs as bad as the statement can stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from validation.theorems.statement import Instance, Space

INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda X: X,
    "one case repeated": lambda X: np.repeat(X[:1], len(X), axis=0),
    "the first 0": lambda X: X * (np.arange(X.shape[1]) > 0),
    "all equal": lambda X: np.repeat(X[:, :1], X.shape[1], axis=1),
    "all 0": np.zeros_like,
    "small": lambda X: 0.01 * X,
}
"""What is made of an instance's X: with most of these the factors are singular."""


@dataclass(frozen=True)
class InstanceWithInputs(Instance):
    """An instance with other inputs."""

    inputs: str = "normal"

    @cached_property
    def X(self) -> np.ndarray:
        return INPUTS[self.inputs](super().X)


@st.composite
def instances(draw, space: Space) -> Instance:
    """Hypothesis picks sizes, activations, likelihood, cases, a seed and what the inputs are like.

    Parameters, data and transformation are drawn from the seed; where the space asks for a condition number, from the
    first of the seeds that follow for which it is admitted. It shrinks to few layers, narrow ones, and few cases.
    """
    layers = draw(st.integers(*space.layers))
    widths = [draw(st.integers(*space.width)) for _ in range(layers)]
    sizes = (*widths, draw(st.integers(*(space.outputs or space.width))))
    activations = tuple(draw(st.sampled_from(space.activations)) for _ in range(layers - 1))
    likelihood, cases = draw(st.sampled_from(space.likelihoods)), draw(st.integers(*space.cases))
    seed = draw(st.integers(0, 2**32 - 1))
    anything = space.condition == math.inf
    inputs = draw(st.sampled_from(list(INPUTS))) if anything else "normal"
    parts = (sizes, activations, likelihood, cases, seed, space.scale)
    drawn = Instance(*parts) if inputs == "normal" else InstanceWithInputs(*parts, inputs)
    instance = space.admitted(drawn)
    return reject() if instance is None else instance
