"""The three approximations of the Fisher in one hand, and K-FAC's update with each at a point of a network (§3, §4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autodiff.network import Parameters
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref.curvature import (
    block_diagonal,
    block_tridiagonal,
    damping,
    factors,
    kronecker,
    kronecker_fisher,
    quadratic,
)
from kfac_ref.curvature.damping import DampedFactors
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.quadratic import InnerProducts
from validation.theorems.reparameterisation import Reparameterisation

NOTHING = 1e-12
"""An eigenvalue is taken for 0 below this part of the largest."""


@dataclass(frozen=True)
class Place:
    """What K-FAC knows of a network at a point."""

    factors: Factors
    """All blocks of Ā and G, exact."""
    gradient: Parameters
    """∇h, with η = 0."""

    @classmethod
    def at(cls, forward_pass: ForwardPass, Y: np.ndarray) -> Place:
        """By the library's passes."""
        return cls(factors.exact(forward_pass), loss_and_gradient(forward_pass, Y, 0.0)[1])

    def transformed(self, change: Reparameterisation) -> Place:
        """By the rule of Lemma 5."""
        return Place(change.factors(self.factors), change.gradient(self.gradient))


class Inverse(Protocol):
    """What the library's inverses have in common."""

    def apply(self, V: Parameters) -> Parameters: ...


@dataclass(frozen=True)
class Approximation:
    """F₀, one of F̆, F̂ and F̃."""

    sign: str
    of: Callable[[Factors], Factors]
    """Its factors, from those of F̃."""
    invert: Callable[[Factors, float], Inverse]
    """F₀⁻¹ by the library, from the factors of F̃ and γ."""

    def update(self, place: Place, gamma: float = 0.0) -> Parameters:
        """Δ = −F₀⁻¹∇h."""
        return [-u for u in self.invert(place.factors, gamma).apply(place.gradient)]

    def condition(self, of: Factors) -> float:
        """κ(F₀), of what is not 0 of its spectrum."""
        spectrum = np.linalg.eigvalsh(kronecker_fisher.dense(self.of(of)))
        return float(spectrum[-1] / np.min(spectrum[spectrum > NOTHING * spectrum[-1]]))


APPROXIMATIONS: Mapping[str, Approximation] = {
    "block-diagonal": Approximation(
        "F̆", block_diagonal.approximate, lambda f, gamma: block_diagonal.invert(damping.factorise(f, gamma))
    ),
    "block-tridiagonal": Approximation(
        "F̂", block_tridiagonal.approximate, lambda f, gamma: block_tridiagonal.invert(f, damping.factorise(f, gamma))
    ),
    "full": Approximation("F̃", lambda f: f, lambda f, gamma: kronecker_fisher.invert(damping.damp(f, gamma))),
}


def rescaled(forward_pass: ForwardPass, place: Place, direction: Parameters) -> Parameters:
    """αΔ with the α that minimises M, undamped (§6.4)."""
    products = quadratic.inner_products(forward_pass, place.gradient, [direction], forward_pass.cases)
    alpha = quadratic.minimise(InnerProducts(*products), 0.0, [0]).alpha
    return [alpha * d for d in direction]


def pseudo_root(S: np.ndarray) -> np.ndarray:
    """R (rank, n) with RᵀR = S⁺, for a symmetric positive semi-definite S."""
    values, vectors = np.linalg.eigh(S)
    kept = values > NOTHING * values[-1]
    return vectors[:, kept].T / np.sqrt(values[kept])[:, None]


def pseudo_update(name: str, place: Place) -> Parameters:
    """−F₀⁺∇h, where F₀⁺ has Ā⁺ and G⁺ in place of Ā⁻¹ and G⁻¹; that of F̃ is its pseudo-inverse."""
    if name == "full":
        F = kronecker_fisher.dense(place.factors)
        u = np.linalg.pinv(F, rcond=NOTHING, hermitian=True) @ kronecker.flatten(place.gradient)
        return kronecker.unflatten(-u, [v.shape for v in place.gradient])
    layers = range(1, place.factors.layers + 1)
    A = [pseudo_root(place.factors.A[i - 1, i - 1]) for i in layers]
    G = [pseudo_root(place.factors.G[i, i]) for i in layers]
    roots = DampedFactors(A, G, np.ones((len(A), 2)))
    diagonal = name == "block-diagonal"
    inverse = block_diagonal.invert(roots) if diagonal else block_tridiagonal.invert(place.factors, roots)
    return [-u for u in inverse.apply(place.gradient)]
