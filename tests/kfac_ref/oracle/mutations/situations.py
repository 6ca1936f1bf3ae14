"""Random small cases, and the numbers that a plain implementation computes for them, in NumPy and any dtype.

`Numbers` works on all cases at once, so that it can be run in float32 from the start and on other data; that it agrees
with the case-by-case algebra of `tests.dense` is tested.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from autodiff import Network
from kfac_ref.oracle.case import Case
from tests.conftest import random_parameters, random_targets, sampled_targets
from tests.dense import case_F_R, case_mean

LIKELIHOODS = ("categorical", "bernoulli", "gaussian")
HIDDEN = ("tanh", "relu", "logistic", "identity")
SLOPES = {
    "tanh": lambda s: 1 - np.tanh(s) ** 2,
    "relu": lambda s: (s > 0).astype(s.dtype),
    "logistic": lambda s: 1 / (1 + np.exp(-s)) * (1 / (1 + np.exp(s))),
    "identity": np.ones_like,
}
VALUES = {
    "tanh": np.tanh,
    "relu": lambda s: np.maximum(s, 0),
    "logistic": lambda s: 1 / (1 + np.exp(-s)),
    "identity": lambda s: s,
}


class Numbers:
    """ā, dz/ds and what follows from them for a case.

    Parameters
    ----------
    case : Case
    dtype : numpy dtype
        In which everything is computed from the start.
    slopes : mapping of activation names to functions of s, optional
        Other derivatives than the right ones, to make a mistake.
    """

    def __init__(self, case: Case, dtype=np.float64, slopes=SLOPES) -> None:
        self.case, self.network, self.dtype = case, case.network, dtype
        self.first_A = 0
        """Which number the first Ā has in names."""
        self.own: dict[str, np.ndarray] = {}
        """Factors that were handed over, by name, to precondition with."""
        self.layers, self.name = case.network.layers, case.network.likelihood.name
        self.W = [np.asarray(W, dtype=dtype) for W in case.parameters]
        self.X, self.Y = np.asarray(case.X, dtype=dtype), np.asarray(case.Y, dtype=dtype)
        self.N, self.C, self.eta = len(self.X), self.network.sizes[-1], dtype(case.eta)
        ones = np.ones((self.N, 1), dtype)
        self.a, self.s, D = [np.concatenate([self.X, ones], 1)], [], []
        for i, phi in enumerate(self.network.activations):
            self.s.append(self.a[-1] @ self.W[i].T)
            if i < self.layers - 1:
                self.a.append(np.concatenate([VALUES[phi.name](self.s[-1]), ones], 1))
        self.z = self.s[-1]
        D.append(np.broadcast_to(np.eye(self.C, dtype=dtype), (self.N, self.C, self.C)))
        for i in range(self.layers - 1, 0, -1):
            slope = slopes[self.network.activations[i - 1].name](self.s[i - 1])
            D.insert(0, (D[0] @ self.W[i][:, :-1]) * slope[:, None, :])
        self.D = D  # D[i−1] = dz/ds_i, (N, C, d_i)
        self.mean = np.array([case_mean(self.name, z) for z in self.z], dtype=dtype)
        self.F_R = np.array([case_F_R(self.name, z) for z in self.z], dtype=dtype)

    # --- factors ---------------------------------------------------------------------------------------------------

    def A(self, i: int) -> np.ndarray:
        """Ā_{i,i}, mean over cases, (d_i+1, d_i+1)."""
        return self.a[i].T @ self.a[i] / self.dtype(self.N)

    def g(self, i: int, targets: np.ndarray) -> np.ndarray:
        """g_i for targets (…, N, C): (…, N, d_i)."""
        return np.einsum("...nc,ncd->...nd", (self.mean - targets).astype(self.dtype), self.D[i - 1])

    def G(self, i: int, fisher: str = "exact", targets: np.ndarray | None = None) -> np.ndarray:
        """G_{i,i}, mean over cases (and over the first axis of `targets` where it has three)."""
        d = self.network.sizes[i]
        if fisher == "identity":
            return np.eye(d, dtype=self.dtype)
        if fisher == "exact":
            D = self.D[i - 1]
            return np.einsum("ncd,nce,nef->df", D, self.F_R, D) / self.dtype(self.N)
        g = self.g(i, self.Y if targets is None else targets).reshape(-1, d)
        return g.T @ g / self.dtype(len(g))

    def sample(self, rng, S: int) -> np.ndarray:
        """S targets a case from the model, (S, N, C)."""
        return np.array([sampled_targets(rng, self.name, self.z) for _ in range(S)], dtype=float)

    # --- θ's derivatives -------------------------------------------------------------------------------------------

    @cached_property
    def J(self) -> list[np.ndarray]:
        """dz/d vec W_i per layer, (N, C, d_i (d_{i−1}+1))."""
        return [
            (a[:, None, :, None] * D[:, :, None, :]).reshape(self.N, self.C, -1)
            for a, D in zip(self.a, self.D, strict=True)
        ]

    def fisher(self, which: str = "exact", i: int | None = None, targets: np.ndarray | None = None) -> np.ndarray:
        """The dense F, or layer i's diagonal block of it."""
        J = np.concatenate(self.J, 2) if i is None else self.J[i - 1]
        if which == "exact":
            return np.einsum("ncp,nce,neq->pq", J, self.F_R, J, optimize=True) / self.dtype(self.N)
        e = (self.mean - (self.Y if targets is None else targets)).astype(self.dtype)
        v = np.einsum("...nc,ncp->...np", e, J).reshape(-1, J.shape[2])
        return v.T @ v / self.dtype(len(v))

    def gradient(self, i: int, scale: float = 1.0, l2: float = 1.0) -> np.ndarray:
        """scale · (mean over cases of 𝒟W_i) + l2 · ηW_i."""
        loss = self.g(i, self.Y).T @ self.a[i - 1] / self.dtype(self.N)
        return self.dtype(scale) * loss + self.dtype(l2) * self.eta * self.W[i - 1]


# --- random cases ---------------------------------------------------------------------------------------------------


def situation(rng, **fixed) -> Case:
    """A random case of 1 to 4 layers.

    Parameters
    ----------
    rng : numpy Generator
    **fixed
        `N`, `sizes`, `likelihood`, `hidden`, `eta`, `lam`, `gamma` where they are not to be random; `min_d`, `min_C`
        and `max_d`, bounds of the widths; `layers`.

    Returns
    -------
    Case
        No layer's derivatives vanish, and no ReLU is within 1e-3 of its kink, where float32 may fall on the other side.
    """
    while True:
        likelihood = fixed.get("likelihood") or LIKELIHOODS[rng.integers(3)]
        low, high = fixed.get("min_d", 1), fixed.get("max_d", 6)
        layers = fixed.get("layers") or int(rng.integers(1, 5))
        sizes = [int(d) for d in rng.integers(low, high + 1, layers + 1)]
        least = max(fixed.get("min_C", 1), 2 if likelihood == "categorical" else 1)
        sizes[-1] = int(rng.integers(least, 11 if rng.random() < 0.2 else max(least, 4) + 1))
        sizes = fixed.get("sizes") or sizes
        kinds = fixed.get("hidden") or HIDDEN
        network = Network(sizes, [kinds[rng.integers(len(kinds))] for _ in sizes[1:-1]], likelihood)
        N = fixed.get("N") or int(rng.choice([1, 2, 3, 5, 8, 13, 20, 37, 40, 60]))
        N = max(N, fixed.get("min_N", 1))
        W = random_parameters(rng, network, 1.3)
        X = rng.standard_normal((N, sizes[0]))
        Y = random_targets(rng, likelihood, N, sizes[-1])
        if likelihood == "bernoulli" and rng.random() < 0.5:
            Y = np.round(Y)
        if likelihood == "categorical" and rng.random() < 0.2:
            Y = rng.dirichlet(np.ones(sizes[-1]), N)
        eta = fixed["eta"] if "eta" in fixed else float(rng.choice([0.0, 1e-5, 0.01, 0.1]))
        lam, gamma = fixed.get("lam"), fixed.get("gamma")
        if "lam" not in fixed and "gamma" not in fixed and rng.random() < 0.7:
            lam = float(rng.uniform(0.02, 0.6))
            gamma = float(rng.uniform(0.1, 0.9)) if rng.random() < 0.3 else None
        case = Case(network, W, X, Y, gamma=gamma, lam=lam, eta=eta)
        if _healthy(Numbers(case)):
            return case


def _healthy(numbers: Numbers) -> bool:
    single = Numbers(numbers.case, np.float32)
    for i in range(1, numbers.layers + 1):
        G = numbers.G(i)
        # no cancellation that float32 would not bear
        pairs = [(G, single.G(i)), (numbers.gradient(i), single.gradient(i))]
        if any(np.linalg.norm(x - y) > 2e-6 * np.linalg.norm(x) for x, y in pairs):
            return False
        # every unit has a derivative, none dwarfs the others
        if np.trace(G) < 1e-3 or np.linalg.norm(numbers.G(i, "empirical")) < 1e-4:
            return False
        if np.linalg.norm(numbers.gradient(i, 1.0, 0.0)) < 1e-3:
            return False
        phi = numbers.network.activations[i - 1].name
        if phi == "relu" and np.min(np.abs(numbers.s[i - 1])) < 1e-3:
            return False
    return bool(np.max(np.abs(numbers.z)) < 8)


def elsewhere(rng, case: Case, what: str) -> Case:
    """The same case with other inputs, other targets or another network of the same sizes."""
    if what == "network":
        return replace(case, parameters=random_parameters(rng, case.network, 1.3))
    if what == "inputs":
        return replace(case, X=rng.standard_normal(np.shape(case.X)))
    raise ValueError(what)
