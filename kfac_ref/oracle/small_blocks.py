"""What may stand for the block of F of a normalisation layer, whose W is [scale, shift]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import FISHERS, References, dear


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
            product = _kronecker(x, layer, kind, sharing, references)
            named = replace(says, sharing=sharing, matrix="Kronecker product, the input a diagonal", cost=says.cost + 1)
            yield Candidate(product, named)
            named = replace(named, matrix="Kronecker product, the input a diagonal, scale and shift apart")
            yield Candidate(product * (part[:, None] == part[None, :]), replace(named, cost=named.cost + 0.5))


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
