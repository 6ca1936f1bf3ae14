"""What becomes of Ā where a layer's weights are applied at many locations: other rows, other orders, other 1s."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import SHARINGS, References

LARGEST_KERNEL = 11
"""Of a captured convolution, whose geometry is not known, the largest side of a kernel that is thought of."""


def homogeneous(layer: int, references: References) -> Iterator[Candidate]:
    """Ā with another homogeneous coordinate than that of each location: added once to what was summed, or summed where
    the rest is averaged."""
    T = references.locations(layer)
    if T == 1 or not references.bias(layer):
        return
    for sharing in ("expand", "reduce"):
        A = references.A(layer, sharing)
        for text, c in (("T", float(T)), ("1/T", 1 / T)):
            scale = np.ones(len(A))
            scale[-1] = c
            note = f"the bias's coordinate is {text} where the rows' is 1"
            says = claim(sharing=sharing, bias="last", notes=(note,), cost=2.0 + SHARINGS[sharing])
            yield Candidate(A * np.outer(scale, scale), says)
            corner = A.copy()
            corner[-1, -1] *= c
            note = f"the bias's own entry is {text} times that of the other entries"
            yield Candidate(corner, claim(sharing=sharing, bias="last", notes=(note,), cost=2.5 + SHARINGS[sharing]))


@dataclass(frozen=True)
class _Way:
    """An order of a patch's entries, and what it is called."""

    index: np.ndarray
    text: str
    cost: float


def other_rows(theirs: np.ndarray, layer: int, references: References, separate: bool) -> Iterator[Candidate]:
    """Ā of a convolution with the entries of its patches in other orders, or without the patches that have padding, for
    theirs (n, n)."""
    if not references.kronecker(layer):
        return
    bias, missing = references.bias(layer), "separate" if separate else "absent"
    for sharing in references.sharings(layer):
        A = references.A(layer, sharing)
        n = references.n(layer)
        cost = 1.0 + SHARINGS.get(sharing or "", 0.0)
        for way in _ways(theirs, A, n, references.kernel(layer)):
            weights = A[np.ix_(way.index, way.index)]
            if not bias:
                yield Candidate(weights, claim(sharing=sharing, layout=way.text, cost=cost + way.cost))
            elif len(theirs) == n:
                yield Candidate(weights, claim(sharing=sharing, bias=missing, layout=way.text, cost=cost + way.cost))
            else:
                for place, index in (("last", np.r_[way.index, n]), ("first", np.r_[n, way.index])):
                    says = claim(sharing=sharing, bias=place, layout=way.text, cost=cost + way.cost + (place != "last"))
                    yield Candidate(A[np.ix_(index, index)], says)
    yield from _unpadded(layer, references, missing)


def _ways(theirs: np.ndarray, A: np.ndarray, n: int, kernel: tuple[int, int] | None) -> Iterator[_Way]:
    """Orders of n entries, those that the diagonals rule out left out."""
    known = [kernel] if kernel else [(v, h) for v in range(1, LARGEST_KERNEL + 1) for h in range(1, LARGEST_KERNEL + 1)]
    seen = {tuple(range(n))}
    for v, h in known:
        if v * h == 1 or n % (v * h):
            continue
        c = n // (v * h)
        place = np.arange(n).reshape(c, v, h)
        guess = "" if kernel else f", for a kernel of {v} x {h}"
        for axes, text in (
            ((1, 2, 0), "kernel row, kernel column, channel"),
            ((2, 1, 0), "kernel column, kernel row, channel"),
            ((0, 2, 1), "channel, kernel column, kernel row"),
            ((0, 1, 2), "channel, kernel row, kernel column"),
        ):
            for flipped in (False, True):
                entries = (place[:, ::-1, ::-1] if flipped else place).transpose(axes).ravel()
                if tuple(entries) in seen or not _alike(theirs, A, entries):
                    continue
                seen.add(tuple(entries))
                kind = ", kernel flipped (a convolution, not a correlation)" if flipped else ""
                yield _Way(entries, f"rows in the order {text}{kind}{guess}", 0.3 * flipped + 0.5 * (not kernel))


def _alike(theirs: np.ndarray, A: np.ndarray, index: np.ndarray) -> bool:
    """Whether the diagonal of A, so ordered, can be theirs up to a scale and what is added to it."""
    n = len(index)
    for at in (slice(0, n), slice(1, n + 1)):
        mine, others = np.diag(A)[index], np.diag(theirs)[at].astype(np.float64)
        if len(others) != n:
            continue
        if n < 3 or np.ptp(mine) == 0:
            return True
        design = np.stack([mine, np.ones(n)], axis=1)
        left = others - design @ np.linalg.lstsq(design, others, rcond=None)[0]
        if np.linalg.norm(left) <= 1e-3 * np.linalg.norm(others):
            return True
    return False


def _unpadded(layer: int, references: References, missing: str) -> Iterator[Candidate]:
    """Ā of the patches alone that lie within the image."""
    inside = references.inside(layer)
    if inside is None or inside.all() or not inside.any():
        return
    rows = references.rows(layer)[:, inside, :]
    w = references.case_weights[:, None, None]
    note = ("the patches that reach into the padding are missing",)
    for sharing, a in (("expand", rows), ("reduce", rows.mean(1, keepdims=True))):
        flat = (a * np.sqrt(w)).reshape(-1, a.shape[2])
        A = flat.T @ flat / (references.cases * a.shape[1])
        cost = 2.0 + SHARINGS[sharing]
        if references.bias(layer):
            yield Candidate(A, claim(sharing=sharing, bias="last", notes=note, cost=cost))
            yield Candidate(A[:-1, :-1], claim(sharing=sharing, bias=missing, notes=note, cost=cost + 0.5))
        else:
            yield Candidate(A, claim(sharing=sharing, notes=note, cost=cost))
