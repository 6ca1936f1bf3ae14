"""The Fisher by all routes: products, forms, blocks, sums over all targets, Monte Carlo; and the empirical Fisher (§2).

What is compared with comes from `enumerated`: the outer products of 𝒟θ, case by case and target by target.
"""

from __future__ import annotations

import math

import numpy as np

from kfac_ref.curvature import factors, fisher
from validation.theorems import enumerated
from validation.theorems.comparison import apart, small
from validation.theorems.enumerated import Distribution
from validation.theorems.statement import Deviation, Instance, Space, Statement, worst

SAMPLES = 1000
"""Targets drawn for each case, for the Monte-Carlo route."""
CHANCE = 1e-9
"""The probability of a Monte-Carlo estimate being farther off than its tolerance is at most this."""


def dense(instance: Instance) -> Deviation:
    """The dense matrix, and all of its blocks by themselves."""
    forward_pass, F = instance.forward_pass, enumerated.distribution(instance).fisher
    layers = range(1, instance.network.layers + 1)
    blocks = np.block([[fisher.block(forward_pass, i, j) for j in layers] for i in layers])
    return worst(apart(fisher.dense(forward_pass), F, 200), apart(blocks, F, 200))


def products(instance: Instance) -> Deviation:
    """Every column of F: all products together, one by one, by the operator, and all forms."""
    forward_pass, F = instance.forward_pass, enumerated.distribution(instance).fisher
    identity = np.eye(len(F))
    directions = [enumerated.unvec(e, instance) for e in identity]
    one_by_one = np.stack([enumerated.vec(fisher.product(forward_pass, v)) for v in directions], axis=1)
    return worst(
        apart(fisher.matmat(forward_pass, identity), F, 200),
        apart(fisher.operator(forward_pass, damping=0.5) @ identity, F + 0.5 * identity, 200),
        apart(one_by_one, F, 200),
        apart(fisher.quadratic_forms(forward_pass, directions), F, 200),
    )


def gauss_newton(instance: Instance) -> Deviation:
    """E_x[Jᵀ F_R J], J by forward mode and F_R written out."""
    forward_pass, total = instance.forward_pass, 0.0
    P = sum(p * q for p, q in instance.network.shapes)
    for _, activities in forward_pass.chunks():
        J = forward_pass.forward_mode(activities, [enumerated.unvec(e, instance) for e in np.eye(P)])
        for n, z in enumerate(activities.z):
            total = total + J[:, n] @ enumerated.output_fisher(instance.likelihood, z) @ J[:, n].T / instance.cases
    return apart(total, enumerated.distribution(instance).fisher, 200)


def forms(instance: Instance) -> Deviation:
    """uᵀFv and Fv of random u and v, F being that of the first cases, relative to ‖F‖‖u‖‖v‖."""
    rng = instance.rng(3)
    cases = int(rng.integers(1, instance.cases + 1))
    F = enumerated.distribution(instance, cases=cases).fisher
    V = rng.standard_normal((len(F), 3))
    V /= np.linalg.norm(V, axis=0)
    directions = [enumerated.unvec(v, instance) for v in V.T]
    ours = fisher.quadratic_forms(instance.forward_pass, directions, cases)
    products = [enumerated.vec(fisher.product(instance.forward_pass, v, cases)) for v in directions]
    size = np.linalg.norm(F)
    return worst(small(ours - V.T @ F @ V, size, 200), small(np.stack(products, axis=1) - F @ V, size, 200))


def monte_carlo(instance: Instance) -> Deviation:
    """Every entry within what Bernstein's inequality allows: sqrt(2 V x) + c x, x = log(2 entries / CHANCE).

    V is the variance of the estimate, by all targets of each case, and c/3 the largest deviation of a draw; for the
    Gaussian, the product of two normal variables of standard deviations σ_p and σ_q is sub-gamma with c = 2 σ_p σ_q.
    """
    drawn = enumerated.distribution(instance)
    second, variance, scale = _of_draws(drawn, instance)
    x = math.log(2 * second.size / CHANCE)
    V, c = variance / SAMPLES, scale / (SAMPLES * instance.cases)
    allowed = np.sqrt(2 * V * x) + c * x + 1e-12 * np.linalg.norm(second) + 1e-300  # F is 0 for a single class
    estimate = fisher.monte_carlo(instance.forward_pass, SAMPLES, (instance.seed, 4)).value
    off = float(np.max(np.abs(estimate - second) / allowed, initial=0.0))
    return worst(Deviation(off, 1.0), *_from_the_same_draws(estimate, instance))


def _from_the_same_draws(estimate: np.ndarray, instance: Instance) -> list[Deviation]:
    """FV and the blocks of G against the estimate of F; a layer's biases are its last parameters, and 𝒟 of them is g_i.

    As the same few y are drawn again and again, sums of equal numbers are rounded, all in the same direction.
    """
    forward_pass, key, d = instance.forward_pass, (instance.seed, 4), instance.sizes
    V = instance.rng(5).standard_normal((len(estimate), 2))
    product = fisher.monte_carlo(forward_pass, SAMPLES, key, V).value
    G, blocks = factors.sampled(forward_pass, SAMPLES, key).G, enumerated.split(estimate, instance)
    draws = SAMPLES * instance.cases
    deviations = [small(product - estimate @ V, np.linalg.norm(estimate) * np.linalg.norm(V), draws)]
    for (i, j), g in G.items():
        size = math.sqrt(np.linalg.norm(G[i, i]) * np.linalg.norm(G[j, j]))
        deviations.append(small(g - blocks[i, j][-d[i] :, -d[j] :], size, draws))
    return deviations


def _of_draws(drawn: Distribution, instance: Instance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F, the variance of its estimate from one draw for each case, and c, all (P, P)."""
    second, variance, scale = 0.0, 0.0, np.zeros(())
    for n in range(instance.cases):
        rows = drawn.case == n
        p, D = drawn.weights[rows] * instance.cases, drawn.derivatives[rows]
        of_case = (D.T * p) @ D
        variance = variance + ((D.T**2 * p) @ D**2 - of_case**2).clip(0) / instance.cases**2
        second = second + of_case / instance.cases
        deviation = np.sqrt(np.diag(of_case))
        far = 2 * np.outer(deviation, deviation)
        if instance.likelihood != "gaussian":
            far = np.max([np.abs(np.outer(d, d) - of_case) for d in D], axis=0) / 3
        scale = np.maximum(scale, far)
    return np.asarray(second), np.asarray(variance), scale


def standard_error(instance: Instance) -> Deviation:
    """Σ over the entries of (standard error)² against the variance by all targets, in units of its own deviation.

    A case contributes the mean over its draws of ‖𝒟θ 𝒟θᵀ − F_x‖², whose variance is had by all targets, too, less the
    square of what the mean of its draws is off, of which 36 times its expectation is allowed: where all y are nearly as
    far from the mean, that is what is left.
    """
    drawn, total, spread = enumerated.distribution(instance, nodes=5), 0.0, 0.0
    for n in range(instance.cases):
        rows = drawn.case == n
        p, D = drawn.weights[rows] * instance.cases, drawn.derivatives[rows]
        of_case = (D.T * p) @ D
        distance = np.sum((D[:, :, None] * D[:, None, :] - of_case) ** 2, axis=(1, 2))
        total += p @ distance
        spread += p @ (distance - p @ distance) ** 2
    unit = SAMPLES * instance.cases**2
    estimate = fisher.monte_carlo(instance.forward_pass, SAMPLES, (instance.seed, 5)).standard_error
    off = abs(np.sum(estimate**2) - total / unit)
    allowed = (6 * math.sqrt(spread / SAMPLES) + 36 * total / SAMPLES) / unit
    return Deviation(float(off / allowed) if off else 0.0, 1.0)


def empirical(instance: Instance) -> Deviation:
    """The empirical Fisher: dense, its blocks, products, operator, and the blocks of G, by the outer products."""
    forward_pass, Y = instance.forward_pass, instance.Y
    given = enumerated.distribution(instance, Y)
    F, G = given.fisher, given.G()
    layers = range(1, instance.network.layers + 1)
    blocks = np.block([[fisher.block(forward_pass, i, j, Y) for j in layers] for i in layers])
    ours = factors.empirical(forward_pass, Y).G
    condition = 1 / given.residual
    routes = (
        fisher.dense_empirical(forward_pass, Y),
        blocks,
        fisher.matmat(forward_pass, np.eye(len(F)), Y),
        fisher.operator(forward_pass, targets=Y) @ np.eye(len(F)),
    )
    return worst(
        *(apart(route, F, 200, condition) for route in routes),
        *(apart(ours[index], G[index], 200, condition * enumerated.saturation(instance)) for index in G),
    )


EVERY = Space()
DRAWN = Space(layers=(1, 3), width=(1, 3))

STATEMENTS = (
    Statement(
        "fisher-dense",
        "§2",
        "F = E[𝒟θ 𝒟θᵀ], y from the model",
        "the dense matrix and its blocks, with the outer products of 𝒟θ over every y of every case; allowed: 200 ε",
        EVERY,
        dense,
        50,
    ),
    Statement(
        "fisher-products",
        "§2",
        "F by products and by forms is the same",
        "Fe of every unit vector e, together, one by one and by the operator, and all forms; allowed: 200 ε",
        EVERY,
        products,
        50,
    ),
    Statement(
        "fisher-gauss-newton",
        "§2",
        "F = E_x[Jᵀ F_R J], the generalised Gauss–Newton matrix",
        "J by forward mode and F_R written out, with the outer products of 𝒟θ over every y; allowed: 200 ε",
        EVERY,
        gauss_newton,
        50,
    ),
    Statement(
        "fisher-forms",
        "App. C",
        "uᵀFv and Fv by passes, on the first cases of a batch",
        "random u and v, with the dense matrix of those cases; allowed: 200 ε ‖F‖‖u‖‖v‖",
        EVERY,
        forms,
        50,
    ),
    Statement(
        "fisher-monte-carlo",
        "§2",
        "sampled y give F on average",
        f"{SAMPLES} draws a case: worst entry beside Bernstein's bound, exceeded by chance in {CHANCE:g} of instances; "
        "FV and G from the same draws: ε for each",
        DRAWN,
        monte_carlo,
        50,
    ),
    Statement(
        "fisher-standard-error",
        "§2",
        "the Monte-Carlo standard error is that of the draws",
        "Σ (standard error)² with the variance over every y; 1 is 6 of its own standard deviations and "
        f"{36 / SAMPLES:.1%} of it",
        Space(layers=(1, 2), width=(1, 2)),
        standard_error,
        40,
    ),
    Statement(
        "fisher-empirical",
        "§2",
        "the empirical Fisher by all routes",
        "all, and G, with the outer products of 𝒟θ at the data's y; allowed: 200 ε/|𝒟z|, for G 200 ε/(min φ′ |𝒟z|)",
        EVERY,
        empirical,
        50,
    ),
)
