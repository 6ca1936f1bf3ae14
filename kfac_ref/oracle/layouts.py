"""Layouts of a layer's matrix and of its vector: where the bias is, what is transposed, which entries come first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

IMAGES = "as (out, channels, rows, columns)"
"""The layout of a convolution's weights in which they are, row by row, the project's."""


@dataclass(frozen=True)
class Arrangement:
    """A matrix of theirs, read in one of the ways in which it may be meant."""

    matrix: np.ndarray
    """(d, n+1) with the bias last, (d, n) where there is no bias, or (d, 1) where it is the bias."""
    bias: str | None
    """Where the bias was: last, first, separate or absent; None where the layer has none."""
    layout: str | None
    cost: float

    @property
    def own(self) -> bool:
        """Whether it is the project's own."""
        return self.layout in (None, IMAGES) and self.bias in ("last", "separate", None)


def arrangements(theirs: np.ndarray, d: int, n: int, part: str = "", bias: bool = True) -> Iterator[Arrangement]:
    """All readings of theirs, of any shape, as the matrix (d, n [+1]) of a layer with d outputs and n inputs.

    Parameters
    ----------
    part : "" for the whole, "weight" or "bias"
    bias : whether the layer has one
    """
    theirs = theirs.astype(np.float64)
    if theirs.ndim > 2:
        missing_here = None if not bias else "separate" if part == "weight" else "absent"
        if theirs.shape[0] == d:
            yield Arrangement(theirs.reshape(d, n), missing_here, IMAGES, 0.0 if part or not bias else 0.5)
        if theirs.shape[-1] == d:
            order = (theirs.ndim - 1, theirs.ndim - 2, *range(theirs.ndim - 2))
            turned = theirs.transpose(order).reshape(d, n)
            yield Arrangement(turned, missing_here, "as (rows, columns, channels, out)", 0.5)
        return
    if not bias:
        for matrix, layout, cost in _matrices(theirs, d, n):
            yield Arrangement(matrix, None, layout, cost)
        return
    if part == "bias":
        yield Arrangement(theirs.reshape(-1, 1), "separate", None, 0.0)
        return
    missing = "separate" if part == "weight" else "absent"
    for matrix, layout, cost in _matrices(theirs, d, n + 1):
        if part == "":
            yield Arrangement(matrix, "last", layout, cost)
            yield Arrangement(np.roll(matrix, -1, axis=1), "first", layout, cost + 0.5)
    for matrix, layout, cost in _matrices(theirs, d, n):
        yield Arrangement(matrix, missing, layout, cost + (0.0 if part else 0.5))
    if part == "" and theirs.ndim == 1 and theirs.size == d * (n + 1):
        weights, column = theirs[: d * n].reshape(d, n), theirs[d * n :, None]
        yield Arrangement(np.hstack([weights, column]), "last", "flat, row-major, bias after the weights", 1.2)
        column, weights = theirs[:d, None], theirs[d:].reshape(d, n)
        yield Arrangement(np.hstack([weights, column]), "first", "flat, row-major, bias before the weights", 1.4)


def _matrices(theirs: np.ndarray, d: int, columns: int) -> Iterator[tuple[np.ndarray, str | None, float]]:
    if theirs.shape == (d, columns):
        yield theirs, None, 0.0
    if theirs.shape == (columns, d):
        yield theirs.T, "transposed", 0.5
    if theirs.shape == (d * columns,):
        yield theirs.reshape(columns, d).T, "flat, column-major", 0.8
        yield theirs.reshape(d, columns), "flat, row-major", 0.8


@dataclass(frozen=True)
class Order:
    """An order of the entries of a layer's matrix in a vector: `index[k]` is where the k-th entry of theirs is in
    vec(W), W (d, n+1) with the bias last."""

    index: np.ndarray
    bias: str | None
    layout: str
    cost: float


def orders(d: int, n: int, bias: bool = True) -> list[Order]:
    """Orders of a layer's entries, the project's own first. Without biases those come last, or they are all there are
    where the layer has none."""
    if not bias:
        place = np.arange(d * n).reshape(n, d).T
        ways = ((place.T, "column-major", 0.0), (place, "row-major", 0.5))
        return [Order(np.ravel(x), None, text, cost) for x, text, cost in ways]
    place = np.arange(d * (n + 1)).reshape(n + 1, d).T  # place[r, c]: where entry (r, c) is in vec(W)
    weights, last = place[:, :-1], place[:, -1]
    first = np.roll(place, 1, axis=1)
    columns, rows = "column-major", "row-major"
    return [
        Order(np.ravel(place.T), "last", columns, 0.0),
        Order(np.ravel(place), "last", rows, 0.5),
        Order(np.r_[np.ravel(weights), last], "last", "row-major weights, then the bias", 0.6),
        Order(np.r_[last, np.ravel(weights)], "first", "the bias, then row-major weights", 0.8),
        Order(np.ravel(first.T), "first", columns, 0.7),
        Order(np.ravel(first), "first", rows, 0.9),
        Order(np.ravel(weights.T), "absent", columns, 0.6),
        Order(np.ravel(weights), "absent", rows, 0.7),
    ]
