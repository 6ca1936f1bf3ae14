"""Checks the paper's statements numerically, each on random networks, in float64.

Every row of the table is one statement: what it says, what was computed, the worst deviation beside the tolerance of
that instance (the deviation closest to its tolerance, or farthest over it), and the number of instances tried.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from autodiff.names import closest
from validation.theorems import (
    approximations,
    damping_identities,
    differences,
    fisher_identities,
    invariance,
    inverses,
    momentum,
    paths,
    recurrent,
    regressions,
    shared_weights,
    tridiagonal,
)
from validation.theorems.statement import Deviation, Instance, Statement

FILES = (
    fisher_identities,
    differences,
    approximations,
    inverses,
    tridiagonal,
    regressions,
    damping_identities,
    momentum,
    invariance,
    paths,
    shared_weights,
    recurrent,
)
STATEMENTS: dict[str, Statement] = {statement.name: statement for file in FILES for statement in file.STATEMENTS}
"""All of them, by name, in the order of the paper's sections."""
SECONDS = 30.0
"""About how long all of them take, on one quiet core."""
WIDTHS = [42, 6, 50, 8, 8, 5, 8]
"""Of the printed table's columns, in characters; what is longer is wrapped."""


@dataclass(frozen=True)
class Result:
    """A statement tried on random instances."""

    statement: Statement
    worst: Deviation
    instance: Instance
    """The one that gave the worst deviation."""
    tried: int
    failed: int
    raised: str = ""
    """What the check raised on that instance, if it did; that counts as a failure."""

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        return {
            "statement": self.statement.says,
            "§": self.statement.section,
            "computed": self.statement.computed,
            "worst": f"{self.worst.value:.1e}",
            "allowed": f"{self.worst.tolerance:.1e}",
            "tried": self.tried,
            "holds": "ok" if not self.failed else f"{self.failed} FAIL",
        }


def examine(statement: Statement, instances: int, seed: int = 0) -> Result:
    """Try a statement on so many random instances."""
    rng = np.random.default_rng([seed, *statement.name.encode()])
    results = []
    for _ in range(instances):
        instance = statement.space.random(rng)
        results.append((*attempt(statement, instance), instance))
    worst, raised, instance = max(results, key=lambda result: result[0].ratio)
    return Result(statement, worst, instance, instances, sum(not result[0].within for result in results), raised)


def attempt(statement: Statement, instance: Instance) -> tuple[Deviation, str]:
    """The deviation on one instance, and what the check raised: then the deviation is infinite."""
    try:
        return statement.check(instance), ""
    except Exception as error:  # what is broken may raise anything, and the other statements are still to be tried
        return Deviation(math.inf, 0.0), f"{type(error).__name__}: {error}"


def examine_all(names: Sequence[str], instances: int | None = None, seed: int = 0) -> list[Result]:
    """Try the statements of these names, with a progress bar."""
    # matrices this small lose much to threads, and gain nothing
    with threadpool_limits(1), tqdm(names, unit="statement", disable=None, leave=False) as bar:
        results = []
        for name in bar:
            bar.set_description(name)
            statement = STATEMENTS[name]
            results.append(examine(statement, instances or statement.instances, seed))
        return results


def as_text(results: Sequence[Result]) -> str:
    """The table for people to read, about 150 characters wide."""
    rows = [result.row() for result in results]
    return tabulate(rows, headers="keys", maxcolwidths=[*WIDTHS], disable_numparse=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation theorems`: exit code 1 if a statement fails."""
    parser = argparse.ArgumentParser(prog="python -m validation theorems", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(STATEMENTS)}")
    parser.add_argument("--instances", type=int, metavar="N", help="of each statement (default: as each says)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    options = parser.parse_args(arguments)
    if options.instances is not None and options.instances < 1:
        raise ValueError(f"--instances must be ≥ 1; got {options.instances}")
    names = [closest(name, STATEMENTS, "statement") for name in options.names] or list(STATEMENTS)
    start = time.perf_counter()
    results = examine_all(names, options.instances, options.seed)
    print(as_text(results))
    for result in results:
        if result.failed:
            print(f"\n{result.statement.name} fails on {result.failed} of {result.tried}; worst on {result.instance}")
        if result.raised:
            print(f"which raised {result.raised}")
    tried = sum(result.tried for result in results)
    print(f"\n{len(results)} statements, {tried} instances, {time.perf_counter() - start:.0f} s")
    return int(any(result.failed for result in results))
