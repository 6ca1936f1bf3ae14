"""Where a dense block, or the whole Fisher, goes wrong: the outer product of the mean gradient, its diagonal alone,
other cases, vectors from another place, a Kronecker product of such factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from kfac_ref.curvature import kronecker
from kfac_ref.oracle import fits
from kfac_ref.oracle.case_slips import FORMS, MOST_CASES, NEAR, Choice, choices
from kfac_ref.oracle.expressions import Symbols
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.hook_slips import of_choice
from kfac_ref.oracle.layouts import Order
from kfac_ref.oracle.order_slips import CENTRED, MEAN_FIRST, mean_first, moment
from kfac_ref.oracle.places import Rows, activity_rows, derivative_rows
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

LARGEST = 400
"""Rows of the largest matrix that is looked at."""
ENTRIES = 20_000_000
"""Numbers in the cases' gradients at most."""


def explain_block_slips(
    theirs: np.ndarray, layers: Sequence[int], ways: Sequence[Order], references: References
) -> list[Explanation]:
    """Explanations by slips of theirs (P, P), the block of `layers`, one or all of them, those that fit."""
    n = len(theirs)
    size = n * references.cases * references.network.outputs
    if n < 3 or n > LARGEST or size > ENTRIES or references.case.weights is not None:
        return []
    if not all(references.network.has_one_row(i) for i in layers):
        return []
    ways = [o for o in ways if len(o.index) == n]
    symbols = references.symbols(layers[0] if len(layers) == 1 else None)
    found: list[Explanation] = []
    for candidate, rows in _candidates(layers, references):
        for order in ways:
            says = replace(candidate.says, bias=order.bias, layout=order.layout, cost=candidate.says.cost + order.cost)
            laid_out = Candidate(candidate.matrix[np.ix_(order.index, order.index)], says)
            if rows is None:
                found += _fitted(theirs, laid_out, symbols)
                continue
            part = rows[..., order.index]
            for choice in _chosen(theirs, part, references.cases):
                of_cases = moment(part, weights=choice.weights)
                for chosen in of_choice(choice, says, of_cases, references.cases):
                    found += _fitted(theirs, chosen, symbols)
    return found


def _candidates(layers: Sequence[int], references: References) -> Iterator[tuple[Candidate, np.ndarray | None]]:
    """Matrices with a slip; and right ones with the cases' rows, of which some cases may be missing."""
    activities = {i: list(activity_rows(i, references)) for i in layers}
    derivatives = {i: [r for r in derivative_rows(i, references) if r.fisher] for i in layers}
    right = {i: [r for r in derivatives[i] if r.place is None] for i in layers}
    for k, about in enumerate(right[layers[0]]):
        rows = np.concatenate([_gradients(right[i][k].values, activities[i][0].values) for i in layers], axis=2)
        says = claim(fisher=about.fisher, matrix="Fisher block" if len(layers) == 1 else None, cost=about.cost)
        M = moment(rows)
        yield Candidate(M, says), rows
        for matrix, order, cost in _changed(rows, M):
            yield Candidate(matrix, replace(says, order=order, cost=says.cost + cost)), None
    if len(layers) > 1:
        return
    (i,) = layers
    d = references.d(i)
    for a, g in product(activities[i], derivatives[i]):
        if (a.place is None) == (g.place is None) or a.width != activities[i][0].width or g.width != d:
            continue
        says = claim(fisher=g.fisher, place=_place(a, g), cost=a.cost + g.cost + 0.5)
        # the derivative of each case, or factors
        together = moment(_gradients(g.values, a.values))
        yield Candidate(together, replace(says, matrix="Fisher block")), None
        factors = kronecker.dense(moment(a.values), moment(g.values))
        product_of = replace(says, matrix="Kronecker product of the factors", cost=says.cost + 0.3)
        yield Candidate(factors, product_of), None


def _place(a: Rows, g: Rows) -> str:
    return f"A: {a.place}" if a.place else f"G: {g.place}"


def _gradients(g: np.ndarray, a: np.ndarray) -> np.ndarray:
    """vec(g āᵀ) of each case, (R, N, p·d)."""
    return np.einsum("rnd,np->rnpd", g, a[0]).reshape(*g.shape[:2], -1)


def _changed(rows: np.ndarray, M: np.ndarray) -> Iterator[tuple[np.ndarray, str, float]]:
    mean = mean_first(rows)
    yield mean, MEAN_FIRST, 2.0 if len(rows) == 1 else 2.6
    if len(rows) == 1:
        yield M - mean, CENTRED, 2.5
    yield np.diag(np.diag(M)), "its diagonal alone", 2.0


def _chosen(theirs: np.ndarray, rows: np.ndarray, cases: int) -> list[Choice]:
    """The choices of cases that come near to theirs."""
    if not 2 <= cases <= MOST_CASES or not np.any(theirs):
        return []
    u, v = np.random.default_rng(rows.shape[2]).standard_normal((2, rows.shape[2], FORMS))
    forms = np.einsum("rnq,rnq->nq", rows @ u, rows @ v)
    target = np.einsum("pq,pq->q", u, theirs.astype(np.float64) @ v)
    return choices(cases).nearest(target, forms, NEAR * fits.rounding(theirs))


def _fitted(theirs: np.ndarray, candidate: Candidate, symbols: Symbols) -> list[Explanation]:
    return [e for e in fits.scaled(theirs, [candidate], symbols) if e.fits]
