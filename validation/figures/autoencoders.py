"""The autoencoders of §13 trained by K-FAC, both ways and with the preset `quick`, and by tuned SGD: the
runs that figures 10 and 11 are drawn of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kfac_ref.command import plots
from kfac_ref.data import datasets
from kfac_ref.data.fetching import FetchError
from kfac_ref.training.experiment import Experiment, prepare
from kfac_ref.training.runs import CHECKPOINT, Plan
from validation.figures.drawn import Row
from validation.figures.palette import COLOURS, CONSTANT_M, DIAGONAL, PRESET_QUICK, SGD, TRIDIAGONAL
from validation.figures.tuning import Grid, Setting, Tuned, tune
from validation.reference_run import experiment
from validation.work import Arrays, Trained, Work

SGD_CASES = 200
"""In SGD's mini-batches."""


@dataclass(frozen=True)
class Budget:
    """How long a data set is trained, and how often all cases are evaluated, which is not counted as training."""

    kfac: int
    """Iterations of K-FAC with either inverse. All else is given the seconds of the longer of both runs."""
    evaluate_kfac: int
    """Iterations between evaluations; a divisor of the authors' 50."""
    evaluate_sgd: int
    """At most the iterations of a long run that tunes SGD."""
    grid: Grid
    """How SGD is tuned."""


FULL = {
    "mnist": Budget(200, 25, 500, Grid((-6, -5, -4, -3, -2), 250, 1500, kept=2, more=3)),
    "curves": Budget(300, 10, 500, Grid((-6, -5, -4, -3, -2), 750, 3000, kept=3, more=3)),
    "faces": Budget(75, 25, 200, Grid((-8, -7, -6, -5, -4), 100, 400, kept=2, more=3)),
}
QUICK = {
    "mnist": Budget(100, 25, 400, Grid((-5, -4, -3), 100, 400, kept=1, more=2)),
    "fashion16": Budget(100, 25, 500, Grid((-5, -4, -3), 300, 1000, kept=1, more=2)),
}
"""Without MNIST, `fashion16`, which is in the package, is trained in its place."""

KFAC = {"block-tridiagonal": TRIDIAGONAL, "block-diagonal": DIAGONAL}
"""Names by inverse."""
POINT = ("k", "m", "seconds", "cases", "train_error", "test_error", "train_error_averaged", "test_error_averaged")
"""What the table of an evaluation holds."""


@dataclass(frozen=True)
class Compared:
    """A data set's runs."""

    name: str
    runs: dict[str, Trained]
    """By optimizer, as legends say it; SGD is the tuned one."""
    tuned: Tuned
    budget: Budget

    def label(self, optimizer: str) -> str:
        """The optimizer, and how SGD was tuned."""
        winner = self.tuned.winner
        if optimizer != SGD:
            return optimizer
        return f"SGD, m = {SGD_CASES}, ε = {winner.learning_rate:g}, μ_max = {winner.mu_max:g}"


def compared(work: Work) -> list[Compared]:
    """Train on each data set, or take the runs that the folder keeps."""
    budgets = QUICK if work.quick else FULL | {"fashion16": QUICK["fashion16"]}
    names = [name for name in budgets if name != "fashion16" and _to_be_had(name)]
    return [_compared(work, name, budgets[name]) for name in names or ["fashion16"]]


def _compared(work: Work, name: str, budget: Budget) -> Compared:
    plan = Plan(iterations=budget.kfac, evaluate_every=budget.evaluate_kfac)
    runs = {
        label: _trained(
            work, f"{name}-kfac-{inverse}-{budget.kfac}", experiment(name, constants={"inverse": inverse}), plan
        )
        for inverse, label in KFAC.items()
    }
    seconds = max(run.lines[-1]["seconds"] for run in runs.values())
    plan = Plan(seconds=seconds, evaluate_every=budget.evaluate_kfac)
    runs[PRESET_QUICK] = _trained(work, f"{name}-kfac-quick-{seconds:.0f}s", experiment(name, preset="quick"), plan)
    if not work.quick:
        constant = experiment(name, constants={"inverse": "block-diagonal", "full_batch_at": None})
        runs[CONSTANT_M] = _trained(work, f"{name}-kfac-block-diagonal-m1000-{seconds:.0f}s", constant, plan)
    tuned = tune(lambda setting, iterations: short_run(work, name, setting, iterations), budget.grid)
    plan = Plan(seconds=seconds, evaluate_every=budget.evaluate_sgd)
    runs[SGD] = sgd(work, f"{name}-sgd-{tuned.winner}-{seconds:.0f}s", name, tuned.winner, plan)
    return Compared(name, runs, tuned, budget)


def _trained(work: Work, run: str, experiment: Experiment, plan: Plan) -> Trained:
    """Train under the name `run`. The checkpoint of a finished run, up to hundreds of megabytes, is not kept."""
    trained = work.train(run, experiment, plan)
    (work.out / "runs" / run / CHECKPOINT).unlink(missing_ok=True)
    return trained


def _to_be_had(name: str) -> bool:
    try:
        datasets.load(name)
    except FetchError:
        return False
    return True


def sgd(work: Work, run: str, name: str, setting: Setting, plan: Plan) -> Trained:
    """SGD from the same initial parameters, with a mini-batch that does not grow, under the name `run`."""
    constants = {"learning_rate": setting.learning_rate, "mu_max": setting.mu_max, "m1": SGD_CASES}
    return _trained(work, run, experiment(name, optimizer="sgd", constants=constants), plan)


def short_run(work: Work, name: str, setting: Setting, iterations: int) -> float:
    """The training error of SGD after so many iterations; inf if it diverged."""
    plan = Plan(iterations=iterations, evaluate_every=iterations)
    run = sgd(work, f"{name}-sgd-{setting}-{iterations}", name, setting, plan)
    error = None if run.diverged else run.lines[-1]["train_error"]
    return math.inf if error is None else error


def described(found: Sequence[Compared]) -> str:
    """What was trained on what, for captions."""
    sets = []
    for one in found:
        prepared = prepare(experiment(one.name))
        sizes = "-".join(map(str, prepared.network.sizes))
        sets.append(f"{one.name} ({prepared.data.X.shape[0]} cases, {sizes}; {prepared.dataset.source})")
    return (
        f"Autoencoders, of logistic units, of {'; '.join(sets)}. K-FAC: preset authors, mini-batches growing from 1000 "
        f"cases, where nothing else is said. {SGD}: mini-batches of {SGD_CASES} cases, tuned. All from the same sparse "
        "initialisation, in float32, seed 0."
    )


def with_sums(run: Trained) -> list[dict[str, Any]]:
    """The run's lines with `cases`, worked through so far, and what k, seconds and cases were before the step, when the
    mini-batch's error was measured."""
    lines, before = [], {"k": 0, "seconds": 0.0, "cases": 0}
    for line in run.lines:
        now = {"k": line["k"], "seconds": line["seconds"], "cases": before["cases"] + line["m"]}
        lines.append(line | now | {f"{key}_before": value for key, value in before.items()})
        before = now
    return lines


def points(found: Sequence[Compared]) -> list[Row]:
    """The errors on all cases, as a table."""
    rows: list[Row] = []
    for one in found:
        for label, run in one.runs.items():
            about = {"data": one.name, "optimizer": one.label(label)}
            rows += [about | {key: x[key] for key in POINT if key in x} for x in with_sums(run) if "train_error" in x]
    return rows


def minibatch_errors(found: Sequence[Compared]) -> Arrays:
    """The errors on the mini-batches with what had been done before, as arrays (iterations,) by data, optimizer and
    quantity."""
    arrays = {}
    for one in found:
        for label, run in one.runs.items():
            lines = with_sums(run)
            for key in ("k_before", "seconds_before", "cases_before", "error"):
                arrays[f"{one.name}; {label}; {key}"] = np.asarray([line[key] for line in lines], dtype=np.float64)
    return arrays


def draw_errors(ax: Axes, one: Compared, x: str) -> None:
    """Training error against `x` (k, seconds or cases): on all cases, and thin on the mini-batches."""
    for label, run in one.runs.items():
        lines, colour = with_sums(run), COLOURS[label]
        ax.plot(*plots.series(lines, f"{x}_before", "error"), color=colour, lw=0.5, alpha=0.4)
        how = one.label(label) + (", diverged" if run.diverged else "")
        ax.plot(*plots.series(lines, x, "train_error"), "o-", color=colour, ms=3, lw=1.6, label=how)
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plots.logarithmic(ax)
    # SGD's first steps can be far worse than the start
    ax.set_ylim(top=1.3 * one.runs[SGD].lines[0]["error"])
