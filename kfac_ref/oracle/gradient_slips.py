"""Where a gradient goes wrong: derivatives or activities from another place, the mean taken before the product, other
cases, targets sampled from the model in place of the data's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from kfac_ref.oracle import fits
from kfac_ref.oracle.case_slips import FORMS, MOST_CASES, NEAR, Choice, choices
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.gradient_checks import part_of
from kfac_ref.oracle.hook_slips import Slip, of_choice, slip_of
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.order_slips import MEAN_FIRST, mean_first, moment
from kfac_ref.oracle.places import Rows, activity_rows, derivative_rows
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

SAMPLED = "targets sampled from the model in place of the data's"


def explain_gradient_slips(
    theirs: np.ndarray, layer: int, references: References, part: str = "", only: Collection[Slip] | None = None
) -> list[Explanation]:
    """Explanations by slips of theirs, a layer's gradient (its weights' or bias's part) in any shape that
    `layouts.arrangements` reads, those that fit; `only` those slips."""
    if references.case.weights is not None or not references.network.has_one_row(layer):
        return []
    if only is not None and not only:
        return []
    found = []
    for a in references.arrangements(theirs, layer, part):
        for candidate in _candidates(a, theirs, layer, references, part, only):
            found += _fitted(theirs, a, candidate, references)
    return found


def _candidates(
    a: Arrangement,
    theirs: np.ndarray,
    layer: int,
    references: References,
    part: str,
    only: Collection[Slip] | None,
) -> Iterator[Candidate]:
    says, eta = claim(bias=a.bias, layout=a.layout, cost=a.cost), references.case.eta
    W = part_of(references.case.parameters[layer - 1], a.matrix.shape[1], part)
    given = [r for r in derivative_rows(layer, references) if r.fisher in ("empirical", "monte-carlo")]
    given = [replace(r, cost=r.cost - 0.4) for r in given if r.width == a.matrix.shape[0]]
    inputs = [r for r in (_part(r, a, part) for r in activity_rows(layer, references)) if r is not None]
    for candidate in _products(given, inputs, says):
        if only is None or slip_of(candidate.says) in only:
            yield from _with_decay(candidate, W, eta)
    g, x = given[0].values, inputs[0].values
    for l2 in (0.0, eta, -eta) if eta else (0.0,):
        for choice in _chosen(g, x, a.matrix - l2 * W, theirs, references.cases, only):
            for candidate in of_choice(choice, says, moment(g, x, choice.weights), references.cases):
                yield from _with_decay(candidate, W, eta)


def _products(given: list[Rows], inputs: list[Rows], says: Explanation) -> Iterator[Candidate]:
    right_g, right_a = given[0], inputs[0]
    for g in given:
        place, cost = g.place, says.cost + g.cost
        if g.fisher == "monte-carlo":
            place, cost = f"{place}; {SAMPLED}" if place else SAMPLED, cost + 1.5
        if place is not None:
            yield Candidate(moment(g.values, right_a.values), replace(says, place=place, cost=cost))
    for x in inputs:
        if x.place is not None:
            yield Candidate(moment(right_g.values, x.values), replace(says, place=x.place, cost=says.cost + x.cost))
    first = mean_first(right_g.values, right_a.values)
    yield Candidate(first, replace(says, order=MEAN_FIRST, cost=says.cost + 2.0))


def _with_decay(candidate: Candidate, W: np.ndarray, eta: float) -> Iterator[Candidate]:
    """With ηθ, and without."""
    if eta:
        yield Candidate(candidate.matrix + eta * W, candidate.says)
        notes = (*candidate.says.notes, "eta*theta left out")
        yield Candidate(candidate.matrix, replace(candidate.says, notes=notes, cost=candidate.says.cost + 0.3))
    else:
        yield candidate


def _part(rows: Rows, a: Arrangement, part: str) -> Rows | None:
    """Of rows of activities those columns that a reading has: all, the weights', or the ones of the bias."""
    x = rows.values[..., -1:] if part == "bias" else rows.values
    if part == "bias" and rows.place is not None:
        return None
    if part != "bias" and x.shape[2] == a.matrix.shape[1] + 1:
        x = x[..., :-1]
    return replace(rows, values=x) if x.shape[2] == a.matrix.shape[1] else None


def _chosen(
    g: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    theirs: np.ndarray,
    cases: int,
    only: Collection[Slip] | None,
) -> list[Choice]:
    """The choices of cases that come near to theirs."""
    if not 2 <= cases <= MOST_CASES or theirs.size < 3 or not np.any(target):
        return []
    rng = np.random.default_rng(theirs.size)
    u, v = rng.standard_normal((g.shape[2], FORMS)), rng.standard_normal((x.shape[2], FORMS))
    forms = np.einsum("rnq,rnq->nq", g @ u, x @ v)
    near = choices(cases).nearest(
        np.einsum("pq,pq->q", u, target @ v), forms, NEAR * fits.rounding(theirs), most=6 if only is None else cases
    )
    return near if only is None else [c for c in near if (None, None, c.text) in only]


def _fitted(theirs: np.ndarray, a: Arrangement, candidate: Candidate, references: References) -> list[Explanation]:
    symbols = references.symbols()
    found = fits.scaled(a.matrix, [candidate], symbols, unknowns=theirs.size, dtype_of=theirs)
    return [e for e in found if e.fits and (e.expression is not None or theirs.size >= 8)]
