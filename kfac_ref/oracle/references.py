"""The oracle's own matrices for a case, on the host in float64: what somebody else's numbers are compared with."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

import numpy as np

from autodiff import objective, passes
from autodiff.arrays import Array, to_numpy
from autodiff.passes import Activities
from kfac_ref.curvature import block_tridiagonal, damping, ekfac, factors, fisher
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.factors import Factors
from kfac_ref.oracle.case import Case
from kfac_ref.oracle.expressions import Symbols

FISHERS = {"exact": "exact", "empirical": "empirical", "sampled": "monte-carlo"}
"""Which targets a Fisher is of (the model's in expectation, the data's, those the case gives as sampled), and what it
is called in a verdict."""


def dear(kind: str) -> float:
    """How far-fetched it is that a Fisher is of these targets."""
    return 0.0 if kind == "exact" else 0.4


def on_host(case: Case) -> Case:
    """The same case in NumPy and float64."""

    def move(x: Array) -> np.ndarray:
        return to_numpy(x).astype(np.float64)

    return replace(
        case,
        parameters=[move(W) for W in case.parameters],
        X=move(case.X),
        Y=move(case.Y),
        V=None if case.V is None else [move(v) for v in case.V],
        sampled=None if case.sampled is None else move(case.sampled),
    )


class References:
    """Lazily, everything that hypotheses are made of. Layers count from 1; N and C are cases and outputs."""

    def __init__(self, case: Case) -> None:
        self.case = on_host(case)
        self.network = self.case.network
        self.layers = self.network.layers
        self._diagonals: dict[tuple[str, str], list[np.ndarray]] = {}
        self._inverses: dict[object, BlockTridiagonalInverse | None] = {}
        self._bases: dict[str, ekfac.Eigenbasis] = {}
        self._dense: dict[object, np.ndarray] = {}

    def require_finite(self) -> None:
        """ValueError naming the first of the case's gradients and factors that is not finite in float64."""
        for i in range(1, self.layers + 1):
            parts = {f"gradient_{i}": self.regularised[i - 1], f"A_{i - 1}": self.A(i)}
            for name, x in (parts | {f"G_{i}": self.G(i, kind) for kind in self.kinds}).items():
                if not np.all(np.isfinite(x)):
                    raise ValueError(
                        f"the case's own {name} is not finite in float64, so nothing can be compared with it"
                    )

    @property
    def cases(self) -> int:
        """N."""
        return self.case.cases

    def symbols(self, layer: int | None = None) -> Symbols:
        """What scales may be expressed in: N, C, and a layer's d (outputs) and d_in."""
        sizes, likelihood = self.network.sizes, self.network.likelihood.name
        d, d_in = (1, 1) if layer is None else (sizes[layer], sizes[layer - 1])
        return Symbols(likelihood, self.cases, sizes[-1], d, d_in)

    @cached_property
    def _factors(self) -> dict[str, Factors]:
        forward_pass, case = self.case.forward_pass, self.case
        table = {"exact": factors.exact(forward_pass), "empirical": factors.empirical(forward_pass, case.Y)}
        if case.sampled is not None:
            table["sampled"] = factors.empirical(forward_pass, case.sampled)
        return table

    @property
    def kinds(self) -> list[str]:
        """Those of FISHERS that the case has targets for."""
        return list(self._factors)

    def factors(self, kind: str) -> Factors:
        """All blocks of Ā and G, means over cases."""
        return self._factors[kind]

    def A(self, layer: int) -> np.ndarray:
        """Ā_{i−1,i−1}, (d_{i−1}+1, d_{i−1}+1)."""
        return self._factors["exact"].A[layer - 1, layer - 1]

    def G(self, layer: int, kind: str) -> np.ndarray:
        """G_{i,i}, (d_i, d_i)."""
        return self._factors[kind].G[layer, layer]

    @cached_property
    def gradient(self) -> list[np.ndarray]:
        """The mean of the cases' gradients, without ηθ."""
        return objective.loss_and_gradient(self.case.forward_pass, self.case.Y, 0.0)[1]

    @cached_property
    def regularised(self) -> list[np.ndarray]:
        """∇h."""
        return [g + self.case.eta * W for g, W in zip(self.gradient, self.case.parameters, strict=True)]

    @cached_property
    def gradients(self) -> list[tuple[list[np.ndarray], tuple[str, ...], float]]:
        """The gradients that may have been preconditioned: each up to a factor, with what is to be said of it and how
        far-fetched it is. A loss scaled by s gives s(∇L + (η/s)θ)."""
        table: list[tuple[list[np.ndarray], tuple[str, ...], float]] = [(self.regularised, (), 0.0)]
        eta, C = self.case.eta, self.network.sizes[-1]
        if eta:
            table.append((self.gradient, ("eta*theta left out of the gradient",), 0.5))
            for s in {float(self.cases), 2.0, 1 / C, 2 / C} - {1.0}:
                scaled = [g + eta / s * W for g, W in zip(self.gradient, self.case.parameters, strict=True)]
                table.append((scaled, ("the loss scaled, eta*theta not",), 1.0))
        return table

    @cached_property
    def passed(self) -> Activities:
        """The activities of all cases."""
        return passes.forward(self.network, self.case.parameters, self.case.X)

    @cached_property
    def jacobians(self) -> list[np.ndarray]:
        """dz/ds_i of every case, (d_ℓ, N, d_i) for each layer; where cases have weights times √(N w_n / Σ w_n), so that
        means over cases of what is of second order in them are weighted."""
        C = self.network.sizes[-1]
        units = np.broadcast_to(np.eye(C)[:, None, :], (C, self.cases, C))
        if self.case.weights is not None:
            w = np.asarray(self.case.weights)
            units = units * np.sqrt(self.cases * w / w.sum())[:, None]
        return passes.backward(self.network, self.case.parameters, self.passed, units)

    def block(self, layer: int, kind: str) -> np.ndarray:
        """Layer i's diagonal block of the Fisher, dense."""
        if (layer, kind) not in self._dense:
            targets = self.targets(kind)
            self._dense[layer, kind] = fisher.block(self.case.forward_pass, layer, layer, targets=targets)
        return self._dense[layer, kind]

    def eigenbasis(self, kind: str) -> ekfac.Eigenbasis:
        """The eigenbasis of the factors."""
        if kind not in self._bases:
            self._bases[kind] = ekfac.eigenbasis(self.factors(kind))
        return self._bases[kind]

    def tridiagonal(self, kind: str, gamma: float, norm: str) -> BlockTridiagonalInverse | None:
        """F̂⁻¹ for a γ; None if a damped factor is singular."""
        key = kind, gamma, norm
        if key not in self._inverses:
            damped = damping.factorise(self.factors(kind), gamma, norm)
            good = bool(np.all(damped.pivots > 0))
            self._inverses[key] = block_tridiagonal.invert(self.factors(kind), damped) if good else None
        return self._inverses[key]

    def ekfac_diagonal(self, basis: str, kind: str) -> list[np.ndarray]:
        """EKFAC's diagonal of the Fisher `kind` in the eigenbasis of the factors of `basis`."""
        if (basis, kind) not in self._diagonals:
            targets = self.targets(kind)
            self._diagonals[basis, kind] = ekfac.diagonal(self.case.forward_pass, self.eigenbasis(basis), targets)
        return self._diagonals[basis, kind]

    def fisher(self, kind: str) -> np.ndarray:
        """The dense Fisher, (P, P)."""
        if kind not in self._dense:
            targets, forward_pass = self.targets(kind), self.case.forward_pass
            whole = fisher.dense(forward_pass) if targets is None else fisher.dense_empirical(forward_pass, targets)
            self._dense[kind] = whole
        return self._dense[kind]

    def targets(self, kind: str) -> np.ndarray | None:
        """The targets of a kind; None for the model's own."""
        return {"exact": None, "empirical": self.case.Y, "sampled": self.case.sampled}[kind]

    def dampings(self) -> dict[str, float]:
        """What a case's λ, γ and η give: (λ or λ+η) and γ under their names, those that are known."""
        case, table = self.case, {}
        if case.lam is not None:
            table["lambda"] = case.lam
            if case.eta:
                table["lambda+eta"] = case.lam + case.eta
        if case.gamma is not None and case.damping_used is not None:
            same = [name for name, value in table.items() if math.isclose(math.sqrt(value), case.gamma, rel_tol=1e-12)]
            if case.lam is None:
                table["lambda+eta" if case.eta else "lambda"] = case.gamma**2
            elif not same:
                table["gamma^2"] = case.gamma**2
        return table
