"""What somebody else's Kronecker factors are: A_i, G_i, and a lone G for the bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kfac_ref.curvature import damping
from kfac_ref.oracle import fits
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import FISHERS, SHARINGS, References, dear
from kfac_ref.oracle.shared_rows import homogeneous, other_rows
from kfac_ref.oracle.smoothing import smoothed_G
from kfac_ref.oracle.together import positions_together
from kfac_ref.oracle.verdict import Explanation


def explain_A(theirs: np.ndarray, layer: int, references: References, separate: bool) -> list[Explanation]:
    """Explanations of theirs (n, n), an A of `layer` (i, its reference being Ā_{i−1,i−1}), whether they fit or not.

    Parameters
    ----------
    separate : bool
        Whether the bias has a block of its own; else, where it is missing, it is absent.
    """
    found = _explain(theirs, [*_A(layer, references, separate), *_swapped(_G(layer, references))], layer, references)
    if any(e.fits for e in found):
        return found
    # rows in another order are many, and tried where nothing else fits
    return found + _explain(theirs, list(other_rows(theirs, layer, references, separate)), layer, references)


def explain_G(theirs: np.ndarray, layer: int, references: References) -> list[Explanation]:
    """Explanations of theirs (n, n), a G of `layer`, or the G of its bias, whether they fit or not."""
    candidates = [*_G(layer, references), *_swapped(_A(layer, references, separate=False))]
    found = _explain(theirs, candidates, layer, references)
    if any(e.fits for e in found):
        return found
    return found + _explain(theirs, list(smoothed_G(theirs, layer, references)), layer, references)


def _A(layer: int, references: References, separate: bool) -> list[Candidate]:
    found = []
    for sharing in references.sharings(layer):
        A, dear = references.A(layer, sharing), SHARINGS.get(sharing or "", 0.0)
        if not references.bias(layer):
            found.append(Candidate(A, claim(sharing=sharing, expected=True, cost=dear)))
            continue
        n = len(A)
        first = np.r_[n - 1, : n - 1]
        weights, mean = A[:-1, :-1], A[:-1, -1]
        missing = "separate" if separate else "absent"
        centred = ("activities centred (covariance, not second moment)",)
        found += [
            Candidate(A, claim(sharing=sharing, bias="last", expected=True, cost=dear)),
            Candidate(A[np.ix_(first, first)], claim(sharing=sharing, bias="first", cost=0.5 + dear)),
            Candidate(weights, claim(sharing=sharing, bias=missing, cost=0.5 + dear)),
        ]
        if sharing != "kfc":
            # Σ over locations and the mean over cases alone is a covariance of nothing
            covariance = weights - np.outer(mean, mean)
            found.append(Candidate(covariance, claim(sharing=sharing, bias=missing, notes=centred, cost=3.0 + dear)))
    return [*found, *homogeneous(layer, references)]


def _G(layer: int, references: References) -> list[Candidate]:
    found = [
        Candidate(
            references.G(layer, kind, sharing),
            claim(
                fisher=FISHERS[kind],
                sharing=sharing,
                cost=dear(kind) + SHARINGS.get(sharing or "", 0.0),
                expected=kind == "exact",
            ),
        )
        for kind in references.kinds
        for sharing in references.sharings(layer)
    ]
    identity = np.eye(len(found[0].matrix))
    found.append(Candidate(identity, claim(fisher="identity", cost=0.4)))
    return [*found, *positions_together(layer, references)]


def _swapped(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates for the other factor."""
    return [
        Candidate(c.matrix, replace(c.says, layout="A and G swapped", cost=c.says.cost + 2.5, expected=False))
        for c in candidates
    ]


def _explain(theirs: np.ndarray, candidates: list[Candidate], layer: int, references: References) -> list[Explanation]:
    symbols = references.symbols(layer)
    found = [fits.from_zero(e, symbols) for e in fits.scaled(theirs, candidates, symbols)]
    return found + fits.averaged_or_damped(theirs, candidates, symbols, _dampings(layer, references))


def _dampings(layer: int, references: References) -> dict[str, float]:
    """What may have been added to the diagonal of a factor of `layer`."""
    table: dict[str, float] = {}
    A, G = references.A(layer), references.G(layer, "exact")
    for name, value in references.dampings().items():
        root = np.sqrt(value)
        table |= {name: value, f"sqrt({name})": root}
        for norm in damping.PI_NORMS:
            p = float(damping.pi(A, G, norm))
            table |= {f"pi*sqrt({name}) ({norm})": p * root, f"sqrt({name})/pi ({norm})": root / p}
    return {name: value for name, value in table.items() if value > 0}
