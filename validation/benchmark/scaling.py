"""How seconds an iteration grow with width, depth and mini-batch: fitted exponents, those of counted work beside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from autodiff import arrays
from kfac_ref.machine import at_full_speed
from kfac_ref.optimizer import KFAC
from kfac_ref.settings import INVERSES, Settings
from kfac_ref.training import loop
from validation.benchmark import flops, methods, problems
from validation.benchmark.problems import Problem

AXES: dict[str, dict[int, tuple[tuple[int, ...], int]]] = {
    "width": {w: ((784, w, w, 784), 1000) for w in (128, 256, 512, 1024, 2048, 4096)},
    "depth": {layers: ((256,) * (layers + 1), 1000) for layers in (2, 4, 8, 16)},
    "mini-batch": {m: ((784, 512, 512, 784), m) for m in (250, 500, 1000, 2000, 4000, 8000)},
}
"""What grows: its values, with the sizes of the network and the cases in the mini-batch."""
ABOUT = {"width": "784-w-w-784, m = 1000", "depth": "layers of 256 units, m = 1000", "mini-batch": "784-512-512-784"}
ENOUGH = 1.0
"""Seconds after which no measurement is repeated."""
REPEATS = 5
"""The most repetitions of one."""


@dataclass(frozen=True)
class Point:
    """One method in one case."""

    axis: str
    value: int
    method: str
    seconds: float
    """An iteration; of K-FAC the mean over a cycle."""
    flops: float


def measure(backend: str, advance: Callable[[], object]) -> list[Point]:
    """The bare gradient and K-FAC with each inverse along all AXES; `advance` is called after each case."""
    points = []
    for axis, cases in AXES.items():
        # with the same number of threads for all cases
        with at_full_speed(max(max(sizes) for sizes, _ in cases.values())):
            for value, (sizes, m) in cases.items():
                problem = problems.random_autoencoder(sizes, m, backend)
                measured = {methods.GRADIENT: (_gradient(problem, m), flops.gradient(sizes, m))}
                for inverse in INVERSES:
                    settings = problems.settings("paper", inverse, m)
                    work = sum(flops.mean_over_cycle(sizes, m, settings).values())
                    measured[inverse] = _seconds_over_cycle(problem, settings), work
                points += [Point(axis, value, method, *both) for method, both in measured.items()]
                advance()
    return points


def _gradient(problem: Problem, m: int) -> float:
    """Seconds of the bare gradient, warm."""
    run = methods.gradient(problem, m)
    run(1, False)
    return median(_repeated(lambda: run(1, False)[0]["seconds"]))


def _seconds_over_cycle(problem: Problem, settings: Settings) -> float:
    """Seconds an iteration of K-FAC on one mini-batch, the mean over a whole cycle."""
    optimizer, length = KFAC(problem.network, settings), flops.cycle(settings)
    batch = loop.minibatch(problem.data, 0, 1, settings.m1)
    # an iteration that inverts for one γ, so that there is an inverse; then the cycle that ends when all is due
    begun, _ = optimizer.step(optimizer.init(problem.parameters), batch)
    begun = replace(begun, k=length)

    def once() -> float:
        state = begun
        arrays.wait(batch.X)
        start = time.perf_counter()
        for _ in range(length):
            state, _ = optimizer.step(state, batch)
        arrays.wait(batch.X)
        return time.perf_counter() - start

    return median(_repeated(once)) / length


def exponents(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Rows of a table: by how much log seconds grow with the log of what grows, by least squares; FLOP likewise."""
    rows = []
    for axis in dict.fromkeys(p.axis for p in points):
        for method in dict.fromkeys(p.method for p in points):
            curve = [p for p in points if (p.axis, p.method) == (axis, method)]
            values = [p.value for p in curve]
            rows.append(
                {
                    "with": axis,
                    "from": min(values),
                    "to": max(values),
                    "of": ABOUT[axis],
                    "method": method,
                    "exponent of seconds": slope(values, [p.seconds for p in curve]),
                    "of FLOP": slope(values, [p.flops for p in curve]),
                }
            )
    return rows


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of log y over log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _repeated(once: Callable[[], float]) -> list[float]:
    """The seconds of repetitions, until these are REPEATS or took ENOUGH in all."""
    seconds = [once()]
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        seconds.append(once())
    return seconds
