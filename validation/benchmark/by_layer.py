"""Where the bare gradient's milliseconds go: a network's layers, and what each does forward, back and for 𝒟W."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from statistics import median
from typing import Any

from autodiff import text
from autodiff.layers import Closing, Opening
from autodiff.network import Network
from validation.benchmark import methods
from validation.benchmark.problems import Problem
from validation.benchmark.stages import REST, Place, Stopwatch

STEPS = {"forward": "forward", "backward": "back", "pull": "back", "gradient": "𝒟W"}
"""A layer's methods that the bare gradient calls, and their columns."""
COLUMNS = tuple(dict.fromkeys(STEPS.values()))
REPEATS = 20


def milliseconds(problem: Problem, m: int) -> list[dict[str, Any]]:
    """A row a layer, of its steps; the last is what is outside of layers: sums, the loss. Medians of REPEATS."""
    labels = {
        id(layer): f"{i} {text.of_layer(layer)}"
        for i, layer in enumerate(problem.network.stages, start=1)
        if not isinstance(layer, (Opening, Closing))
    }
    once = methods.gradient(problem, m)
    stages = [*product(labels.values(), COLUMNS), REST]
    stopwatch = Stopwatch(problem.data.X, list(_places(problem.network, labels)), stages)
    with stopwatch.watching():
        laps = [stopwatch.lap(lambda: once(1, False)) for _ in range(REPEATS)]

    def of(stage: Any) -> float:
        return 1e3 * median(lap[stage] for lap in laps)

    rows = [{"layer": label} | {column: of((label, column)) for column in COLUMNS} for label in labels.values()]
    return [*rows, {"layer": REST, COLUMNS[0]: of(REST)}]


def _places(network: Network, labels: dict[int, str]) -> Iterator[Place]:
    """The methods, where the layers' kinds have them, and which stage a call of one is."""
    kinds = {type(layer) for layer in network.stages if id(layer) in labels}
    for owner, name in {(next(c for c in k.__mro__ if name in vars(c)), name) for k in kinds for name in STEPS}:
        yield owner, name, lambda layer, column=STEPS[name]: (labels[id(layer)], column)
