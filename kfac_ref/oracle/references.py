"""The oracle's own matrices for a case, on the host in float64: what somebody else's numbers are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from autodiff import objective
from autodiff.arrays import Array, to_numpy
from autodiff.layers.convolution import Convolution
from kfac_ref.curvature import damping, ekfac, factors, fisher, inverses
from kfac_ref.curvature.factors import Factors, Kinds
from kfac_ref.curvature.inverses import Inverse
from kfac_ref.oracle.captured import AnyCase, CapturedCase
from kfac_ref.oracle.expressions import Symbols
from kfac_ref.oracle.layouts import Arrangement, arrangements

FISHERS = {"exact": "exact", "empirical": "empirical", "sampled": "monte-carlo"}
"""Which targets a Fisher is of (the model's in expectation, the data's, those the case gives as sampled), and what it
is called in a verdict."""


SHARINGS = {"expand": 0.0, "kfc": 0.1, "reduce": 0.2}
"""Which factors of a layer with T > 1 locations (see `kfac_ref.curvature.factors`), and how far-fetched each is."""


def dear(kind: str) -> float:
    """How far-fetched it is that a Fisher is of these targets."""
    return 0.0 if kind == "exact" else 0.4


def on_host(case: AnyCase) -> AnyCase:
    """The same case in NumPy and float64."""
    if isinstance(case, CapturedCase):
        return case

    def move(x: Array) -> np.ndarray:
        return to_numpy(x).astype(np.float64)

    return replace(
        case,
        parameters=[move(W) for W in case.parameters],
        X=move(case.X),
        Y=move(case.Y),
        V=None if case.V is None else [move(v) for v in case.V],
        sampled=None if case.sampled is None else move(case.sampled),
        weights=None if case.weights is None else move(case.weights),
    )


class References:
    """Lazily, everything that hypotheses are made of. Layers count from 1; N and C are cases and outputs."""

    def __init__(self, case: AnyCase) -> None:
        self.case = on_host(case)
        self.network = self.case.network
        self.layers = self.network.layers
        self.captured = isinstance(self.case, CapturedCase)
        self._factors: dict[tuple[str, str], Factors] = {}
        self._diagonals: dict[tuple[str, str, str], list[np.ndarray]] = {}
        self._inverses: dict[object, Inverse | None] = {}
        self._bases: dict[tuple[str, str], ekfac.Eigenbasis] = {}
        self._dense: dict[object, np.ndarray] = {}

    def require_finite(self) -> None:
        """ValueError naming the first of the case's gradients and factors that is not finite in float64."""
        for i in range(1, self.layers + 1):
            parts = {f"gradient_{i}": self.regularised[i - 1]}
            if self.kronecker(i):
                parts |= {f"A_{i - 1}": self.A(i)} | {f"G_{i}": self.G(i, kind) for kind in self.kinds}
            for name, x in parts.items():
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
        likelihood, R = self.network.likelihood, self.network.likelihood.positions
        C = self.network.outputs // R
        if layer is None:
            return Symbols(likelihood.name, self.cases, C, R=R)
        T, around = self.locations(layer), _input_locations(self.network.weighted[layer - 1])
        return Symbols(likelihood.name, self.cases, C, self.d(layer), self.n(layer), T, 1 if around == T else around, R)

    # --- a layer's numbers ---

    def d(self, layer: int) -> int:
        """Its outputs d."""
        return self.network.shapes[layer - 1][0]

    def n(self, layer: int) -> int:
        """The columns of its W without the bias's."""
        return self.network.shapes[layer - 1][1] - self.bias(layer)

    def bias(self, layer: int) -> bool:
        """Whether it has a bias; a normalisation's is its shift."""
        return bool(getattr(self.network.weighted[layer - 1], "bias", True))

    def locations(self, layer: int) -> int:
        """T."""
        return self.network.weighted[layer - 1].locations

    def kronecker(self, layer: int) -> bool:
        """Whether it has Kronecker factors; where not it is a normalisation or the like, with a block of F."""
        return self.network.weighted[layer - 1].kronecker

    def kernel(self, layer: int) -> tuple[int, int] | None:
        """(rows, columns) of a convolution's kernel, where it is known; (1, 1) of what is known to be none."""
        if self.captured:
            return None if self.locations(layer) > 1 else (1, 1)
        return getattr(self.network.weighted[layer - 1], "kernel", (1, 1))

    def inside(self, layer: int) -> np.ndarray | None:
        """Which of a convolution's locations see nothing of the padding, (T,); None where that is not known."""
        convolution = self.network.weighted[layer - 1]
        if not isinstance(convolution, Convolution):
            return None
        seen = []
        for n, k, s, p, d, number in zip(
            convolution.input[1:],
            convolution.kernel,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.pixels,
            strict=True,
        ):
            first = np.arange(number) * s - p
            seen.append((first >= 0) & (first + (k - 1) * d < n))
        return np.logical_and.outer(*seen).ravel()

    def sharings(self, layer: int) -> list[str | None]:
        """The kinds of factors that a layer has: one, None, where its weights are applied once to each case."""
        return list(SHARINGS) if self.locations(layer) > 1 else [None]

    def arrangements(self, theirs: np.ndarray, layer: int, part: str = "") -> Iterator[Arrangement]:
        """All readings of theirs, of any shape, as a layer's matrix; see `layouts.arrangements`."""
        yield from arrangements(theirs, self.d(layer), self.n(layer), part, self.bias(layer))

    # --- factors ---

    @property
    def kinds(self) -> list[str]:
        """Those of FISHERS that the case has targets for."""
        return ["exact", "empirical"] + ["sampled"] * (self.case.sampled is not None)

    def factors(self, kind: str, sharing: str | None = None) -> Factors:
        """All blocks of Ā and G, means over cases; of layers with T > 1 locations those of the kind expand, unless
        another is asked for."""
        sharing = sharing or "expand"
        if (kind, sharing) not in self._factors:
            if sharing == "kfc":
                made = factors.kfc(self.factors(kind), self.network)
            else:
                targets, kinds = self.targets(kind), Kinds(sharing)
                forward_pass = self.case.forward_pass
                made = (
                    factors.exact(forward_pass, kinds)
                    if targets is None
                    else factors.empirical(forward_pass, targets, kinds)
                )
            self._factors[kind, sharing] = made
        return self._factors[kind, sharing]

    def A(self, layer: int, sharing: str | None = None) -> np.ndarray:
        """Ā_{i−1,i−1}, (d_{i−1}+1, d_{i−1}+1), without its last row and column where the layer has no bias."""
        return self.factors("exact", sharing).A[layer - 1, layer - 1]

    def G(self, layer: int, kind: str, sharing: str | None = None) -> np.ndarray:
        """G_{i,i}, (d_i, d_i)."""
        return self.factors(kind, sharing).G[layer, layer]

    @cached_property
    def gradient(self) -> list[np.ndarray]:
        """The mean of the cases' gradients, without ηθ, of the shapes of W_1 … W_ℓ."""
        return objective.loss_and_gradient(self.case.forward_pass, self.case.Y, 0.0)[1]

    @cached_property
    def uniform_gradient(self) -> list[np.ndarray]:
        """The mean of the cases' gradients, of the shapes of W_1 … W_ℓ, with equal shares of all classes as targets."""
        uniform = np.full_like(self.case.Y, self.network.likelihood.positions / self.network.outputs)
        return objective.loss_and_gradient(self.case.forward_pass, uniform, 0.0)[1]

    @cached_property
    def regularised(self) -> list[np.ndarray]:
        """∇h, of the shapes of W_1 … W_ℓ: the mean of the cases' gradients, and ηθ."""
        return [g + self.case.eta * W for g, W in zip(self.gradient, self.case.parameters, strict=True)]

    @cached_property
    def gradients(self) -> list[tuple[list[np.ndarray], tuple[str, ...], float]]:
        """The gradients that may have been preconditioned, of the shapes of W_1 … W_ℓ, means over cases: each up to a
        factor, with what is to be said of it and how far-fetched it is. A loss scaled by s gives s(∇L + (η/s)θ)."""
        table: list[tuple[list[np.ndarray], tuple[str, ...], float]] = [(self.regularised, (), 0.0)]
        eta, C = self.case.eta, self.network.outputs
        if eta:
            table.append((self.gradient, ("eta*theta left out of the gradient",), 0.5))
            for s in {float(self.cases), 2.0, 1 / C, 2 / C} - {1.0}:
                scaled = [g + eta / s * W for g, W in zip(self.gradient, self.case.parameters, strict=True)]
                table.append((scaled, ("the loss scaled, eta*theta not",), 1.0))
        return table

    @cached_property
    def z(self) -> np.ndarray:
        """The network's outputs, (N, d_ℓ)."""
        return np.concatenate([activities.z for _, activities in self.case.forward_pass.chunks()])

    def rows(self, layer: int) -> np.ndarray:
        """ā of every case and location, (N, T, p), the homogeneous coordinate last where there is a bias."""
        parts = [activities.rows(layer) for _, activities in self.case.forward_pass.chunks()]
        return np.concatenate(parts).reshape(self.cases, self.locations(layer), -1)

    @cached_property
    def jacobians(self) -> list[np.ndarray]:
        """dz/ds_i of every case and location, (d_ℓ, N, T, d_i) for each layer; where cases have weights times
        √(N w_n / Σ w_n), so that means over cases of what is of second order in them are weighted."""
        forward_pass, C = self.case.forward_pass, self.network.outputs
        parts: list[list[np.ndarray]] = [[] for _ in range(self.layers)]
        for rows, activities in forward_pass.chunks():
            m = activities.z.shape[0]
            units = np.broadcast_to(np.eye(C)[:, None, :], (C, m, C)) * self.root_weights[rows, None]
            for part, g in zip(parts, forward_pass.backward(activities, units), strict=True):
                part.append(g.reshape(C, m, -1, g.shape[-1]))
        return [np.concatenate(part, axis=1) for part in parts]

    def errors(self, layer: int, kind: str) -> np.ndarray:
        """𝒟s of every case and location, (r, N, T, d): what is summed over r and meant over cases is of this Fisher."""
        return self.pulled(self.jacobians[layer - 1], kind)

    def pulled(self, K: np.ndarray, kind: str) -> np.ndarray:
        """Kᵀ𝒟z with given targets, r = 1; or in exact expectation Kᵀb for the columns b of a root of F_R: (r, N, …) of
        the outputs' derivatives K, (C, N, …)."""
        targets, likelihood, C = self.targets(kind), self.network.likelihood, self.network.outputs
        if targets is None:
            identity = np.broadcast_to(np.eye(C)[:, None, :], (C, self.cases, C))
            Dz = likelihood.fisher_root_product(self.z, identity)
        else:
            Dz = likelihood.derivative(self.z, targets)[None]
        g = np.matmul(Dz.transpose(1, 0, 2), np.moveaxis(K, 0, 1).reshape(self.cases, C, -1))
        return g.transpose(1, 0, 2).reshape(-1, *K.shape[1:])

    def normalised(self, layer: int) -> np.ndarray | None:
        """x̂ of a normalisation, (N, T, d); None of another layer."""
        if self.network.weighted[layer - 1].kind not in ("layer-norm", "batch-norm", "normalisation"):
            return None
        parts = [activities.weighted()[layer - 1][1].a for _, activities in self.case.forward_pass.chunks()]
        d = self.d(layer)
        return np.concatenate([x.reshape(-1, self.locations(layer), d) for x in parts])

    def derivatives(self, layer: int, sharing: str | None) -> np.ndarray:
        """The jacobians (d_ℓ, N, T, d_i), T being 1 for "reduce", whose second moments, summed over the locations, are
        the G of this kind."""
        J, T = self.jacobians[layer - 1], self.locations(layer)
        if sharing == "reduce":
            return J.sum(axis=2, keepdims=True)
        return J / math.sqrt(T) if sharing == "kfc" else J

    @cached_property
    def case_weights(self) -> np.ndarray:
        """N w_n / Σ w_n, (N,): 1 without weights."""
        w = np.ones(self.cases) if self.case.weights is None else np.asarray(self.case.weights)
        return self.cases * w / w.sum()

    @cached_property
    def root_weights(self) -> np.ndarray:
        """√(N w_n / Σ w_n), (N,): with it, what is of second order in a case is weighted."""
        return np.sqrt(self.case_weights)

    def along(self, directions: list[list[np.ndarray]]) -> np.ndarray:
        """Jv of every case for each of r `directions`, of the shapes of W_1 … W_ℓ: (r, N, d_ℓ), weighted as the
        jacobians are."""
        forward_pass = self.case.forward_pass
        parts = [forward_pass.forward_mode(activities, directions) for _, activities in forward_pass.chunks()]
        return np.concatenate(parts, axis=1) * self.root_weights[:, None]

    def block(self, layer: int, kind: str) -> np.ndarray:
        """Layer i's diagonal block of the Fisher, dense, (P_i, P_i)."""
        if (layer, kind) not in self._dense:
            targets = self.targets(kind)
            self._dense[layer, kind] = fisher.block(self.case.forward_pass, layer, layer, targets=targets)
        return self._dense[layer, kind]

    def eigenbasis(self, kind: str, sharing: str | None = None) -> ekfac.Eigenbasis:
        """The eigenbasis of the factors."""
        key = kind, sharing or "expand"
        if key not in self._bases:
            self._bases[key] = ekfac.eigenbasis(self.factors(*key))
        return self._bases[key]

    def tridiagonal(self, kind: str, gamma: float, norm: str) -> Inverse | None:
        """F̂⁻¹ for a γ; None if a damped factor is singular."""
        key = kind, gamma, norm
        if key not in self._inverses:
            damped = damping.factorise(self.factors(kind), gamma, norm)
            good = bool(np.all(damped.pivots > 0))
            self._inverses[key] = inverses.invert(self.factors(kind), damped, tridiagonal=True) if good else None
        return self._inverses[key]

    def ekfac_diagonal(self, basis: str, kind: str, sharing: str | None = None) -> list[np.ndarray]:
        """EKFAC's diagonal of the Fisher `kind` in the eigenbasis of the factors of `basis`, of the shapes of W_1 …
        W_ℓ."""
        key = basis, kind, sharing or "expand"
        if key not in self._diagonals:
            targets, eigenbasis = self.targets(kind), self.eigenbasis(basis, sharing)
            self._diagonals[key] = ekfac.diagonal(self.case.forward_pass, eigenbasis, targets)
        return self._diagonals[key]

    def fisher(self, kind: str) -> np.ndarray:
        """The dense Fisher, (P, P)."""
        if kind not in self._dense:
            targets, forward_pass = self.targets(kind), self.case.forward_pass
            whole = fisher.dense(forward_pass) if targets is None else fisher.dense_empirical(forward_pass, targets)
            self._dense[kind] = whole
        return self._dense[kind]

    def targets(self, kind: str) -> np.ndarray | None:
        """The targets (N, d_ℓ) of a kind; None for the model's own."""
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


def _input_locations(layer: Any) -> int:
    """The pixels of a convolution's input, or 1 for what has none, or none that are known."""
    known = getattr(layer, "input_locations", None)
    if known is None and len(layer.input) == 3:
        known = math.prod(layer.input[1:])
    return known or 1
