"""Factored Tikhonov and its π (§6.3); the quadratic model, its minimiser over span{Δ, δ₀}, and ρ (§6.4, §6.5, §7)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.optimize import minimize_scalar

from autodiff.objective import loss
from autodiff.passes import ForwardPass
from kfac_ref import optimizer
from kfac_ref.curvature import block_diagonal, damping, factors, quadratic
from validation.theorems import enumerated
from validation.theorems.comparison import apart, small
from validation.theorems.statement import EPSILON, Deviation, Instance, Space, Statement, worst

NORMS: dict[str, Literal["nuc", "fro"]] = {"trace": "nuc", "frobenius": "fro"}
"""The norm of numpy.linalg.norm that each rule for π goes by; the trace norm of a second moment is its trace."""


def pi(instance: Instance) -> Deviation:
    """log π of every layer, with a numerical minimiser of (γ/π)‖Ā⊗I‖ + πγ‖I⊗G‖, of dense matrices."""
    ours = factors.exact(instance.forward_pass)
    deviations = []
    for i in range(1, instance.network.layers + 1):
        A, G = ours.A[i - 1, i - 1], ours.G[i, i]
        for rule, norm in NORMS.items():
            left = float(np.linalg.norm(np.kron(A, np.eye(len(G))), norm))
            right = float(np.linalg.norm(np.kron(np.eye(len(A)), G), norm))
            if right == 0:  # the paper's π is infinite
                continue

            def bound(log_pi: float, left: float = left, right: float = right) -> float:
                return left * math.exp(-log_pi) + right * math.exp(log_pi)

            best = minimize_scalar(bound, method="golden", options={"xtol": 1e-10}).x
            off = abs(float(np.log(damping.pi(A, G, rule))) - best)
            # a minimum is found by values up to the square root of their rounding
            deviations.append(Deviation(off, 50 * math.sqrt(EPSILON)))
    return worst(Deviation(0.0, 1.0), *deviations)


def damped_product(instance: Instance) -> Deviation:
    """(Ā + πγI) ⊗ (G + (γ/π)I) by numpy.kron, with Ā⊗G + πγ I⊗G + (γ/π) Ā⊗I + γ² I, π being the library's; other blocks
    as they are."""
    rng, ours = instance.rng(3), factors.exact(instance.forward_pass)
    gamma, rule = 10 ** rng.uniform(-3, 1), str(rng.choice(list(NORMS)))
    damped, deviations = damping.damp(ours, gamma, rule), []
    for (i, j), G in ours.G.items():
        A, pi = ours.A[i - 1, j - 1], float(damping.pi(ours.A[i - 1, i - 1], ours.G[i, i], rule))
        expected: np.ndarray = np.kron(A, G)
        if i == j:
            residual = pi * gamma * np.kron(np.eye(len(A)), G) + gamma / pi * np.kron(A, np.eye(len(G)))
            expected = expected + residual + gamma**2 * np.eye(len(expected))
        deviations.append(apart(np.kron(damped.A[i - 1, j - 1], damped.G[i, j]), expected, 50))
    return worst(*deviations)


def factorised(instance: Instance) -> Deviation:
    """RᵀR of every factorised damped factor, with its inverse; the smallest pivots are positive."""
    ours, gamma = factors.exact(instance.forward_pass), 10 ** instance.rng(3).uniform(-1.5, 0)
    drawn = enumerated.distribution(instance)
    A, G = enumerated.damped(drawn.A(), drawn.G(), gamma)
    roots = damping.factorise(ours, gamma)
    pairs = [(R, A[i, i]) for i, R in enumerate(roots.A)] + [(R, G[i, i]) for i, R in enumerate(roots.G, start=1)]
    saturation = enumerated.saturation(instance)
    return worst(
        *(apart(R.T @ R, np.linalg.inv(M), 200, saturation * float(np.linalg.cond(M))) for R, M in pairs),
        Deviation(float(not np.all(np.asarray(roots.pivots) > 0)), 0.5),
    )


def minimiser(instance: Instance) -> Deviation:
    """α, μ, M(δ) − M(0) and ‖δ‖ for Δ = −F̆⁻¹∇h and a random δ₀, with the dense F of the first cases.

    δ* is compared with least squares in the square root of F + (λ+η)I; ∇M(δ*) is 0 along Δ and δ₀. α alone likewise,
    and μ is then 0. δ₀ may be much shorter than Δ, or longer.
    """
    rng = instance.rng(3)
    cases, eta, lam = int(rng.integers(1, instance.cases + 1)), 10 ** rng.uniform(-5, -1), 10 ** rng.uniform(-2, 1)
    theta = enumerated.vec(instance.parameters)
    gradient = enumerated.distribution(instance, instance.Y).gradient + eta * theta
    slopes = enumerated.unvec(gradient, instance)
    inverse = block_diagonal.invert(damping.factorise(factors.exact(instance.forward_pass), math.sqrt(lam + eta)))
    proposal = [-u for u in inverse.apply(slopes)]
    length = 10 ** rng.uniform(-6, 6)
    previous = [length * rng.standard_normal(v.shape) for v in proposal]
    products = quadratic.inner_products(instance.forward_pass, slopes, [proposal, previous], cases)

    F = enumerated.distribution(instance, cases=cases).fisher + (lam + eta) * np.eye(len(theta))
    R = np.linalg.cholesky(F).T
    span = np.stack([enumerated.vec(proposal), enumerated.vec(previous)], axis=1)
    deviations = []
    for pick in ([0], [0, 1]):
        S = span[:, pick]
        model = quadratic.minimise(products, lam + eta, pick)
        coefficients = np.array([model.alpha, model.mu])[: len(pick)]
        scale = np.linalg.norm(R @ S, axis=0)
        # ½‖Rδ + R⁻ᵀ∇h‖² is M but for a constant
        best = np.linalg.lstsq(R @ S / scale, -np.linalg.solve(R.T, gradient))[0] / scale
        condition = float(np.linalg.cond(R @ S / scale)) ** 2
        delta, size = S @ coefficients, np.linalg.norm(np.linalg.solve(R.T, gradient))
        change = 0.5 * delta @ F @ delta + gradient @ delta
        deviations += [
            Deviation(abs(model.mu) if pick == [0] else 0.0, 0.0),
            apart(coefficients * scale, best * scale, 200, condition),
            small(S.T @ (F @ delta + gradient) / scale, size, 200, condition),
            apart(model.change, change, 200, condition * float(size**2 / abs(change))),
            apart(
                model.norm, np.linalg.norm(delta), 200, condition * float(np.linalg.norm(S * coefficients) / model.norm)
            ),
        ]
    return worst(*deviations)


def ratio(instance: Instance) -> Deviation:
    """ρ of a linear model, along a random direction: h is M less ½λ‖δ‖², so that ρ = 1 − ½λ‖δ‖²/(M(δ) − M(0)) ≥ 1."""
    rng = instance.rng(3)
    eta, lam, theta = float(rng.random()), float(rng.random()), instance.parameters
    gradient = enumerated.distribution(instance, instance.Y).gradient + eta * enumerated.vec(theta)
    direction = [rng.standard_normal(W.shape) for W in theta]
    products = quadratic.inner_products(
        instance.forward_pass, enumerated.unvec(gradient, instance), [direction], instance.cases
    )
    model = quadratic.minimise(products, lam + eta, [0])
    delta = [model.alpha * v for v in direction]
    moved = [W + d for W, d in zip(theta, delta, strict=True)]
    before, after = (
        float(loss(ForwardPass(instance.network, W, instance.X), instance.Y, eta).h) for W in (theta, moved)
    )
    rho = optimizer.reduction_ratio(before, after, model.change)
    expected = 1 - 0.5 * lam * np.sum(enumerated.vec(delta) ** 2) / model.change
    return apart(rho, expected, 200, before / abs(model.change))


STATEMENTS = (
    Statement(
        "pi",
        "§6.3",
        "π minimises the bound (γ/π)‖Ā⊗I‖ + πγ‖I⊗G‖ of the residual",
        "trace and Frobenius norm of dense matrices, a numerical minimiser: |Δ log π|; allowed: 50 √ε",
        Space(outputs=(2, 5)),
        pi,
        50,
    ),
    Statement(
        "damped-product",
        "§6.3",
        "factored Tikhonov adds πγ I⊗G + (γ/π) Ā⊗I + γ² I to Ā⊗G",
        "every block, both rules for π, by numpy.kron; allowed: 50 ε",
        Space(outputs=(2, 5)),
        damped_product,
        50,
    ),
    Statement(
        "damped-factors",
        "§6.3",
        "RᵀR inverts each damped factor, Ā + πγI and G + (γ/π)I",
        "with dense inverses, π by traces of moments over every y; allowed: 200 ε κ/min φ′",
        Space(),
        factorised,
        50,
    ),
    Statement(
        "alpha-and-mu",
        "§6.4, §7",
        "α and μ minimise M over span{Δ, δ₀}",
        "with least squares, ∇M = 0 along Δ and δ₀, M(δ) − M(0), ‖δ‖; F dense; allowed: 200 ε κ",
        Space(),
        minimiser,
        50,
    ),
    Statement(
        "rho",
        "§6.5",
        "ρ of a quadratic h is 1 − ½λ‖δ‖²/(M(δ) − M(0))",
        "linear models under the Gaussian likelihood, h before and after; allowed: 200 ε h/|M(δ) − M(0)|",
        Space(layers=(1, 1), likelihoods=("gaussian",)),
        ratio,
        50,
    ),
)
