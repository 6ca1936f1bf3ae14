"""One factor for all layers of a preconditioned gradient: a KL clip, a clipped norm; recognised where with it a number
comes out that somebody chose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from kfac_ref.curvature import fisher
from kfac_ref.oracle.references import References

RATES = (1.0, 0.1, 0.01, 0.001, 0.5, 0.05, 0.2, 0.02, 0.3, 0.03, 0.003)
"""Learning rates that a KL clip may have in it."""
KAPPAS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 2e-3, 5e-3, 2e-2, 5e-2)
LARGEST_FORM = 3_000_000
"""Parameters up to which ΔᵀFΔ is computed."""


def named_clip(
    nu: float, directions: Sequence[np.ndarray], gradient: Sequence[np.ndarray], references: References, precise: float
) -> str:
    """What a factor ν common to all layers may be.

    Parameters
    ----------
    nu : as found, to a relative precision `precise`
    directions : Δ_i before it, of all layers, of the shapes of W_1 … W_ℓ
    gradient : what was preconditioned, of the same shapes
    """
    inner = float(sum(np.vdot(u, v) for u, v in zip(directions, gradient, strict=True)))
    size, size_g = (float(np.sqrt(sum(np.vdot(x, x) for x in xs))) for xs in (directions, gradient))
    if abs(nu * size / size_g - 1) < 10 * precise:
        return "the result scaled to the gradient's norm"
    clip = nu**2 * inner
    if inner > 0 and (read := _clip(clip, precise)):
        return f"KL clip: scaled by sqrt(kappa/(lr^2 <Delta, grad h>)) = {nu:.6g}, {read}"
    delta = np.concatenate([u.ravel(order="F") for u in directions])
    if len(delta) <= LARGEST_FORM:
        F_delta = fisher.matmat(references.case.forward_pass, delta[:, None], None)[:, 0]
        form = nu**2 * float(delta @ F_delta) / 2
        if form > 0 and (read := _clip(form, precise)):
            return f"KL clip (trust region): scaled by sqrt(2 kappa/(lr^2 Delta^T F Delta)) = {nu:.6g}, {read}"
    for value, what in ((nu * size, "the result's norm clipped to"), (nu * size_g, "the gradient's norm clipped to")):
        if (chosen := _round(value, precise)) is not None:
            return f"{what} {chosen:g}"
    such = f", such as a KL clip with kappa/lr^2 = {clip:.6g}" if 0 < nu < 1 and inner > 0 else ""
    return f"one factor for all layers{such}"


def _clip(value: float, precise: float) -> str | None:
    """κ/lr² as two numbers that people choose."""
    for lr, kappa in product(RATES, KAPPAS):
        if abs(value * lr**2 / kappa - 1) <= 10 * precise:
            tail = "" if lr == 1 else f" (kappa = {kappa:g} and lr = {lr:g}, say)"
            return f"kappa/lr^2 = {value:.6g}{tail}"
    chosen = _round(value, precise)
    return None if chosen is None else f"kappa/lr^2 = {chosen:g}"


def _round(value: float, precise: float) -> float | None:
    """The number of one digit, or in float64 of two, that it is."""
    chosen = float(f"{value:.{2 if precise < 1e-6 else 1}g}")
    return chosen if chosen and abs(value / chosen - 1) <= 10 * precise else None
