"""The transformed network of Theorem 1, and the rules by which what belongs to a network transforms (§10, Lemma 5).

s†_i = W†_i ā†_{i−1}, ā†_i = Ω_i φ̄_i(Φ_i s†_i), ā†_0 = Ω_0 ā_0, computes the same function as s_i = W_i ā_{i−1},
a_i = φ_i(s_i) where W_i = Φ_i W†_i Ω_{i−1} = ζ(θ†)_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from autodiff import Affine, Likelihood, Network
from autodiff.arrays import append_ones
from autodiff.network import Parameters
from kfac_ref.curvature.factors import Factors


@dataclass(frozen=True)
class Reparameterisation:
    """Ω_0 … Ω_{ℓ−1} and Φ_1 … Φ_ℓ; Ω_ℓ is I."""

    Omega: Sequence[np.ndarray]
    """(d_i+1, d_i+1), invertible, the homogeneous coordinate last."""
    Phi: Sequence[np.ndarray]
    """(d_i, d_i), invertible."""

    def zeta(self, V: Parameters) -> Parameters:
        """ζ: Φ_i V†_i Ω_{i−1}, from the transformed network to the original: parameters or, as ζ is linear, updates."""
        return [Phi @ v @ Omega for Phi, v, Omega in zip(self.Phi, V, self.Omega, strict=True)]

    def zeta_inverse(self, V: Parameters) -> Parameters:
        """ζ⁻¹: Φ_i⁻¹ V_i Ω_{i−1}⁻¹."""
        layers = zip(self.Phi, V, self.Omega, strict=True)
        return [np.linalg.solve(Phi, np.linalg.solve(Omega.T, v.T).T) for Phi, v, Omega in layers]

    def gradient(self, V: Parameters) -> Parameters:
        """Lemma 5, of ∇h: Φ_iᵀ V_i Ω_{i−1}ᵀ, from the original network to the transformed."""
        return [Phi.T @ v @ Omega.T for Phi, v, Omega in zip(self.Phi, V, self.Omega, strict=True)]

    def factors(self, factors: Factors) -> Factors:
        """Lemma 5, of the factors: Ω_i Ā_{i,j} Ω_jᵀ and Φ_iᵀ G_{i,j} Φ_j."""
        A = {(i, j): self.Omega[i] @ block @ self.Omega[j].T for (i, j), block in factors.A.items()}
        G = {(i, j): self.Phi[i - 1].T @ block @ self.Phi[j - 1] for (i, j), block in factors.G.items()}
        return Factors(A, G)

    def inputs(self, X: np.ndarray) -> np.ndarray:
        """x† of ā†_0 = Ω_0 ā_0, Ω_0 being affine, from x (N, d_0)."""
        return (append_ones(X) @ self.Omega[0].T)[:, :-1]

    def outputs(self, z: np.ndarray) -> np.ndarray:
        """z = Φ_ℓ z† from z† (N, d_ℓ)."""
        return z @ self.Phi[-1].T

    def network(self, network: Network) -> Network:
        """The transformed network: its activations are affine reparameterisations, and so is its likelihood.

        Raises
        ------
        ValueError
            If an Ω_i is not affine: its last row is to be [0 … 0 1].
        """
        for i, Omega in enumerate(self.Omega):
            if np.any(Omega[-1] != np.eye(len(Omega))[-1]):
                raise ValueError(f"Omega_{i} has the last row {Omega[-1]}, expected [0 … 0 1] as for an affine one")
        hidden = zip(network.activations[:-1], self.Omega[1:], self.Phi[:-1], strict=True)
        activations = [Affine(phi, Omega[:-1, :-1], Omega[:-1, -1], Phi) for phi, Omega, Phi in hidden]
        return Network(network.sizes, activations, reparameterised(network.likelihood, self.Phi[-1]))

    @property
    def condition(self) -> float:
        """The condition number of ζ, whose matrix is diag(Ω_{i−1}ᵀ ⊗ Φ_i)."""
        spectra = [np.linalg.svd(Omega, compute_uv=False) for Omega in self.Omega]
        values = [np.outer(s, np.linalg.svd(Phi, compute_uv=False)) for s, Phi in zip(spectra, self.Phi, strict=True)]
        return float(max(v.max() for v in values) / min(v.min() for v in values))


# --- the output layer ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReparameterisedLikelihood(Likelihood):
    """R_{y|Φz†}: Φ_ℓ belongs to the likelihood, as it owns what is done to the outputs.

    The "error" of a network with it means nothing, as 𝒟z† is not E[y|z] − y.
    """

    Phi: np.ndarray = field(kw_only=True)

    def derivative(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """𝒟z† = Φᵀ 𝒟z."""
        return super().derivative(z, y) @ self.Phi


def reparameterised(base: Likelihood, Phi: np.ndarray) -> Likelihood:
    """The likelihood of the outputs z† with z = Φz†; `base` itself where Φ is I."""
    if np.array_equal(Phi, np.eye(len(Phi))):
        return base
    same = {f.name: getattr(base, f.name) for f in fields(Likelihood)}
    changed = {
        "loss": lambda z, y: base.loss(z @ Phi.T, y),
        "mean": lambda z: base.mean(z @ Phi.T),
        "fisher_product": lambda z, v: base.fisher_product(z @ Phi.T, v @ Phi.T) @ Phi,
        "fisher_root_product": lambda z, v: base.fisher_root_product(z @ Phi.T, v) @ Phi,
        "sample_with": lambda z, noise: base.sample_with(z @ Phi.T, noise),
    }
    return ReparameterisedLikelihood(**same | changed, Phi=Phi)


# --- transformations -------------------------------------------------------------------------------------------------


def identity(network: Network) -> Reparameterisation:
    """The one that changes nothing."""
    return Reparameterisation([np.eye(d + 1) for d in network.sizes[:-1]], [np.eye(d) for d in network.sizes[1:]])


def affine(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Ω = [[`linear`, `shift`], [0, 1]] for (d, d) and (d,)."""
    return np.block([[linear, shift[:, None]], [np.zeros((1, len(shift))), np.ones((1, 1))]])


def random(network: Network, rng: np.random.Generator, general: bool = False) -> Reparameterisation:
    """Ω and Φ with singular values in [½, 2]: Ω affine, with normal shifts, or with `general` not."""
    Omega = [
        _random_matrix(rng, d + 1) if general else affine(_random_matrix(rng, d), rng.standard_normal(d))
        for d in network.sizes[:-1]
    ]
    return Reparameterisation(Omega, [_random_matrix(rng, d) for d in network.sizes[1:]])


def of_inputs(network: Network, linear: np.ndarray, shift: np.ndarray) -> Reparameterisation:
    """x† = `linear` x + `shift`, and nothing else."""
    plain = identity(network)
    return Reparameterisation([affine(linear, shift), *plain.Omega[1:]], plain.Phi)


def logistic_to_tanh(network: Network) -> Reparameterisation:
    """From logistic hidden units to tanh: tanh(s) = 2 logistic(2s) − 1, so Ω = [[2I, −1], [0, 1]] and Φ = 2I.

    The transformed network is the one with "tanh" itself in the place of "logistic".
    """
    plain, hidden = identity(network), network.sizes[1:-1]
    Omega = [plain.Omega[0], *(affine(2 * np.eye(d), -np.ones(d)) for d in hidden)]
    return Reparameterisation(Omega, [*(2 * np.eye(d) for d in hidden), plain.Phi[-1]])


def whitening(factors: Factors) -> Reparameterisation:
    """Affine Ω_i that centre and whiten the activities, so that Ω Ā Ωᵀ = I, and Φ_i = G_{i,i}^{−½} (Corollary 3)."""
    Omega = []
    for i in range(factors.layers):
        second, mean = factors.A[i, i][:-1, :-1], factors.A[i, i][:-1, -1]
        root = inverse_symmetric_root(second - np.outer(mean, mean))
        Omega.append(affine(root, -root @ mean))
    return Reparameterisation(Omega, square_roots(factors).Phi)


def square_roots(factors: Factors) -> Reparameterisation:
    """Ω_i = Ā_{i,i}^{−½} and Φ_i = G_{i,i}^{−½}, symmetric, as Corollary 3 has them; these Ω are not affine."""
    layers = range(factors.layers)
    return Reparameterisation(
        [inverse_symmetric_root(factors.A[i, i]) for i in layers],
        [inverse_symmetric_root(factors.G[i + 1, i + 1]) for i in layers],
    )


def inverse_symmetric_root(S: np.ndarray) -> np.ndarray:
    """S^{−½} of a symmetric positive definite S, symmetric itself."""
    values, vectors = np.linalg.eigh(S)
    return (vectors / np.sqrt(values)) @ vectors.T


def _random_matrix(rng: np.random.Generator, n: int) -> np.ndarray:
    (U, _), (V, _) = (np.linalg.qr(rng.standard_normal((n, n))) for _ in range(2))
    return (U * 2 ** rng.uniform(-1, 1, n)) @ V
