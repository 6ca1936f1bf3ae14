"""Where hooks go wrong: factors of vectors from another place, of another order of mean and product, of other cases.

Looked for only where nothing that is known to be done on purpose explains a factor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kfac_ref.oracle import fits, order_slips
from kfac_ref.oracle.case_slips import FORMS as Q
from kfac_ref.oracle.case_slips import MOST_CASES, NEAR, Choice, choices
from kfac_ref.oracle.expressions import Symbols
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.order_slips import moment
from kfac_ref.oracle.places import Rows, activity_rows, derivative_rows
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

Slip = tuple[str | None, str | None, str | None]
"""Place, order and cases."""


def slip_of(e: Explanation) -> Slip:
    """What distinguishes an explanation from the right one, but for conventions."""
    return e.place, e.order, e.cases


@dataclass(frozen=True)
class Looked:
    """One reading of theirs (n, n), and the rows that it may be made of."""

    theirs: np.ndarray
    rows: Rows
    says: Explanation
    right: Rows | None = None
    """Where it is no second moment: the rows on the right, `rows` being those on the left."""


def explain_factor(
    theirs: np.ndarray,
    kind: str,
    layer: int,
    references: References,
    separate: bool,
    only: Collection[Slip] | None = None,
) -> list[Explanation]:
    """Explanations by slips of theirs (n, n), an A, G or G_bias, those that fit.

    Parameters
    ----------
    kind : "A", "G" or "G_bias"
    separate : whether the bias has a block of its own
    only : the slips that are looked for, such as those that other quantities of this check were found to have; default
        all
    """
    looked = [look for look in _readings(theirs, kind, layer, references, separate) if look.rows.width == len(theirs)]
    told = tells(theirs)
    found: list[Explanation] = []
    for look in looked:
        for candidate in _candidates(look, references, only):
            found += _fitted(look.theirs, candidate, references.symbols(layer), told)
    if told and not found and only is None:
        found += _inverted(theirs, looked, references, layer)
    return found


def open_to(e: Explanation | None) -> bool:
    """Whether a quantity may be a slip's: nothing explains it, or only numbers that nothing is known of."""
    return e is None or e.expression is None or (e.damping or "x")[0].isdigit() or " with pi = " in (e.damping or "")


def tells(theirs: np.ndarray) -> bool:
    """Whether theirs, of any shape, holds numbers enough to be one of thousands of matrices to rounding, and no
    other."""
    if not np.any(theirs):
        return False
    n = min(theirs.shape) if theirs.ndim == 2 else theirs.size
    return n >= 2 if fits.rounding(theirs) < fits.FLOAT32 else n >= 3


def _readings(theirs: np.ndarray, kind: str, layer: int, references: References, separate: bool) -> Iterator[Looked]:
    if kind != "A":
        for rows in derivative_rows(layer, references):
            says = claim(fisher=rows.fisher, sharing=rows.sharing, place=rows.place, cost=rows.cost)
            yield Looked(theirs, rows, says)
        return
    missing = "separate" if separate else "absent"
    for rows in activity_rows(layer, references):
        x, says = rows.values, claim(place=rows.place, sharing=rows.sharing, cost=rows.cost)
        if not rows.ones:
            yield Looked(theirs, rows, says)
            continue
        yield Looked(theirs, rows, replace(says, bias="last"))
        first = replace(rows, values=np.roll(x, 1, axis=2))
        yield Looked(theirs, first, replace(says, bias="first", cost=says.cost + 0.5))
        without = replace(rows, values=x[..., :-1])
        yield Looked(theirs, without, replace(says, bias=missing, cost=says.cost + 0.5))


def _candidates(look: Looked, references: References, only: Collection[Slip] | None) -> Iterator[Candidate]:
    """The matrices that theirs may be, of these rows; of those slips alone where they are given."""
    rows, says = look.rows.values, look.says
    M = moment(rows)

    def wanted(e: Explanation) -> bool:
        return only is None or slip_of(e) in only

    if says.place is not None and wanted(says):
        yield Candidate(M, says)
    for matrix, order, cost in order_slips.changed(rows, M):
        e = replace(says, order=order, cost=says.cost + cost)
        if wanted(e):
            yield Candidate(matrix, e)
    for choice in _chosen(look, references, only):
        yield from of_choice(choice, says, moment(rows, weights=choice.weights), references.cases)


def of_choice(choice: Choice, says: Explanation, M: np.ndarray, cases: int) -> Iterator[Candidate]:
    """M (n, n), the mean over some cases; and where they are not as many as all, their sum divided by the number of
    all."""
    e = replace(says, cases=choice.text, cost=says.cost + choice.cost)
    yield Candidate(M, e)
    if choice.counted != cases:
        note = (*e.notes, "their sum divided by the number of all cases")
        yield Candidate(M * (choice.counted / cases), replace(e, notes=note, cost=e.cost + 0.4))


def _chosen(look: Looked, references: References, only: Collection[Slip] | None) -> list[Choice]:
    """The choices of cases that come near to theirs."""
    N = references.cases
    # of vectors from another place it would be two slips at once
    if look.says.place is not None or not 2 <= N <= MOST_CASES or references.case.weights is not None:
        return []
    rng = np.random.default_rng(look.rows.width)
    u, v = rng.standard_normal((2, look.rows.width, Q))
    rows = look.rows.values
    forms = np.einsum("rnq,rnq->nq", rows @ u, rows @ v)
    T = look.theirs.astype(np.float64)
    target = np.einsum("pq,pq->q", u, T @ v)
    near = choices(N).nearest(target, forms, NEAR * fits.rounding(look.theirs), most=6 if only is None else N)
    return near if only is None else [c for c in near if (None, None, c.text) in only]


def _fitted(theirs: np.ndarray, candidate: Candidate, symbols: Symbols, told: bool) -> list[Explanation]:
    """The explanation, if it fits: scaled, or a running average that started from the identity."""
    if np.any(theirs) and fits.regress(theirs, [candidate.matrix]) is None:
        return []
    found = [e for e in fits.scaled(theirs, [candidate], symbols) if e.fits]
    if not found and candidate.says.cases is None and len(theirs) > 2:
        found = [e for e in fits.averaged_or_damped(theirs, [candidate], symbols, {}) if e.fits]
    found = [fits.from_zero(e, symbols) for e in found]
    # a scale without a name besides a slip takes more numbers than a few
    enough = len(theirs) >= (3 if fits.rounding(theirs) < fits.FLOAT32 else 4)
    return [e for e in found if e.expression is not None or (told and enough)]


def _inverted(theirs: np.ndarray, looked: Sequence[Looked], references: References, layer: int) -> list[Explanation]:
    """Theirs as the inverse of a factor, damped or not."""
    T = order_slips.inverse(theirs)
    if T is None:
        return []
    found = []
    symbols = references.symbols(layer)
    for look in looked:
        if look.says.place is not None:
            continue
        says = replace(look.says, order="its inverse", cost=look.says.cost + 2.0)
        candidate = Candidate(moment(look.rows.values), says)
        found += [e for e in fits.scaled(T, [candidate], symbols) if e.fits]
        found += [e for e in fits.averaged_or_damped(T, [candidate], symbols, references.dampings()) if e.fits]
    return found


def known_slips(chosen: Mapping[str, Explanation | None], arrays: Mapping[str, np.ndarray]) -> set[Slip]:
    """The slips that quantities large enough, of `arrays` of any shape, were found to have."""
    slips = {slip_of(e) for name, e in chosen.items() if e is not None and tells(arrays[name])}
    return {s for s in slips if s != (None, None, None)}
