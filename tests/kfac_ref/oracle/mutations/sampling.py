"""What sampling targets can make of a matrix: tells whether a matrix may be a Monte-Carlo estimate of another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

DRAWS = 600
MOST_SAMPLES = 1e5
"""More samples a case than anybody draws; a deviation smaller than theirs is no sampling."""


class Sampling:
    """The distribution of an estimate, by brute force: `DRAWS` estimates with one sample a case each.

    Parameters
    ----------
    mean : array (p, q)
        The exact expectation.
    draw : callable
        Makes one such estimate with a random generator.
    """

    def __init__(self, mean: np.ndarray, draw: Callable[[np.random.Generator], np.ndarray]) -> None:
        self.mean, self.draw = np.asarray(mean, dtype=float), draw

    @cached_property
    def draws(self) -> np.ndarray:
        """Their deviations from the mean, (`DRAWS`, p q)."""
        rng = np.random.default_rng(0)
        return np.array([self.draw(rng) for _ in range(DRAWS)]).reshape(DRAWS, -1) - self.mean.ravel()

    @cached_property
    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """The axes along which there are deviations, and their standard deviations along each."""
        _, s, Vt = np.linalg.svd(self.draws, full_matrices=False)
        keep = s > 1e-6 * max(s[0], 1e-300)
        return Vt[keep], s[keep] / np.sqrt(DRAWS)

    @cached_property
    def whitened_draws(self) -> np.ndarray:
        axes, deviations = self.principal
        return self.draws @ axes.T / deviations

    def whitened(self, estimate: np.ndarray) -> tuple[np.ndarray, float]:
        """The deviation from the mean in units of one sample's standard deviation, and how much of it, relative to the
        mean, is where sampling gives none."""
        r = np.asarray(estimate, dtype=float).ravel() - self.mean.ravel()
        axes, deviations = self.principal
        along = axes @ r
        outside = np.linalg.norm(r - axes.T @ along)
        return along / deviations, float(outside / np.linalg.norm(self.mean))

    def samples(self, estimate: np.ndarray) -> float:
        """The S for which the deviation is what S samples a case give."""
        return float(1 / max(np.mean(self.whitened(estimate)[0] ** 2), 1e-300))

    def averages(self, rng, S: float) -> np.ndarray:
        """Whitened deviations of estimates with about S samples a case, (1000, axes)."""
        if S > 50:
            return rng.standard_normal((1000, self.whitened_draws.shape[1]))
        return self.whitened_draws[rng.integers(DRAWS, size=(1000, max(1, round(S))))].mean(1)

    def tenable(self, estimate: np.ndarray, slack: float = 3.0) -> bool:
        """Whether the estimate may be an average of samples: no deviation outside of their span, not more than one
        sample's, not less than `MOST_SAMPLES`', and as evenly spread over the axes as that of so many samples."""
        if np.shape(estimate) != self.mean.shape:
            return False
        z, outside = self.whitened(estimate)
        size = np.mean(z**2)
        if self.principal[0].shape[0] == DRAWS:  # too large for so few draws to know the span
            return bool(size > 1 / MOST_SAMPLES)
        if outside > 1e-5 or not 1 / MOST_SAMPLES < size < slack * np.max(np.mean(self.whitened_draws**2, 1)):
            return False
        rest, below = np.array([unevenness(x) for x in self.averages(np.random.default_rng(0), 1 / size)]).T
        # well beyond the most uneven of a thousand
        return bool(unevenness(z)[0] >= np.min(rest) / 3 - 1e-9 and unevenness(z)[1] <= np.max(below) + 1.5)

    def range_of_samples(self, rng, S: int) -> tuple[float, float]:
        """What may be estimated for S from one estimate with S samples a case: simulated, and a factor of 2."""
        averages = np.array([self.whitened_draws[rng.integers(DRAWS, size=S)].mean(0) for _ in range(100)])
        found = 1 / np.mean(averages**2, 1)
        return min(0.5 * float(min(found)), S / 2), max(2 * float(max(found)), 2 * S)


def unevenness(z: np.ndarray) -> np.ndarray:
    """The share of all squares but the largest, and how far the squares' geometric mean is below their mean."""
    z2 = z**2 + 1e-300
    return np.array([1 - np.max(z2) / np.sum(z2), np.log(np.mean(z2)) - np.mean(np.log(z2))])
