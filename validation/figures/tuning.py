"""How SGD with Nesterov momentum is tuned (§13): ε over a grid, μ_max over the paper's list, by successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kfac_ref.baselines import momentum

MU_MAX = (0.0, 0.9, 0.99, 0.995, 0.999)
"""The paper's list."""


@dataclass(frozen=True, order=True)
class Setting:
    """A learning rate and a bound of μ_t."""

    half_decades: int
    """The learning rate is 10^(half_decades/2), to two digits."""
    mu_max: float

    @property
    def learning_rate(self) -> float:
        """ε."""
        return float(f"{10 ** (self.half_decades / 2):.1e}")

    def __str__(self) -> str:
        return f"{self.learning_rate:g}-{self.mu_max:g}"


@dataclass(frozen=True)
class Grid:
    """What is tried for how long."""

    half_decades: tuple[int, ...]
    """The learning rates that all are tried, ascending."""
    short: int
    """Iterations of every setting."""
    long: int
    """Iterations of those that are best after the short runs, and of the winner's neighbours."""
    kept: int
    """How many of the short runs go on."""
    more: int
    """At most so many neighbours are tried besides."""


@dataclass(frozen=True)
class Tuned:
    """The training errors of a grid; inf where a run diverged."""

    short: Mapping[Setting, float]
    long: Mapping[Setting, float]
    winner: Setting
    """Of the long runs."""
    enclosed: bool
    """Whether both neighbouring learning rates were tried with the winner's μ_max, and are worse."""


def alike(mu_max: float, iterations: int) -> tuple[float, ...]:
    """The bounds in the list with which μ_t, t ≤ `iterations`, is the same as with `mu_max`, itself among them.

    μ_t grows slowly: bounds that it does not reach make no difference.
    """
    last = momentum(iterations, mu_max)
    return tuple(other for other in MU_MAX if momentum(iterations, other) == last)


def distinct(iterations: int) -> list[float]:
    """The bounds that differ within so many iterations, each the least of those alike."""
    return [mu for mu in MU_MAX if alike(mu, iterations)[0] == mu]


def tune(error: Callable[[Setting, int], float], grid: Grid) -> Tuned:
    """Find the setting with the least training error, where `error` gives that after so many iterations.

    Every setting has a short run, the best have long ones. Then the neighbours of the winner, half a decade up and
    down, have long runs until none is better. A setting whose short run diverged would diverge again: runs are
    determined by their seed.

    Raises
    ------
    ValueError
        If everything diverges.
    """
    every = [Setting(n, mu) for n in grid.half_decades for mu in distinct(grid.short)]
    short = {setting: error(setting, grid.short) for setting in every}
    sound = sorted((s for s in every if short[s] < math.inf), key=lambda s: short[s])
    long: dict[Setting, float] = {}
    for setting in sound[: grid.kept]:
        for mu in distinct(grid.long):
            if mu in alike(setting.mu_max, grid.short):
                candidate = Setting(setting.half_decades, mu)
                long[candidate] = error(candidate, grid.long)
    if not sound:
        raise ValueError(
            f"every learning rate diverges, from {every[0].learning_rate:g} to {every[-1].learning_rate:g}"
        )
    tried = 0
    while True:
        winner = min(long, key=lambda s: long[s])
        beside = [Setting(winner.half_decades + step, winner.mu_max) for step in (-1, 1)]
        for setting in beside:
            if short.get(Setting(setting.half_decades, alike(setting.mu_max, grid.short)[0])) == math.inf:
                long[setting] = math.inf
        untried = [setting for setting in beside if setting not in long]
        if not untried or tried == grid.more:
            return Tuned(short, long, winner, not untried)
        long[untried[0]] = error(untried[0], grid.long)
        tried += 1
