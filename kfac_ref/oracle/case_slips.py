"""Which of the cases a mean was taken over, where it was not all of them: the first alone, the last mini-batch, one
twice, all but a remainder.

Each choice is a weight for every case. There are thousands, so they are told apart by a few random forms of the matrix,
which are means over cases as it is: uᵀ(Σ w_n l_n r_nᵀ)v = Σ w_n (uᵀl_n)(r_nᵀv).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

FORMS = 12
"""Random forms of a matrix that are looked at."""
NEAR = 50.0
"""How many times what rounding does they may be off for the matrix itself to be looked at."""
MOST_CASES = 2000
"""Beyond so many cases nothing is looked for."""
SMALL, LARGER = 64, (100, 128, 200, 250, 256, 500, 512, 1000, 1024)
"""Sizes of mini-batches whose means may have been averaged."""
MOST_SHARES = 8
"""Processes that cases may have been dealt out to."""


@dataclass(frozen=True)
class Choice:
    """Which cases were counted, how often."""

    text: str
    weights: np.ndarray
    """(N,), their sum 1: theirs is Σ w_n (·) times a scale."""
    counted: float
    """How many cases that are, for where their sum was divided by N all the same."""
    cost: float


class Choices:
    """All choices for N cases, by families, so that their forms come from prefix sums."""

    def __init__(self, cases: int) -> None:
        self.cases = cases
        self.windows = list(_windows(cases))
        self.strides, self.uneven = _strides(cases), _uneven(cases)
        self.means = np.stack([_means(m, cases) for m in self.uneven]) if self.uneven else None

    def nearest(self, target: np.ndarray, forms: np.ndarray, within: float, most: int = 6) -> list[Choice]:
        """Those whose forms are a multiple of `target` (q,) but for `within` of it, `forms` (N, q) being the cases'."""
        N = self.cases
        sums = np.concatenate([np.zeros((1, forms.shape[1])), np.cumsum(forms, axis=0)])
        starts, stops = (np.array([w[k] for w in self.windows]) for k in (0, 1))
        families = [sums[stops] - sums[starts]]
        families += [sums[N] - forms, sums[N] + forms]
        families += [sums[N] + sums[1:N], sums[N] + (sums[N] - sums[N - np.arange(1, N)])]
        families += [sums[N] + np.arange(2, N)[:, None] * forms[-1]]
        families.append(np.stack([forms[r::p].sum(0) for p, r in self.strides]) if self.strides else forms[:0])
        families.append(forms[:0] if self.means is None else self.means @ forms)
        found: list[tuple[float, Choice]] = []
        for k, S in enumerate(families):
            off = _off(S, target)
            for j in np.flatnonzero(off <= within)[:most]:
                found.append((float(off[j]), self._choice(k, int(j))))
        found.sort(key=lambda f: f[1].cost)
        return [c for _, c in found[:most]]

    def _choice(self, family: int, j: int) -> Choice:
        N = self.cases
        once = np.ones(N)
        if family == 0:
            start, stop, text, cost = self.windows[j]
            w = np.zeros(N)
            w[start:stop] = 1
            return _choice(text, w, cost)
        if family == 1:
            once[j] = 0
            return _choice(f"case {j + 1} left out", once, 2.6)
        if family == 2:
            once[j] = 2
            return _choice(f"case {j + 1} counted twice", once, 2.6)
        if family == 3:
            once[: j + 1] = 2
            return _choice(f"the first {j + 1} cases counted twice", once, 2.8)
        if family == 4:
            once[N - j - 1 :] = 2
            return _choice(f"the last {j + 1} cases counted twice", once, 2.8)
        if family == 5:
            once[-1] = j + 3
            return _choice(f"the last case counted {j + 3} times", once, 3.0)
        if family == 6:
            p, r = self.strides[j]
            w = np.zeros(N)
            w[r::p] = 1
            return _choice(f"every {p}th case alone, from case {r + 1} on", w, 3.0)
        m = self.uneven[j]
        text = f"mean of the means of mini-batches of {m}, the last one smaller"
        return Choice(text, _means(m, N), float(N), 2.6)


@lru_cache(maxsize=8)
def choices(cases: int) -> Choices:
    """Those for so many cases."""
    return Choices(cases)


def _choice(text: str, counts: np.ndarray, cost: float) -> Choice:
    total = float(counts.sum())
    return Choice(text, counts / total, total, cost)


def _windows(N: int) -> Iterator[tuple[int, int, str, float]]:
    """(start, stop, text, cost): the first k cases, the last k, and each mini-batch of m."""
    if N < 2:
        return
    yield 0, 1, "the first case alone", 2.2
    yield N - 1, N, "the last case alone", 2.4
    for k in range(2, N):
        rest = N - k
        # what does not fill a mini-batch is dropped: it is smaller than any mini-batch, so than what is left
        dropped = f" (the remainder of {rest} dropped)" if rest < k else ""
        yield 0, k, f"the first {k} cases alone{dropped}", 2.3 if dropped else 2.5
        yield N - k, N, f"the last {k} cases alone (the last mini-batch)", 2.4
    for m in range(1, N // 2 + 1):
        for b in range(1, (N - 1) // m):
            if m == 1:
                yield b, b + 1, f"case {b + 1} alone", 2.8
            elif (b + 1) * m < N:
                yield b * m, (b + 1) * m, f"cases {b * m + 1} to {(b + 1) * m} alone (mini-batch {b + 1})", 2.8


def _strides(N: int) -> list[tuple[int, int]]:
    return [(p, r) for p in range(2, min(MOST_SHARES, N // 2) + 1) for r in range(p)]


def _uneven(N: int) -> list[int]:
    """Sizes of mini-batches of which the last one is smaller."""
    return [m for m in range(2, N) if N % m and (m <= SMALL or m in LARGER)]


def _means(m: int, N: int) -> np.ndarray:
    """The weights of cases in the mean of the means of mini-batches of m."""
    sizes = np.minimum(m, N - np.arange(0, N, m))
    return np.repeat(1.0 / (sizes * len(sizes)), sizes)


def _off(S: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How far target is from a multiple of each row, relative to its norm; zeros are one of zeros alone."""
    size = np.linalg.norm(target)
    norms = np.einsum("kq,kq->k", S, S)
    if size == 0:
        return np.where(norms == 0, 0.0, np.inf)
    along = S @ target / np.where(norms > 0, norms, 1.0)
    off = np.linalg.norm(target - along[:, None] * S, axis=1) / size
    off[norms == 0] = np.inf
    return off
