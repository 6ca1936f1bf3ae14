"""Targets that are smoothed, (1 − ε) y + ε/C for C classes: the empirical G and the gradient of such a loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kfac_ref.oracle import fits
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import SHARINGS, References
from kfac_ref.oracle.verdict import Explanation

USUAL = (0.1, 0.05, 0.2, 0.01, 0.15, 0.3)
"""ε that people set."""


def smoothed_G(theirs: np.ndarray, layer: int, references: References) -> Iterator[Candidate]:
    """The empirical G of smoothed targets: a square in ε, which is solved for where theirs (d, d) is large enough."""
    likelihood = references.network.likelihood
    if likelihood.name != "categorical" or len(theirs) != references.d(layer):
        return
    Y = references.case.Y
    away = Y - likelihood.positions / references.network.outputs
    Dz = np.stack([likelihood.derivative(references.z, Y), away])
    for sharing in references.sharings(layer):
        g = np.einsum("knc,cntd->kntd", Dz, references.derivatives(layer, sharing))
        g = g.reshape(2, -1, g.shape[-1])
        M = [a.T @ b / references.cases for a, b in ((g[0], g[0]), (g[0], g[1]), (g[1], g[1]))]
        terms = [M[0], M[1] + M[1].T, M[2]]
        known = list(USUAL)
        fit = fits.regress(theirs, terms) if len(theirs) > 2 else None
        if fit is not None and fit[1] <= fits.rounding(theirs) and fit[0][0] != 0:
            known += [fit[0][1] / fit[0][0]]
        for epsilon in known:
            if 0 < epsilon < 1:
                G = terms[0] + epsilon * terms[1] + epsilon**2 * terms[2]
                cost = 1.5 + (0.0 if epsilon in USUAL else 1.0) + SHARINGS.get(sharing or "", 0.0)
                yield Candidate(G, claim(fisher="empirical", sharing=sharing, notes=(_said(epsilon),), cost=cost))


def smoothed_gradient(
    U: np.ndarray, layer: int, columns: slice, references: References, says: Explanation, tolerance: float
) -> Iterator[Explanation]:
    """s((1 − ε) ∇L + ε ∇L′) as what U (d, p) is, L′ being the loss with the same target for all classes; ηθ as in ∇h,
    unless s is not 1."""
    likelihood = references.network.likelihood
    if likelihood.name != "categorical" or U.size < 4:
        return
    both = [x[layer - 1][:, columns] for x in (references.gradient, references.uniform_gradient)]
    rest = U - references.case.eta * references.case.parameters[layer - 1][:, columns]
    fit = fits.regress(rest, both)
    if fit is None or fit[1] > tolerance:
        return
    s = float(fit[0].sum())
    epsilon = float(fit[0][1]) / s if s else 0.0
    part = abs(fit[0][1]) * np.linalg.norm(both[1]) / np.linalg.norm(U)
    if not 0 < epsilon < 1 or part < 30 * tolerance or (references.case.eta and abs(s - 1) > 1e-6):
        return
    usual = [e for e in USUAL if abs(epsilon / e - 1) < 1e-4]
    said = replace(says, notes=(*says.notes, _said(*(usual or [epsilon]))), cost=says.cost + (1.5 if usual else 2.5))
    yield fits.with_scale(said, s, fit[1], tolerance, references.symbols())


def _said(epsilon: float) -> str:
    return f"label smoothing {epsilon:.4g}"
