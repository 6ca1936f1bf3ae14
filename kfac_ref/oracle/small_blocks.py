"""What may stand for the block of F of a normalisation layer, whose W is [scale, shift]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from kfac_ref.oracle import fits
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.references import FISHERS, References, dear
from kfac_ref.oracle.verdict import Explanation


def small_blocks(layer: int, references: References) -> Iterator[Candidate]:
    """Approximations of the block, in the order of vec(W): its diagonal, scale and shift apart, and what Kronecker
    factors of scale and shift as a matrix with a diagonal would make of it."""
    d, p = references.network.shapes[layer - 1]
    part = np.repeat(np.arange(p), d)
    for kind in references.kinds:
        whole = references.block(layer, kind)
        says = claim(fisher=FISHERS[kind], cost=0.4 + dear(kind))
        yield Candidate(np.diag(np.diag(whole)), replace(says, matrix="the diagonal of the Fisher block"))
        apart = whole * (part[:, None] == part[None, :])
        yield Candidate(apart, replace(says, matrix="Fisher block, scale and shift apart"))
        x = references.normalised(layer)
        if x is None:
            continue
        for sharing in references.sharings(layer):
            if sharing == "kfc":
                continue  # the same product as expand
            both = _kronecker(x, layer, kind, sharing, references)
            named = replace(says, sharing=sharing, matrix="Kronecker product, the input a diagonal", cost=says.cost + 1)
            yield Candidate(both, named)
            named = replace(named, matrix="Kronecker product, the input a diagonal, scale and shift apart")
            yield Candidate(both * (part[:, None] == part[None, :]), replace(named, cost=named.cost + 0.5))


def through_small_blocks(
    readings: Iterable[Arrangement], layer: int, references: References, tolerance: float, part: str = ""
) -> Iterator[Explanation]:
    """A gradient through the damped inverse of such a block, or of what may stand for it: (F_ii + λI)⁻¹ V."""
    d, p = references.network.shapes[layer - 1]
    gamma = references.case.gamma_used
    for a in readings:
        columns = slice(p - 1, p) if part == "bias" else slice(0, a.matrix.shape[1])
        own = np.arange(d * p).reshape(p, d)[columns].ravel()
        for kind, (V, notes, cost) in product(references.kinds, references.gradients):
            F = references.block(layer, kind)[np.ix_(own, own)]
            v = V[layer - 1][:, columns].T.ravel()
            shift = own // d
            for M, matrix, far in (
                (F, None, 0.0),
                (np.diag(np.diag(F)), "the diagonal of the Fisher block", 0.6),
                (F * (shift[:, None] == shift[None, :]), "Fisher block, scale and shift apart", 0.8),
            ):
                for name, x in references.dampings().items():
                    says = claim(
                        fisher=FISHERS[kind],
                        matrix=matrix,
                        bias=a.bias,
                        layout=a.layout,
                        damping=f"{name} on the block",
                        notes=notes,
                        cost=a.cost + cost + dear(kind) + far,
                        expected=a.own and not (part or matrix or notes) and kind == "exact" and _is_square(x, gamma),
                    )
                    if x <= 0 or a.matrix.size < 2:
                        continue
                    damped = M + x * np.eye(len(M))
                    fit = fits.regress(a.matrix.T.ravel(), [np.linalg.solve(damped, v)])
                    if fit is not None:
                        allowed = fits.conditioned(tolerance, float(np.linalg.cond(damped)))
                        yield fits.with_scale(says, fit[0][0], fit[1], allowed, references.symbols())


def _is_square(x: float, gamma: float | None) -> bool:
    return gamma is not None and abs(x - gamma**2) <= 1e-9 * x


def _kronecker(x: np.ndarray, layer: int, kind: str, sharing: str | None, references: References) -> np.ndarray:
    """E[x x'] E[g g'] for the rows x of [x̂; 1], entry by entry."""
    d, p = references.network.shapes[layer - 1]
    w, g = references.case_weights[:, None, None], references.errors(layer, kind)
    rows = np.concatenate([x, np.ones_like(x)][:p], axis=2)
    if sharing == "reduce":
        rows, g = rows.mean(axis=1, keepdims=True), g.sum(axis=2, keepdims=True)
    flat = (rows * np.sqrt(w)).reshape(-1, p * d)
    A = flat.T @ flat / (len(x) * rows.shape[1])
    g = g.reshape(-1, d)
    return A * np.tile(g.T @ g / len(x), (p, p))
