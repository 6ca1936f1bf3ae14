"""What somebody else's dense matrix is: a layer's block, or the whole Fisher; and in which order its entries are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg

from kfac_ref.curvature import block_diagonal, kronecker, kronecker_fisher
from kfac_ref.oracle import block_slips, expressions, fits, monte_carlo, sampling
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.layouts import Order, orders
from kfac_ref.oracle.references import FISHERS, SHARINGS, References, dear
from kfac_ref.oracle.sampled_factors import is_moment, sampled_explanation
from kfac_ref.oracle.small_blocks import small_blocks
from kfac_ref.oracle.verdict import Explanation

FEW_ROWS, NEAR = 20, 0.05
"""Rows that are looked at first, and how near they must be to a matrix if all are to be looked at."""
PRODUCT = "Kronecker product of the factors"
LARGEST_SAMPLED = 1000
"""Rows of the largest matrix of which is asked whether it is an estimate."""


def explain_block(theirs: np.ndarray, layer: int, references: References) -> list[Explanation]:
    """Explanations of theirs (P_i, P_i), a diagonal block of a layer."""
    candidates = [
        Candidate(
            references.block(layer, kind),
            claim(fisher=FISHERS[kind], matrix="Fisher block", cost=dear(kind), expected=kind == "exact"),
        )
        for kind in references.kinds
    ]
    if not references.kronecker(layer):
        candidates += small_blocks(layer, references)
    # KFC's product is that of expand
    for sharing in [s for s in references.sharings(layer) if s != "kfc"] if references.kronecker(layer) else []:
        A, far = references.A(layer, sharing), SHARINGS.get(sharing or "", 0.0)
        for kind in references.kinds:
            product = kronecker.dense(A, references.G(layer, kind, sharing))
            says = claim(fisher=FISHERS[kind], sharing=sharing, matrix=PRODUCT, cost=0.3 + dear(kind) + far)
            candidates.append(Candidate(product, says))
        identity = kronecker.dense(A, np.eye(references.d(layer)))
        candidates.append(
            Candidate(identity, claim(fisher="identity", sharing=sharing, matrix=PRODUCT, cost=0.7 + far))
        )
    ways = orders(references.d(layer), references.n(layer), references.bias(layer))
    found = _explain(theirs, candidates, ways, references, layer)
    if references.kronecker(layer) or any(e.fits for e in found):
        return found
    return found + _parts(theirs, candidates, layer, references)


def _parts(
    theirs: np.ndarray, candidates: Sequence[Candidate], layer: int, references: References
) -> list[Explanation]:
    """A normalisation's scale alone, (d, d)."""
    d = references.d(layer)
    alone = [
        Candidate(c.matrix[:d, :d], replace(c.says, bias="absent", cost=c.says.cost + 0.5, expected=False))
        for c in candidates
    ]
    return fits.scaled(theirs, alone, references.symbols(layer))


def explain_fisher(theirs: np.ndarray, references: References) -> list[Explanation]:
    """Explanations of theirs (P, P), the whole Fisher."""
    candidates = []
    for kind in references.kinds:
        whole = references.fisher(kind)
        says = claim(fisher=FISHERS[kind], cost=dear(kind), expected=kind == "exact")
        candidates.append(Candidate(whole, says))
        blocks = replace(says, matrix="Fisher, diagonal blocks alone", cost=says.cost + 0.5, expected=False)
        candidates.append(Candidate(whole * _same_layer(references), blocks))
        for matrix, text, cost in _factored(kind, references):
            says_too = replace(says, matrix=text, cost=says.cost + cost, expected=False)
            candidates.append(Candidate(matrix, says_too))
    return _explain(theirs, candidates, list(_whole_orders(references)), references, None)


def _factored(kind: str, references: References) -> Iterator[tuple[np.ndarray, str, float]]:
    """F̃ and F̆, what they are called, and how far-fetched they are."""
    factors = references.factors(kind)
    if references.network.fully_connected:
        yield kronecker_fisher.dense(factors), "Kronecker-factored F̃", 0.6
        yield kronecker_fisher.dense(block_diagonal.approximate(factors)), "block-diagonal F̆", 0.6
        return
    for sharing in ("expand", "reduce"):
        factors = references.factors(kind, sharing)
        blocks = [
            factors.full[i, i] if (i, i) in factors.full else kronecker.dense(factors.A[i - 1, i - 1], factors.G[i, i])
            for i in range(1, references.layers + 1)
        ]
        shared = any(references.locations(i) > 1 for i in range(1, references.layers + 1))
        name = f"block-diagonal F̆ (KFAC-{sharing})" if shared else "block-diagonal F̆"
        yield scipy.linalg.block_diag(*blocks), name, 0.6 + SHARINGS[sharing]


def _same_layer(references: References) -> np.ndarray:
    sizes = [p * q for p, q in references.network.shapes]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    return layer[:, None] == layer[None, :]


def _whole_orders(references: References) -> Iterator[Order]:
    """Orders of all parameters: one order in every layer, layers forward or backward, or all biases last."""
    starts = np.cumsum([0, *(p * q for p, q in references.network.shapes)])
    layers = range(references.layers)
    by_layer = [orders(references.d(i + 1), references.n(i + 1), references.bias(i + 1)) for i in layers]
    if not all(references.bias(i + 1) for i in layers):
        # where some layers have no biases, entries in the project's order or row by row alone
        for k, text in ((0, "column-major"), (1, "row-major")):
            index = np.concatenate([starts[i] + by_layer[i][k].index for i in layers])
            yield Order(index, None, text, 0.5 * k)
        return
    for k, first in enumerate(by_layer[0]):
        parts = [starts[i] + by_layer[i][k].index for i in layers]
        yield Order(np.concatenate(parts), first.bias, first.layout, first.cost)
        if len(parts) > 1:
            backward = f"{first.layout}, last layer first"
            yield Order(np.concatenate(parts[::-1]), first.bias, backward, first.cost + 1.5)
    if references.layers > 1:
        for k, rows in ((6, "column-major"), (7, "row-major")):
            weights = [starts[i] + by_layer[i][k].index for i in layers]
            biases = [starts[i + 1] - references.d(i + 1) + np.arange(references.d(i + 1)) for i in layers]
            yield Order(np.concatenate([*weights, *biases]), "last", f"{rows}, all weights, then all biases", 1.5)


def _explain(
    theirs: np.ndarray,
    candidates: Sequence[Candidate],
    ways: Sequence[Order],
    references: References,
    layer: int | None,
) -> list[Explanation]:
    symbols = references.symbols(layer)
    found = []
    for order in (o for o in ways if len(o.index) == len(theirs)):
        laid_out = []
        for c in candidates:
            says = replace(
                c.says,
                bias=order.bias,
                layout=order.layout,
                cost=c.says.cost + order.cost,
                expected=c.says.expected and order.cost == 0,
            )
            off = _at_a_glance(theirs, c.matrix, order.index)
            if off > NEAR:
                found.append(says.within(off, 0.0))
            else:
                laid_out.append(Candidate(c.matrix[np.ix_(order.index, order.index)], says))
        plain = fits.scaled(theirs, laid_out, symbols)
        found += [fits.from_zero(e, symbols) for e in plain]
        if not any(e.fits for e in plain):
            found += fits.averaged_or_damped(theirs, laid_out, symbols, references.dampings())
    return found


def _at_a_glance(theirs: np.ndarray, matrix: np.ndarray, index: np.ndarray) -> float:
    """How far a few rows of theirs are from a multiple of the matrix, so laid out, and of I; 0 where all are few."""
    n = len(theirs)
    if n <= FEW_ROWS:
        return 0.0
    rows = np.sort(np.random.default_rng(n).choice(n, FEW_ROWS, replace=False))
    some = matrix[index[rows]][:, index]
    fit = fits.regress(theirs[rows], [some, np.eye(n)[rows]]) or fits.regress(theirs[rows], [some])
    return np.inf if fit is None else fit[1]


def explain_slips(theirs: np.ndarray, layer: int | None, references: References) -> list[Explanation]:
    """Explanations by slips of theirs (P, P), a layer's Fisher block, or the whole Fisher."""
    if layer is None:
        layers, ways = list(range(1, references.layers + 1)), list(_whole_orders(references))
    else:
        layers, ways = [layer], orders(references.d(layer), references.n(layer), references.bias(layer))
    return block_slips.explain_block_slips(theirs, layers, ways, references)


def explain_sampled(theirs: np.ndarray, layer: int | None, references: References) -> Explanation | None:
    """`theirs` (P, P) as a Monte-Carlo estimate of a layer's Fisher block (or of the whole Fisher), if it is one."""
    if len(theirs) > LARGEST_SAMPLED or not is_moment(theirs):
        return None
    T = theirs.astype(np.float64)
    if layer is None:
        ways = list(_whole_orders(references))
    else:
        ways = orders(references.d(layer), references.n(layer), references.bias(layer))
    candidates = expressions.usual(references.symbols())
    models: dict[int, sampling.Model] = {}
    best: tuple[float, Explanation] | None = None
    for order in (o for o in ways if len(o.index) == len(T)):
        biased = len(order.index)
        if biased not in models:
            models[biased] = _model(references, layer, order)
        # theirs, with rows and columns where the project has them
        place = np.argsort(order.index)
        ours = T[np.ix_(place, place)]
        sampled = monte_carlo.recognise([ours], models[biased], candidates, fits.rounding(theirs))
        # of one matrix, in one of several layouts, an estimate of no known scale would explain too much
        if sampled is None or sampled.scale is None:
            continue
        if best is None or sampled.score - order.cost > best[0]:
            says = sampled_explanation(
                sampled,
                0,
                matrix="Fisher block" if layer else None,
                bias=order.bias,
                layout=order.layout,
                cost=order.cost,
            )
            best = sampled.score - order.cost, says
    return best[1] if best else None


def _model(references: References, layer: int | None, order: Order) -> sampling.Model:
    """The draws of a dense block, seen through projections P: random ones, and where the exact block is 0, so that
    entries in the wrong order are found out."""
    present = np.sort(order.index)
    exact = references.fisher("exact") if layer is None else references.block(layer, "exact")
    values, vectors = np.linalg.eigh(exact[np.ix_(present, present)])
    rng = np.random.default_rng(77)
    still = vectors[:, values < 1e-12 * values[-1]]
    most = sampling.widest(1, references.cases)
    projection = sampling.projection(rng, len(present), most)
    if still.shape[1]:
        # some directions of each kind
        still = still @ np.linalg.qr(rng.standard_normal((still.shape[1], min(4, still.shape[1]))))[0]
        projection = np.linalg.qr(np.hstack([still, projection[:, :most]]))[0]
    P = np.zeros((len(exact), projection.shape[1]))
    P[present] = projection
    shapes = references.network.shapes
    start = 0 if layer is None else sum(p * q for p, q in shapes[: layer - 1])
    whole = np.zeros((sum(p * q for p, q in shapes), P.shape[1]))
    whole[start : start + len(P)] = P
    directions = [kronecker.unflatten(column, shapes) for column in whole.T]
    KP = references.along(directions).transpose(2, 1, 0)
    likelihood = references.network.likelihood
    return sampling.Model(likelihood, references.z, [KP], [projection])
