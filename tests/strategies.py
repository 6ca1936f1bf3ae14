"""Hypothesis strategies: a network, its parameters and a batch, in NumPy and float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from autodiff import Affine, Network
from tests.conftest import random_affine, random_parameters, random_targets
from tests.dense import PHI, case_forward


@dataclass
class Problem:
    network: Network
    W: list[np.ndarray]
    X: np.ndarray
    Y: np.ndarray
    rng: np.random.Generator

    def direction(self) -> list[np.ndarray]:
        """A random direction of norm 1."""
        v = [self.rng.standard_normal(shape) for shape in self.network.shapes]
        norm = np.sqrt(sum(np.sum(x * x) for x in v))
        return [x / norm for x in v]

    def __repr__(self) -> str:
        return f"{self.network}, {len(self.X)} cases"


@st.composite
def problems(draw, max_layers: int = 5, max_width: int = 8, max_cases: int = 10, affine: bool = True) -> Problem:
    """1 to 5 layers of width 1 to 8, any activations (plain or affinely reparameterised), likelihood and 1 to 10 cases.

    Numbers are drawn from a generator whose seed Hypothesis chooses. Networks with a ReLU within 1e-3 of its kink are
    left out, as there is nothing to difference there.
    """
    layers = draw(st.integers(1, max_layers), label="layers")
    sizes = draw(st.lists(st.integers(1, max_width), min_size=layers + 1, max_size=layers + 1), label="sizes")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    activations = []
    for d in sizes[1:-1]:
        name = draw(st.sampled_from(sorted(PHI)))
        wrapped = affine and draw(st.booleans())
        activations.append(random_affine(rng, name, d) if wrapped else name)
    likelihood = draw(st.sampled_from(["bernoulli", "categorical", "gaussian"]), label="likelihood")
    network = Network(sizes, activations, likelihood)
    W = random_parameters(rng, network, draw(st.sampled_from([0.5, 1.0, 2.0]), label="scale"))
    cases = draw(st.integers(1, max_cases), label="cases")
    X = rng.standard_normal((cases, sizes[0]))
    assume(smallest_relu_input(network, W, X) > 1e-3)
    return Problem(network, W, X, random_targets(rng, likelihood, cases, sizes[-1]), rng)


def smallest_relu_input(network: Network, W: list[np.ndarray], X: np.ndarray) -> float:
    """The smallest |pre-activation| of a ReLU."""
    smallest = np.inf
    for x in X:
        a, _, _ = case_forward(network, W, x)
        for i, phi in enumerate(network.activations[:-1]):
            s, base = W[i] @ a[i], phi
            if isinstance(phi, Affine):
                s, base = phi.Phi @ s, phi.base
            if base.name == "relu":
                smallest = min(smallest, float(np.min(np.abs(s))))
    return smallest
