"""How many iterations a training error takes, by the size of the mini-batch: SGD and K-FAC, by one process.

With P processes a mini-batch P times as large takes the same time. What is won by that is fewer iterations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.objective import evaluate
from kfac_ref.optimizer import Diverged
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, prepare

NETWORK = (256, 64, 16, 64, 256)
ETA = 1e-5
EVALUATED, EVERY = 1000, 5
"""Training cases on which the error is measured, and iterations between."""
KFAC_CONSTANTS = {"lambda0": 3.0, "average_from": 1}
LEARNING_RATES = (0.006, 0.012)
SIZES = (125, 250, 500, 1000, 2000)
TARGET = 3.0
LIMITS = {"kfac": 400, "sgd": 1500}


@dataclass(frozen=True)
class Reached:
    """What a mini-batch of m cases took."""

    optimizer: str
    m: int
    iterations: int | None
    """To the target; None: not within the limit."""
    learning_rate: float | None = None
    """Of SGD, that which took fewest."""


def compare(sizes: Sequence[int] = SIZES, limits: Mapping[str, int] = LIMITS, target: float = TARGET) -> list[Reached]:
    """Both methods at each size; SGD with the best of LEARNING_RATES at each."""
    found = []
    for m in sizes:
        found.append(Reached("kfac", m, iterations("kfac", m, target, limits["kfac"], KFAC_CONSTANTS)))
        best: tuple[int | None, float | None] = None, None
        for rate in LEARNING_RATES:
            most = limits["sgd"] if best[0] is None else best[0]
            k = iterations("sgd", m, target, most, {"learning_rate": rate})
            if k is not None and (best[0] is None or k < best[0]):
                best = k, rate
        found.append(Reached("sgd", m, *best))
    return found


def iterations(optimizer: str, m: int, target: float, most: int, constants: Mapping[str, Any]) -> int | None:
    """Until the training error of the averaged iterate (SGD does not average) is at most `target`."""
    about = {"m1": m, "full_batch_at": None, "eta": ETA} | dict(constants)
    p = prepare(Experiment(data="fashion16", network=NETWORK, optimizer=optimizer, preset="authors", constants=about))
    X = p.data.X[:EVALUATED, :]
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            for state, _, _ in loop.iterate(p.optimizer, p.first_state(), p.data):
                if state.k % EVERY == 0 and evaluate(p.network, state.averaged, X, X).error <= target:
                    return state.k
                if state.k >= most:
                    return None
        except (Diverged, ValueError):
            return None
    return None
