"""The constants of both methods: the best of a grid, on seeds of their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from validation.policy.environments import TASKS
from validation.policy.training import steps_until, train
from validation.work import Work

SEEDS = (100, 101, 102, 103, 104)
"""What is reported is of others."""
FIRST, FINALISTS = 2, 2
"""Where a task is to be solved, all settings are tried on so many of SEEDS, and the best so many on the rest too."""
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "kfac": {"horizon": (8, 32), "delta": (0.01, 0.03), "gamma": (0.01, 0.03), "critic_delta": (0.01,)},
    "adam": {"horizon": (8, 32), "rate": (3e-3, 1e-2), "critic_rate": (1e-3, 3e-3)},
}
"""For the task that is to be solved; chosen by a coarser search, δ from 0.003 to 0.1, γ from 0.01 to 0.3, rates from
3e-4 to 3e-2."""
OTHERS: dict[str, dict[str, tuple[float, ...]]] = {
    "kfac": {"horizon": (32,), "delta": (0.003, 0.01, 0.03), "gamma": (0.03,), "critic_delta": (0.01,)},
    "adam": {"horizon": (32,), "rate": (1e-3, 3e-3, 1e-2), "critic_rate": (3e-3,)},
}
"""For the other two, on one seed."""
FEWER: dict[str, dict[str, tuple[float, ...]]] = {
    "kfac": {"horizon": (32,), "delta": (0.01, 0.03), "gamma": (0.1,), "critic_delta": (0.01,)},
    "adam": {"horizon": (8,), "rate": (1e-3, 3e-3), "critic_rate": (3e-3,)},
}
"""With --quick."""


def settings(task: str, method: str, quick: bool = False) -> list[dict[str, float]]:
    """Those of the grid."""
    grid = (FEWER if quick else OTHERS if TASKS[task].solved is None else GRIDS)[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run(work: Work, task: str, method: str, constants: Mapping[str, float], seed: int, steps: int) -> dict[str, Any]:
    """`train` on one of TASKS, kept in the folder. A run to tune by ends where the task is solved."""
    described = {"task": task, "method": method, "constants": dict(constants), "seed": seed, "steps": steps}
    name = "-".join([task, method, *(f"{v:g}" for v in constants.values()), f"seed{seed}"])
    tuning = seed in SEEDS
    return work.kept(name, described, lambda: train(TASKS[task], method, constants, seed, steps, until_solved=tuning))


def cost(task: str, found: Mapping[str, Any], steps: int) -> float:
    """What is to be small: the steps until the task is solved, twice all `steps` where it never is; for a task that
    counts as solved at no return, minus the mean return of all evaluations."""
    level = TASKS[task].solved
    if level is None:
        return -float(np.mean(found["returns"]))
    return min(steps_until(found, level), 2.0 * steps)


def tuned(work: Work, task: str, method: str) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    """The setting of the least cost, mean over seeds, and of CartPole the second; and the costs of all."""
    tried = settings(task, method, work.quick)
    # as long as the runs that are reported, or what is fast and then falls apart would win
    seeds, steps = (SEEDS[:FIRST], TASKS[task].steps)
    if work.quick or TASKS[task].solved is None:
        seeds, steps = SEEDS[:1], min(8192, steps) if work.quick else steps

    def costs(constants: Mapping[str, float], seeds: tuple[int, ...]) -> float:
        return float(np.mean([cost(task, run(work, task, method, constants, s, steps), steps) for s in seeds]))

    rows = [{"task": task, "method": method} | c | {"cost": costs(c, seeds), "seeds": len(seeds)} for c in tried]
    order = sorted(range(len(rows)), key=lambda i: rows[i]["cost"])
    if TASKS[task].solved is not None and not work.quick:
        finalists = order[:FINALISTS]
        for i in finalists:
            rows[i] |= {"cost": costs(tried[i], SEEDS), "seeds": len(SEEDS)}
        order = sorted(finalists, key=lambda i: rows[i]["cost"])
        return [tried[i] for i in order[:2]], rows
    return [tried[order[0]]], rows
