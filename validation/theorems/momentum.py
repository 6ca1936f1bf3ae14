"""On a quadratic h, K-FAC's choice of α and μ makes it preconditioned conjugate gradients (§7)."""

from __future__ import annotations

import numpy as np

from autodiff.network import Parameters
from autodiff.passes import forward
from kfac_ref import KFAC, Batch, Settings
from validation.theorems.enumerated import vec
from validation.theorems.statement import EPSILON, Deviation, Instance, Space, Statement, relative

ITERATIONS = 3
NEVER = 10**9


def conjugate_gradients(H: np.ndarray, precondition: np.ndarray, b: np.ndarray, iterations: int) -> list[np.ndarray]:
    """The iterates of preconditioned conjugate gradients for Hx = b from x = 0, by the usual recurrences."""
    x, r = np.zeros_like(b), b
    y = precondition @ r
    p, found = y, []
    for _ in range(iterations):
        step = (r @ y) / (p @ H @ p)
        x, before, r = x + step * p, r @ y, r - step * (H @ p)
        y = precondition @ r
        p = y + (r @ y) / before * p
        found.append(x)
    return found


def with_momentum(instance: Instance) -> Deviation:
    """Algorithm 2 on one linear layer under the Gaussian likelihood, with λ = 0, and sampled targets that leave G the
    same, beside conjugate gradients with dense F + ηI and F̆⁻¹."""
    rng = instance.rng(3)
    eta, noise = float(rng.uniform(0.01, 1)), rng.standard_normal(instance.Y.shape)
    settings = Settings(
        inverse="block-diagonal", lambda0=0, eta=eta, tau1=1, tau2=1, T1=NEVER, T2=NEVER, T3=1, full_batch_at=None
    )
    kfac = KFAC(instance.network, settings)
    state = kfac.init(instance.parameters)
    moved: list[np.ndarray] = []
    (W,), N = instance.parameters, instance.cases
    inputs = np.hstack([instance.X, np.ones((N, 1))])
    A, identity = inputs.T @ inputs / N, np.eye(len(W))
    H = np.kron(A, identity) + eta * np.eye(W.size)
    iterations = min(ITERATIONS, W.size)
    for _ in range(iterations):
        z = forward(instance.network, state.parameters, instance.X).z
        state, _ = kfac.step(state, Batch(instance.X, instance.Y), z + noise)
        moved.append(vec(_minus(state.parameters, instance.parameters)))
    gradient = vec([(inputs @ W.T - instance.Y).T @ inputs / N + eta * W])
    G = noise.T @ noise / N
    pi = np.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
    precondition = np.kron(
        np.linalg.inv(A + pi * np.sqrt(eta) * np.eye(len(A))), np.linalg.inv(G + np.sqrt(eta) / pi * identity)
    )
    expected = conjugate_gradients(H, precondition, -gradient, iterations)
    root = np.linalg.cholesky(precondition)
    condition = float(np.linalg.cond(root.T @ H @ root))
    return Deviation(max(map(relative, moved, expected)), 1000 * EPSILON * condition)


def _minus(ours: Parameters, theirs: Parameters) -> Parameters:
    return [a - b for a, b in zip(ours, theirs, strict=True)]


STATEMENTS = (
    Statement(
        "conjugate-gradients",
        "§7",
        "on a quadratic h, with λ = 0, Algorithm 2 is preconditioned conjugate gradients",
        f"θ after each of {ITERATIONS} iterations, one linear layer under the Gaussian likelihood, with the textbook's "
        "recurrences; allowed: 1000 ε κ of F + ηI, preconditioned",
        Space((1, 1), (1, 5), None, (2, 12), likelihoods=("gaussian",)),
        with_momentum,
        50,
    ),
)
