"""What somebody else's gradient is: its scale, its sign, whether it has ηθ, and its layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kfac_ref.oracle import fits
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import References
from kfac_ref.oracle.smoothing import smoothed_gradient
from kfac_ref.oracle.verdict import Explanation


def part_of(matrix: np.ndarray, columns: int, part: str) -> np.ndarray:
    """Of a layer's `matrix` (d, n+1): all, the weights' part (d, n) where there are only n columns, or the bias (d,
    1)."""
    if part == "bias":
        return matrix[:, -1:]
    return matrix[:, :columns]


def explain_gradient(theirs: np.ndarray, layer: int, references: References, part: str = "") -> list[Explanation]:
    """Explanations of theirs, a layer's gradient (its weights' or bias's part) in any shape that `layouts.arrangements`
    reads, whether they fit or not."""
    eta = references.case.eta
    # a mean over locations in the place of their sum
    symbols = replace(references.symbols(), T=references.locations(layer))
    tolerance = fits.rounding(theirs)
    found = []
    for a in references.arrangements(theirs, layer, part):
        U = a.matrix
        loss, h, W = (
            part_of(x[layer - 1], U.shape[1], part)
            for x in (references.gradient, references.regularised, references.case.parameters)
        )
        says = claim(bias=a.bias, layout=a.layout, cost=a.cost)
        candidates = [Candidate(h, replace(says, expected=a.own))]
        if eta:
            without = ("eta*theta left out",)
            candidates.append(Candidate(loss, replace(says, notes=without, cost=says.cost + 0.5)))
        found += fits.scaled(U, candidates, symbols, unknowns=U.size, dtype_of=theirs)
        found += list(_decayed(U, loss, W, a.bias in ("last", "first"), says, references, tolerance))
        columns = slice(-1, None) if part == "bias" else slice(0, U.shape[1])
        if not any(e.fits and e.expression for e in found):
            found += list(smoothed_gradient(U, layer, columns, references, says, tolerance))
    return found


def _decayed(
    U: np.ndarray,
    loss: np.ndarray,
    W: np.ndarray,
    biased: bool,
    says: Explanation,
    references: References,
    tolerance: float,
) -> Iterator[Explanation]:
    """c(∇L + bθ), the biases' θ too or not: b is solved for."""
    eta = references.case.eta
    weights = W.copy()
    weights[:, -1] = 0
    for theta, which in ((W, ""), (weights, ", not of biases,")) if biased else ((W, ""),):
        both = fits.regress(U, [loss, theta])
        if both is None or U.size < 4:
            continue
        (c, e), residual = both
        small = abs(e) * np.linalg.norm(theta) < 30 * tolerance * np.linalg.norm(U)
        if residual > tolerance or small or abs(c) * np.linalg.norm(loss) < 30 * tolerance * np.linalg.norm(U):
            continue
        if eta and abs(e - eta) <= 1e-4 * eta and not which:
            said = replace(says, notes=("the loss scaled, eta*theta not",), cost=says.cost + 1.0)
        else:
            note = f"{e:.6g}*theta{which or ''} added"
            said = replace(says, notes=(note,), added=float(e), cost=says.cost + (2.4 if which else 2.0))
        yield fits.with_scale(said, c, residual, tolerance, references.symbols())
