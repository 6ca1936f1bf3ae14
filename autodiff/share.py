"""One process's share of the cases of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from autodiff.arrays import Array, from_numpy, namespace


@dataclass(frozen=True)
class Share:
    """Which cases of a batch are here, and what sums over all of them are divided by."""

    rows: np.ndarray
    """Their places in the whole batch, ascending, (here,)."""
    cases: int
    """Of the whole batch."""
    totals: Mapping[int, float]
    """Where cases have weights: Σ w_n over the first n cases of the whole batch, for each n that is asked for."""
    lengths: Mapping[int, float] = field(default_factory=dict)
    """Where sequences have lengths: their mean over the first n cases, likewise."""

    def here(self, cases: int) -> int:
        """How many of the first `cases` cases of the whole batch are here; they are the first here, too."""
        return int(np.searchsorted(self.rows, cases))

    def part(self, x: Array) -> Array:
        """Of the rows of x (cases, …), one for each of the first cases of the whole batch, those of the cases that are
        here: (here, …) (§14)."""
        return namespace(x).take(x, from_numpy(self.rows[: self.here(x.shape[0])], x), axis=0)
