"""What is a derivative is compared with differences: ∇h, and F as the Hessian of the KL divergence (§2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autodiff.objective import loss, loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref.curvature import fisher
from validation.theorems import enumerated
from validation.theorems.comparison import apart, differentiated
from validation.theorems.statement import Deviation, Instance, Space, Statement, worst

DIFFERENCES = 1e-9 / np.finfo(np.float64).eps
"""Roundings allowed where differences are extrapolated: 1e-9, of which rounding is about 1e-12."""


def _moved(instance: Instance, t: float, direction: np.ndarray) -> list[np.ndarray]:
    """θ + t·direction as W_1 … W_ℓ."""
    return enumerated.unvec(enumerated.vec(instance.parameters) + t * direction, instance)


def gradient(instance: Instance) -> Deviation:
    """∇h by the backward pass, with differences of h along every parameter; h itself with the sum of the losses."""
    eta = float(instance.rng(3).random())
    value, ours = loss_and_gradient(instance.forward_pass, instance.Y, eta)

    def slope(direction: np.ndarray) -> np.ndarray:
        return differentiated(lambda t: enumerated.h(instance, _moved(instance, t, direction), eta))

    theirs = [slope(e) for e in np.eye(sum(p * q for p, q in instance.network.shapes))]
    h = enumerated.h(instance, instance.parameters, eta)
    again = loss(instance.forward_pass, instance.Y, eta).h
    return worst(
        apart(enumerated.vec(ours), np.array(theirs), DIFFERENCES), apart(value.h, h, 100), apart(again, h, 100)
    )


def forward_mode(instance: Instance) -> Deviation:
    """Jv of every case, with differences of the outputs along v."""
    forward_pass = instance.forward_pass
    (_, activities), *_ = forward_pass.chunks()
    direction = instance.rng(3).standard_normal(sum(p * q for p, q in instance.network.shapes))
    direction /= np.linalg.norm(direction)

    ours = forward_pass.forward_mode(activities, [enumerated.unvec(direction, instance)])[0]
    theirs = differentiated(lambda t: np.stack(_outputs(instance, _moved(instance, t, direction))))
    return apart(ours, theirs, DIFFERENCES)


def hessian_of_divergence(instance: Instance) -> Deviation:
    """F, with differences of the gradient of KL(R_{y|f(x,θ)} ‖ R_{y|f(x,θ′)}) in θ′, at θ′ = θ, where it is 0.

    That gradient is the loss's at θ′ with the targets E[y|f(x, θ)], as the divergence is that loss but for a constant.
    """
    (_, activities), *_ = instance.forward_pass.chunks()
    targets = np.stack([enumerated.mean(instance.likelihood, z) for z in activities.z])

    def slope(W: list[np.ndarray]) -> np.ndarray:
        return enumerated.vec(loss_and_gradient(ForwardPass(instance.network, W, instance.X), targets, 0.0)[1])

    def curvature(direction: np.ndarray) -> np.ndarray:
        return differentiated(lambda t: slope(_moved(instance, t, direction)))

    F = fisher.dense(instance.forward_pass)
    return apart(F, np.stack([curvature(e) for e in np.eye(len(F))], axis=1), DIFFERENCES)


def divergence(instance: Instance) -> Deviation:
    """vᵀFv of a random v, with the second derivative of KL(θ ‖ θ + tv), each divergence a sum over all y."""
    direction = instance.rng(3).standard_normal(sum(p * q for p, q in instance.network.shapes))
    direction /= np.linalg.norm(direction)
    here = _outputs(instance, instance.parameters)

    def half(t: float) -> float:
        # KL/t, whose derivative at 0 is half of the second derivative of KL
        return _divergence(instance.likelihood, here, _outputs(instance, _moved(instance, t, direction))) / t

    ours = fisher.quadratic_forms(instance.forward_pass, [enumerated.unvec(direction, instance)])[0, 0]
    return apart(ours, 2 * differentiated(half), 10 * DIFFERENCES)


def _outputs(instance: Instance, W: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [enumerated.forward(instance, W, x)[0][-1] for x in instance.X]


def _divergence(name: str, here: Sequence[np.ndarray], there: Sequence[np.ndarray]) -> float:
    """KL(R_{y|z} ‖ R_{y|z′}), mean over cases: E[u], u = L(y, z′) − L(y, z), y from R_{y|z}."""
    total = 0.0
    for z, moved in zip(here, there, strict=True):
        p, Y = enumerated.outcomes(name, z)
        u = np.array([enumerated.nll(name, moved, y) - enumerated.nll(name, z, y) for y in Y])
        # E[e^−u − 1] = 0; added, it takes from every term what would cancel in the sum only
        total += p @ (u if name == "gaussian" else u + np.expm1(-u))
    return total / len(here)


FEW = Space(layers=(1, 3), width=(1, 3), outputs=(2, 3), cases=(1, 6))
ORDER = "extrapolated over steps ⅛ … 1/128; allowed: 1e-9"

STATEMENTS = (
    Statement(
        "gradient-differences",
        "§2",
        "the backward pass gives ∇h",
        f"central differences of h along every parameter, {ORDER}",
        FEW,
        gradient,
        40,
    ),
    Statement(
        "forward-mode-differences",
        "App. C",
        "the forward-mode pass gives Jv",
        f"central differences of all outputs along a random v, {ORDER}",
        FEW,
        forward_mode,
        50,
    ),
    Statement(
        "fisher-hessian-of-kl",
        "§2",
        "F is the Hessian of the KL divergence at distance zero",
        f"central differences of the divergence's gradient along every parameter, {ORDER}",
        FEW,
        hessian_of_divergence,
        50,
    ),
    Statement(
        "fisher-kl-distance",
        "§2",
        "KL(θ ‖ θ + tv) = ½ t² vᵀFv + …",
        "second differences of the divergence, summed over every y, along a random v, extrapolated; allowed: 1e-8",
        FEW,
        divergence,
        50,
    ),
)
