"""Recurrent networks trained by K-FAC with each treatment of time, beside tuned SGD and tuned Adam (RNN §5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from kfac_ref import KFAC
from kfac_ref.baselines import SGD as NesterovSGD
from kfac_ref.baselines import SGDSettings
from kfac_ref.command import plots
from kfac_ref.settings import preset
from kfac_ref.training import networks
from validation.figures.adam import Adam, AdamSettings
from validation.figures.course import spread
from validation.figures.drawn import Drawn, Row
from validation.figures.kfc import AXES, reached
from validation.figures.palette import ADAM, COLOURS, INDEPENDENT, SGD, STATIONARY, SYMMETRIC
from validation.figures.recurrent_tasks import XI_MAX, Task, adding_problem, rows_of_images, run
from validation.figures.tuning import Grid, Setting, Tuned, tune
from validation.work import Arrays, Work

TITLE = "Recurrent networks: K-FAC with three treatments of time, against SGD and Adam"
SECONDS = {"quick": 10, "full": 1100}

KFAC_TIMES = {INDEPENDENT: "independent", SYMMETRIC: "symmetric", STATIONARY: "stationary"}
CASES = 500
"""In every optimizer's mini-batches, so that an iteration is as many cases for all."""


@dataclass(frozen=True)
class Budget:
    """How long is trained, in iterations."""

    kfac: int
    others: int
    rates: tuple[int, ...]
    """Adam's learning rates, each a run of its own: 10^(n/2)."""
    grid: Grid
    """How SGD is tuned."""


FULL = Budget(600, 3000, (-7, -6, -5, -4), Grid((-5, -4, -3, -2, -1), 200, 3000, kept=2, more=2))
QUICK = Budget(30, 60, (-6, -5), Grid((-4, -3), 20, 60, kept=1, more=0))


@dataclass(frozen=True)
class Compared:
    """All runs on a task."""

    task: Task
    runs: dict[str, Arrays]
    """By optimizer; those of SGD and Adam are the tuned ones."""
    tuned: Tuned
    rates: dict[Setting, float]
    """Adam's training error at the end, by learning rate; inf where it diverged."""

    @property
    def rate(self) -> Setting:
        """Adam's best."""
        return min(self.rates, key=lambda setting: self.rates[setting])


def draw(work: Work) -> Drawn:
    """The figure "recurrent"."""
    budget = QUICK if work.quick else FULL
    size = (10, 1000, 16) if work.quick else (50, 10000, 64)
    tasks = (rows_of_images(work.quick, size[2]), adding_problem(*size))
    found = [compared(work, task, budget) for task in tasks]
    return Drawn(
        _figure(found),
        _caption(found, budget),
        [row for one in found for row in ratios(one.task, one.runs)],
        {
            "points": [row for one in found for row in _points(one)],
            "ratios": [row for one in found for row in ratios(one.task, one.runs)],
            "grids": [row for one in found for row in _grid_rows(one, budget)],
        },
    )


def compared(work: Work, task: Task, budget: Budget) -> Compared:
    """Train, or take the runs that the folder keeps."""
    at = spread(budget.others)
    shared: dict[str, Any] = {"eta": 1e-5, "m1": CASES, "full_batch_at": None}
    runs = {}
    for label, time in KFAC_TIMES.items():
        constants = networks.SUITED | shared | {"average_from": 1, "xi_max": XI_MAX} | dict(task.constants)
        kfac = KFAC(task.network, preset("authors", time=time, **constants))
        runs[label] = run(work, task, kfac, time, spread(budget.kfac))

    def adam(setting: Setting) -> Arrays:
        settings = AdamSettings(learning_rate=setting.learning_rate, **shared)
        return run(work, task, Adam(task.network, settings), f"adam-{setting.learning_rate:g}", at)

    def sgd(setting: Setting, iterations: int) -> Arrays:
        settings = SGDSettings(learning_rate=setting.learning_rate, mu_max=setting.mu_max, **shared)
        name = f"sgd-{setting}-{iterations}"
        return run(work, task, NesterovSGD(task.network, settings), name, spread(iterations))

    rates = {setting: _last(adam(setting)) for setting in (Setting(n, 0.0) for n in budget.rates)}
    tuned = tune(lambda setting, iterations: _last(sgd(setting, iterations)), budget.grid)
    found = Compared(task, runs, tuned, rates)
    runs[ADAM], runs[SGD] = adam(found.rate), sgd(tuned.winner, budget.others)
    return found


def _last(found: Arrays) -> float:
    """The training error at the end of a run."""
    return math.inf if found["diverged"] else float(found["train"][-1])


# --- what is printed -------------------------------------------------------------------------------------------------


def ratios(task: Task, runs: Mapping[str, Arrays]) -> list[Row]:
    """For each level of the training error what the runs need to it, and how many times as much Adam needs."""
    rows: list[Row] = []
    for level in task.levels:
        theirs = {x: reached(runs[ADAM], x, "train", level) for x in AXES}
        for label, found in runs.items():
            ours = {x: reached(found, x, "train", level) for x in AXES}
            if ours["k"] is None:
                continue
            row: dict[str, Any] = {"task": task.name, "training error": level, "optimizer": label}
            row |= {"iterations": ours["k"], "seconds": ours["seconds"]}
            for x, name in (("k", "Adam's iterations over these"), ("seconds", "Adam's seconds over these")):
                need, adam = ours[x], theirs[x]
                row[name] = adam / need if adam and need else None
            rows.append(row)
    return rows


def _points(found: Compared) -> list[Row]:
    return [
        {"task": found.task.name, "optimizer": label}
        | {"iteration": int(k), "seconds": float(s), "training error": float(a), "test error": float(b)}
        for label, one in found.runs.items()
        for k, s, a, b in zip(one["k"], one["seconds"], one["train"], one["test"], strict=True)
    ]


def _grid_rows(found: Compared, budget: Budget) -> list[Row]:
    adam: list[Row] = [
        {"task": found.task.name, "optimizer": ADAM, "learning_rate": setting.learning_rate}
        | {"iterations": budget.others, "training error": error, "winner": setting == found.rate}
        for setting, error in found.rates.items()
    ]
    tuned, grid = found.tuned, budget.grid
    return adam + [
        {"task": found.task.name, "optimizer": SGD, "learning_rate": setting.learning_rate, "mu_max": setting.mu_max}
        | {"iterations": iterations, "training error": error}
        | {"winner": iterations == grid.long and setting == tuned.winner}
        for iterations, errors in ((grid.short, tuned.short), (grid.long, tuned.long))
        for setting, error in sorted(errors.items())
    ]


def _caption(found: list[Compared], budget: Budget) -> str:
    said = []
    for one in found:
        task, winner = one.task, one.tuned.winner
        ends = "; ".join(
            f"{label} {int(found['k'][-1])} iterations, {float(found['seconds'][-1]):.0f} s, training error "
            f"{float(found['train'][-1]):.4g}, test error {float(found['test'][-1]):.4g}"
            for label, found in one.runs.items()
            if len(found["k"])
        )
        gone = [label for label, found in one.runs.items() if found["diverged"]]
        kind = "misclassified fraction" if task.measure == "misclassified" else "squared error"
        which = f"of averaged iterates (ξ ≤ {XI_MAX:g}, for all optimizers)" if task.averaged else "of θ"
        constants = ", ".join(f"{name} {value:g}" for name, value in task.constants.items())
        said.append(
            f"{task.name}: {task.about}; {task.network}; {kind} {which}; K-FAC with {constants}; Adam with learning "
            f"rate {one.rate.learning_rate:g}, SGD with {winner.learning_rate:g} and μ_max {winner.mu_max:g}. At the "
            f"end: {ends}.{' Diverged: ' + ', '.join(gone) + '.' if gone else ''}"
        )
    rates = ", ".join(f"{Setting(n, 0).learning_rate:g}" for n in budget.rates)
    return (
        f"Training errors, float32, seed 0, Glorot's initial parameters, mini-batches of {CASES} cases for all "
        f"optimizers. {' '.join(said)} K-FAC is block-diagonal, preset authors with what suits networks of other "
        "layers than dense ones; the constants named above were found in a few short runs on the same tasks. "
        "Its recurrent block is T V_0 (independent), or that of a chain, symmetric or stationary (RNN §3). Adam is the "
        f"best of the learning rates {rates}, SGD the best of a grid of ε and μ_max, "
        f"{budget.grid.short} iterations each, then {budget.grid.long} of the best and their neighbours in ε, all by "
        "the training error at the end. Seconds are the processor's, of one thread, evaluation not counted."
    )


def _figure(found: list[Compared]) -> Figure:
    figure = Figure(figsize=(10, 8), layout="constrained")
    for row, one in zip(figure.subplots(len(found), 2, sharey="row"), found, strict=True):
        for ax, (x, label) in zip(row, AXES.items(), strict=True):
            _curves(ax, one.runs, x)
            ax.set_xlabel("iteration" if x == "k" else label)
        row[0].set_ylabel(f"training error, {one.task.measure}")
        row[0].set_title(one.task.name, fontsize=10)
        row[0].legend(fontsize=8, frameon=False)
    return figure


def _curves(ax: Axes, runs: Mapping[str, Arrays], x: str) -> None:
    for label, one in runs.items():
        ax.plot(one[x], one["train"], lw=1.6, color=COLOURS[label], label=label)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
    plots.logarithmic(ax)
