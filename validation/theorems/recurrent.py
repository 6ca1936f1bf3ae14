"""The blocks of recurrent layers with correlations over time, against dense chains (RNN §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref.curvature import damping, factors, fisher, kronecker, recurrent
from kfac_ref.curvature.factors import Factors, Kinds, Lagged
from validation.theorems.comparison import apart
from validation.theorems.stacks import ACTIVATIONS, Description, Stack, dense
from validation.theorems.statement import EPSILON, Deviation, Instance, Space, Statement, relative, worst


def _steps(out: int, **keys: Any) -> dict[str, Any]:
    return {"kind": "recurrent", "out": out, **keys}


def _random(rng: np.random.Generator) -> Description:
    """A recurrent layer of 2 to 7 steps, with what follows it."""
    shape = tuple(int(n) for n in rng.integers((2, 1), (8, 4)))
    keys = {"activation": str(rng.choice(ACTIVATIONS)), "bias": bool(rng.integers(2))}
    every = bool(rng.integers(2))
    return shape, [_steps(int(rng.integers(1, 4)), returns="all" if every else "last", **keys), dense(2)]


@dataclass(frozen=True)
class Chain:
    """A recurrent layer's factors, damped with γ, and its Ψ and V_0 as dense matrices."""

    A: np.ndarray
    G: np.ndarray
    lagged: Lagged
    roots: damping.DampedFactors

    @classmethod
    def of(cls, instance: Instance) -> Chain:
        """Of a random network; γ is between 0.03 and 1."""
        stack = Stack(instance, _random(instance.rng(3)))
        gamma = 10 ** instance.rng(4).uniform(-1.5, 0)
        found = factors.exact(stack.forward_pass, Kinds(time="stationary"))
        damped = damping.damp(found, gamma)
        return cls(damped.A[0, 0], damped.G[1, 1], found.lagged[1, 1], damping.factorise(found, gamma))

    @property
    def V_0(self) -> np.ndarray:
        """Times T."""
        return np.kron(self.A, self.G)

    def Psi(self, symmetric: bool) -> np.ndarray:
        """V_1 V_0⁻¹, its factors made symmetric or not."""
        pairs = ((self.A, self.lagged.A), (self.G, self.lagged.G))
        A, G = (((C + C.T) / 2 if symmetric else C) @ np.linalg.inv(M) for M, C in pairs)
        return np.kron(A, G)

    def inverse(self, time: str) -> np.ndarray:
        """The library's, applied to every unit vector."""
        found = recurrent.invert(self.roots.A[0], self.roots.G[0], self.lagged, time)
        shape = len(self.G), len(self.A)
        units = (kronecker.unvec(e, shape) for e in np.eye(shape[0] * shape[1]))
        return np.stack([kronecker.vec(found.apply([unit])[0]) for unit in units], axis=1)

    def against(self, F: np.ndarray, time: str) -> Deviation:
        """The library's inverse and dense block against F."""
        condition = np.linalg.cond(F) * np.linalg.cond(self.V_0)
        ours = recurrent.dense(self.A, self.G, self.lagged, time)
        return worst(
            apart(self.inverse(time), np.linalg.inv(F), 200, condition),
            apart(ours, F, 200, np.linalg.cond(self.V_0)),
        )


def one_step_apart(instance: Instance) -> Deviation:
    """Ā_1 and G_1 by sums over cases, steps and pairs of outputs."""
    stack = Stack(instance, _random(instance.rng(3)))
    forward_pass, (T, _) = stack.forward_pass, stack.network.input
    ((_, activities),) = forward_pass.chunks()
    N, C = activities.z.shape
    g = forward_pass.backward(activities, np.broadcast_to(np.eye(C)[:, None, :], (C, N, C)))[0].reshape(C, N, T, -1)
    a = activities.rows(1).reshape(N, T, -1)
    curved = stack.network.likelihood.fisher_product(activities.z, np.broadcast_to(np.eye(C)[:, None], (C, N, C)))
    A, G = np.zeros((a.shape[-1],) * 2), np.zeros((g.shape[-1],) * 2)
    for n in range(N):
        for t in range(1, T):
            A += np.outer(a[n, t], a[n, t - 1]) / (N * T)
            G += sum(curved[c, n, e] * np.outer(g[c, n, t], g[e, n, t - 1]) for c in range(C) for e in range(C)) / N
    found = factors.exact(forward_pass, Kinds(time="symmetric")).lagged[1, 1]
    scale = factors.exact(forward_pass).G[1, 1]
    off = float(np.linalg.norm(found.G - G) / np.linalg.norm(scale))
    return worst(Deviation(relative(found.A, A), 1e2 * EPSILON), Deviation(off, 1e3 * EPSILON))


def eta(instance: Instance) -> Deviation:
    """η by Horner's rule against its closed form, and against the sum over all pairs of steps."""
    rng = instance.rng(3)
    T, psi = int(rng.integers(1, 60)), rng.uniform(-1, 0.9, size=20)
    ours = T * recurrent.eta(psi, np.arange(T, 0.0, -1))
    closed = (T * (1 - psi**2) - 2 * psi * (1 - psi**T)) / (1 - psi) ** 2
    apart_by = np.abs(np.arange(T)[:, None] - np.arange(T))
    sums = np.array([np.sum(x**apart_by) for x in psi])
    scale = float(T**2)
    return worst(*(Deviation(float(np.max(np.abs(ours - x))) / scale, 1e2 * EPSILON) for x in (closed, sums)))


def symmetric(instance: Instance) -> Deviation:
    """Option 1 against Σ_k (T − |k|) Ψ^k V_0, term by term."""
    chain = Chain.of(instance)
    T, Psi = chain.lagged.pairs.shape[0], chain.Psi(symmetric=True)
    terms = [(T - k) / T * np.linalg.matrix_power(Psi, k) @ chain.V_0 for k in range(T)]
    return chain.against(terms[0] + sum(V + V.T for V in terms[1:]), "symmetric")


def stationary(instance: Instance) -> Deviation:
    """Option 2 against V_0 + Σ_{k≥1} (V_k + V_kᵀ), V_k = Ψ^k V_0, of 2^60 terms by doubling."""
    chain = Chain.of(instance)
    power = chain.Psi(symmetric=False)
    total = power
    for _ in range(60):
        total, power = total + power @ total, power @ power
    half = total @ chain.V_0
    return chain.against(chain.V_0 + half + half.T, "stationary")


def positive(instance: Instance) -> Deviation:
    """‖V_0^{−½} V_1 V_0^{−½}‖ < 1 for each factor, damped, so that either chain's F is positive definite."""
    chain = Chain.of(instance)
    norms = [
        np.linalg.norm(R @ C @ R.T, 2)
        for R, C in ((chain.roots.A[0], chain.lagged.A), (chain.roots.G[0], chain.lagged.G))
    ]
    smallest = min(
        np.linalg.eigvalsh(recurrent.dense(chain.A, chain.G, chain.lagged, time))[0] for time in factors.TIMES
    )
    return Deviation(float(np.max([*norms, 0.0 if smallest > 0 else np.inf])), 1.0)


def exact_without_memory(instance: Instance) -> Deviation:
    """Of a linear layer that forgets its state, with outputs at each step, all three are the block of F."""
    rng = instance.rng(3)
    T, d = (int(n) for n in rng.integers((2, 1), (6, 4)))
    out = int(rng.integers(1, d + 1))  # with more units than inputs Ā would be singular
    stack = Stack(instance, ((T, d), [_steps(out, returns="all", activation="identity", bias=False)]))
    stack.parameters[0][:, d:] = 0.0
    forward_pass = stack.forward_pass
    found: Factors = factors.exact(forward_pass, Kinds(time="symmetric"))
    A, G, F = found.A[0, 0], found.G[1, 1], fisher.block(forward_pass, 1, 1)
    tolerance = 1e3 * EPSILON * float(np.linalg.cond(A))
    blocks = (recurrent.dense(A, G, found.lagged[1, 1], time) for time in factors.TIMES)
    return worst(*(Deviation(relative(block, F), tolerance) for block in blocks))


def different_lengths(instance: Instance) -> Deviation:
    """F, Ā, G, Ā_1 and G_1 of a padded batch, against those of each sequence at its own length."""
    rng = instance.rng(5)
    (T, d), layers = _random(instance.rng(3))
    stack = Stack(instance, ((T, d), layers))
    lengths, W, N = rng.integers(1, T + 1, instance.cases), stack.parameters, instance.cases
    padded = ForwardPass(stack.network, W, stack.X, lengths=lengths)
    cut = [Network.of(layers, (int(length), d), instance.likelihood) for length in lengths]
    alone = [ForwardPass(cut[n], W, stack.X[n : n + 1, : lengths[n]]) for n in range(N)]
    found, one = (
        factors.exact(padded, Kinds(time="symmetric")),
        [factors.exact(p, Kinds(time="symmetric")) for p in alone],
    )
    share = lengths / lengths.sum()
    pairs = [
        (fisher.dense(padded), sum(fisher.dense(p) for p in alone) / N),
        (found.A[0, 0], sum(s * f.A[0, 0] for s, f in zip(share, one, strict=True))),
        (found.G[1, 1], sum(f.G[1, 1] for f in one) / N),
    ]
    lagged = [(s, f.lagged[1, 1]) for s, f in zip(share, one, strict=True) if f.lagged]
    if lagged:
        pairs += [
            (found.lagged[1, 1].A, sum(s * x.A for s, x in lagged)),
            (found.lagged[1, 1].G, sum(x.G for _, x in lagged) / N),
        ]
    return worst(*(Deviation(relative(ours, theirs), 1e4 * EPSILON) for ours, theirs in pairs))


ANY = Space(layers=(1, 1), width=(1, 1), cases=(2, 8))
"""Of an instance, the likelihood, the cases and the seed alone are used."""
GAUSSIAN = Space(layers=(1, 1), width=(1, 1), cases=(20, 30), likelihoods=("gaussian",))

STATEMENTS = [
    Statement(
        "recurrent-one-step-apart", "RNN §3", "Ā_1 = E[ā_t ā_{t−1}ᵀ], G_1 = E[g_t g_{t−1}ᵀ], 0 before the start",
        "sums over cases, steps and outputs; allowed 1e3 ε", ANY, one_step_apart, 50,
    ),
    Statement(
        "recurrent-eta", "RNN §3", "η_T(ψ) = Σ_{|k|<T} (T−|k|) ψ^|k| = (T(1−ψ²) − 2ψ(1−ψ^T))/(1−ψ)²",
        "Horner's rule, the closed form, sums of pairs of steps; allowed 1e2 ε T²", ANY, eta,
    ),
    Statement(
        "recurrent-symmetric", "RNN §3", "option 1 inverts Σ_{|k|<T} (T−|k|) Ψ^k V_0, V_1 made symmetric",
        "applied to every unit vector, with the dense inverse; allowed 200 ε κ(F) κ(V_0)", ANY, symmetric,
    ),
    Statement(
        "recurrent-stationary", "RNN §3", "option 2 inverts T Σ_k V_k of an endless chain, V_k = Ψ^k V_0, by App. B",
        "applied to every unit vector, with the dense inverse; allowed 200 ε κ(F) κ(V_0)", ANY, stationary,
    ),
    Statement(
        "recurrent-positive", "RNN §3", "V_0^{−½} V_1 V_0^{−½} is smaller than 1, so that F is positive definite",
        "norms of each damped factor's, and F's eigenvalues; allowed 1", ANY, positive,
    ),
    Statement(
        "recurrent-lengths", "RNN §3", "a padded batch of sequences has what each has at its own length",
        "F, factors, factors one step apart; allowed 1e4 ε", ANY, different_lengths, 50,
    ),
    Statement(
        "recurrent-exact", "RNN §3", "all three are exact for a linear layer without memory, with outputs at each step",
        "the block of F; allowed 1e3 ε κ(Ā)", GAUSSIAN, exact_without_memory, 50,
    ),
]  # fmt: skip
