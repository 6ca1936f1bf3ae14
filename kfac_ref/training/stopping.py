"""When to stop: training that no longer improves, and held-out cases that are predicted no better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FLOOR = 0.03
"""An objective below this counts as this much where improvement is a fraction of it: near 0 no part of it is little."""


@dataclass
class Plateau:
    """Whether the last `window` values have improved the best before them by less than a fraction `tolerance`."""

    window: int
    tolerance: float
    best: list[float] = field(default_factory=list)
    """The smallest so far, after each value."""

    def reached(self, value: float) -> bool:
        """Take one more value, of which small ones are good."""
        self.best.append(min(value, self.best[-1]) if self.best else value)
        if len(self.best) <= self.window:
            return False
        before, now = self.best[-1 - self.window], self.best[-1]
        return before - now < self.tolerance * max(abs(now), FLOOR)


@dataclass
class Patience:
    """Whether `patience` values in a row were no better than the best before them by more than `tolerance`."""

    patience: int
    tolerance: float = 0.0
    best: float = math.inf
    since: int = 0
    """Values since the best."""

    def better(self, value: float) -> bool:
        """Take one more value, of which small ones are good; whether it is the best so far."""
        if value < self.best - self.tolerance:
            self.best, self.since = value, 0
            return True
        self.since += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self.since >= self.patience
