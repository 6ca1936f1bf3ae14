"""Cases on which posteriors of others are compared with ours, and ours by the others' conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from autodiff.network import Network
from autodiff.passes import ForwardPass
from kfac_ref import posterior
from kfac_ref.curvature import factors
from kfac_ref.curvature.factors import Factors
from kfac_ref.posterior import Posterior

PRIOR_PRECISION = 0.7


@dataclass(frozen=True)
class PosteriorCase:
    """A network, its parameters and data, and of which posterior it is."""

    name: str
    layers: Sequence[Mapping[str, Any]]
    input: tuple[int, ...]
    likelihood: str
    seed: int
    options: Mapping[str, str] = field(default_factory=dict)
    """Arguments of `posterior.fit`: fisher, layers, damping."""
    noise_variance: float = 1.0

    @property
    def network(self) -> Network:
        return Network.of(self.layers, self.input, self.likelihood)

    def _rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, part])

    @property
    def parameters(self) -> list[np.ndarray]:
        rng = self._rng(0)
        return [1.5 / np.sqrt(shape[1]) * rng.standard_normal(shape) for shape in self.network.shapes]

    @property
    def X(self) -> np.ndarray:
        return self._rng(1).standard_normal((17, *self.input))

    @property
    def Y(self) -> np.ndarray:
        rng, outputs = self._rng(2), self.network.outputs
        if self.likelihood == "categorical":
            return np.eye(outputs)[rng.integers(outputs, size=17)]
        return rng.standard_normal((17, outputs))

    @property
    def X_new(self) -> np.ndarray:
        return 2 * self._rng(3).standard_normal((6, *self.input))


def dense(*widths: int, bias: bool) -> list[dict[str, Any]]:
    """A tanh network."""
    layers = [{"kind": "dense", "out": d, "activation": "tanh", "bias": bias} for d in widths]
    layers[-1]["activation"] = "identity"
    return layers


CONV: list[dict[str, Any]] = [
    {"kind": "conv", "out": 3, "kernel": [3, 3], "activation": "tanh", "bias": True},
    {"kind": "flatten"},
    *dense(4, 3, bias=True),
]
NO_BIAS = dense(5, 4, 3, bias=False)
CASES = (
    PosteriorCase("classes", dense(5, 4, 3, bias=True), (4,), "categorical", 1),
    PosteriorCase("classes, no biases", NO_BIAS, (4,), "categorical", 2),
    PosteriorCase("classes, factored", NO_BIAS, (4,), "categorical", 3, {"damping": "factored"}),
    PosteriorCase("classes, empirical", NO_BIAS, (4,), "categorical", 4, {"fisher": "empirical"}),
    PosteriorCase("classes, last layer", dense(5, 4, 3, bias=True), (4,), "categorical", 5, {"layers": "last"}),
    PosteriorCase("regression", dense(6, 2, bias=True), (3,), "gaussian", 6, noise_variance=0.3),
    PosteriorCase("convolution", CONV, (2, 5, 5), "categorical", 7),
)


def separate_bias(found: Factors, network: Network) -> Factors:
    """With Ā's products of the bias with other inputs put to 0: Ā⊗G is then one block for W and another, G, for b."""
    A = dict(found.A)
    for i, layer in enumerate(network.weighted, start=1):
        if getattr(layer, "bias", False):
            A[i - 1, i - 1] = block = A[i - 1, i - 1].copy()
            block[:-1, -1] = block[-1, :-1] = 0
    return Factors(A, found.G, full=found.full)


def lopsided(found: Factors, cases: int) -> Factors:
    """Ā/√N and √N G."""
    A = {index: block / sqrt(cases) for index, block in found.A.items()}
    return Factors(A, {index: block * sqrt(cases) for index, block in found.G.items()}, full=found.full)


def posterior_of(case: PosteriorCase) -> Posterior:
    """Ours, of laplace-torch's convention."""
    network, W, X, Y = case.network, case.parameters, case.X, case.Y
    options: dict[str, Any] = dict(case.options)
    N = len(X)
    forward_pass = ForwardPass(network, W, X)
    empirical = options.pop("fisher", "exact") == "empirical"
    found = factors.empirical(forward_pass, Y) if empirical else factors.exact(forward_pass)
    found = separate_bias(found, network)
    if options.get("damping") == "factored":
        found = lopsided(found, N)
    plain = posterior.fit(network, W, X, Y, PRIOR_PRECISION, noise_variance=case.noise_variance)
    options["noise_variance"] = case.noise_variance
    return posterior.from_factors(network, W, found, N, plain.loss, PRIOR_PRECISION, **options)


def ours(case: PosteriorCase) -> dict[str, Any]:
    """What we compute of the case."""
    p = posterior_of(case)
    predicted = posterior.outputs(p, case.X_new)
    found = {
        "outputs": predicted.z,
        "covariance": predicted.covariance,
        "log_likelihood": posterior.log_likelihood(p),
        "log_evidence": posterior.log_evidence(p),
    }
    return found | ({"probit": posterior.probit(p, predicted)} if case.likelihood == "categorical" else {})


def compared(mine: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, float]:
    """Largest difference of each quantity, relative to its largest entry."""
    return {
        name: float(np.max(np.abs(np.asarray(mine[name]) - value)) / np.max(np.abs(value)))
        for name, value in others.items()
    }
