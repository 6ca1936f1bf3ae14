"""The exact Fisher F = E_x[Jᵀ F_R J], targets from the model's own distribution: products and forms (§2, App. C)."""

from __future__ import annotations

from collections.abc import Sequence

from autodiff.arrays import Array, namespace
from autodiff.network import Parameters
from autodiff.passes import ForwardPass


def quadratic_forms(forward_pass: ForwardPass, directions: Sequence[Parameters], cases: int | None = None) -> Array:
    """uᵀFv for all pairs of r directions, by forward-mode passes alone (App. C).

    F is the mean over the first `cases` cases of the batch (default: all). (r, r), float64, on the device.
    """
    cases = forward_pass.cases if cases is None else cases
    likelihood = forward_pass.network.likelihood
    total: Array = 0.0
    for _, activities in forward_pass.chunks(cases):
        J = forward_pass.forward_mode(activities, directions)
        xp = namespace(J)
        left = xp.reshape(J, (len(directions), -1))
        right = xp.reshape(likelihood.fisher_product(activities.z, J), (len(directions), -1))
        total = total + xp.astype(left @ right.T, xp.float64)
    return total / cases


def product(forward_pass: ForwardPass, v: Parameters, cases: int | None = None) -> Parameters:
    """Fv = E_x[Jᵀ F_R (Jv)] by one forward-mode and one backward pass, mean over the first `cases` cases (App. C)."""
    cases = forward_pass.cases if cases is None else cases
    likelihood = forward_pass.network.likelihood
    total = [0 * w for w in v]
    for _, activities in forward_pass.chunks(cases):
        Jv = forward_pass.forward_mode(activities, [v])[0, :, :]
        parts = forward_pass.pull_back(activities, likelihood.fisher_product(activities.z, Jv))
        total = [t + part / cases for t, part in zip(total, parts, strict=True)]
    return total
