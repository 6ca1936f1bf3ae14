"""`mpiexec -n P python -m validation.processes.measured …`: iterations of many processes, timed and counted.

The first process prints one JSON object: mean seconds and, by purpose, messages, bytes and seconds of an iteration.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from kfac_ref import KFAC, Batch
from kfac_ref.machine import Processes, at_full_speed, processes_found
from kfac_ref.training.experiment import AUTOENCODERS
from validation.benchmark import problems
from validation.benchmark.stages import Stopwatch

SEED = 0


def sizes_of(text: str) -> tuple[int, ...]:
    """Of one of the networks of §13 by name, or as they are given, joined by "-"."""
    return AUTOENCODERS[text] if text in AUTOENCODERS else tuple(map(int, text.split("-")))


def run(
    processes: Processes, sizes: Sequence[int], inverse: str, m: int, iterations: int, threads: int | None
) -> dict[str, Any]:
    """What the first `iterations` iterations take, with the constants of the authors' program and random cases."""
    problem = problems.random_autoencoder(sizes, m, "numpy")
    settings = problems.settings("authors", inverse, m)
    kfac, data = KFAC(problem.network, settings, processes), problem.data
    state = kfac.init(problem.parameters, SEED)
    watch, seconds, stages = Stopwatch(data.X), [], []
    # after what is done once: pages of memory, threads
    kfac.step(state, _batch(data.X, processes, 0))
    processes.traffic.clear()
    with watch.watching():
        for k in range(iterations):
            batch = _batch(data.X, processes, k)
            processes.gather(None)
            start, before = time.perf_counter(), state

            def step(before: Any = before, batch: Batch = batch) -> None:
                nonlocal state
                state, _ = kfac.step(before, batch)

            stages.append(watch.lap(step))
            seconds.append(time.perf_counter() - start)
    traffic = {what: asdict(t) for what, t in processes.traffic.items() if what != "other"}
    return {
        "processes": processes.number,
        "threads": threads,
        "inverse": inverse,
        "m": m,
        "iterations": iterations,
        "seconds": float(np.mean(seconds)),
        "stages": {name: float(np.mean([lap[name] for lap in stages])) for name in stages[0] if name != "seconds"},
        "traffic": {what: {key: x / iterations for key, x in t.items()} for what, t in traffic.items()},
    }


def _batch(X: np.ndarray, processes: Processes, k: int) -> Batch:
    rows = np.random.default_rng([SEED, k]).permutation(len(X))[processes.dealt(len(X))]
    return Batch(x := X[rows], x)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser("python -m validation.processes.measured", description=__doc__)
    parser.add_argument("--network", type=sizes_of, default=AUTOENCODERS["mnist"])
    parser.add_argument("--inverse", default="block-tridiagonal")
    parser.add_argument("--m", type=int, default=4000)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    processes = processes_found()
    threads = options.threads or processes.threads
    with at_full_speed(max(options.network), threads) as count, np.errstate(over="ignore", invalid="ignore"):
        found = run(processes, options.network, options.inverse, options.m, options.iterations, count)
    if processes.first:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
