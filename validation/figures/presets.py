"""The preset `quick` beside the authors' constants (beyond the paper), on data that it was chosen on and on others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from autodiff.network import Parameters
from autodiff.objective import evaluate
from kfac_ref.command import plots
from kfac_ref.data import datasets
from kfac_ref.data.fetching import FetchError
from kfac_ref.data.files import write_whole
from kfac_ref.optimizer import State
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, Prepared, prepare
from validation.estimators.problems import PROBLEMS
from validation.figures.course import first_below
from validation.figures.drawn import Drawn, Row
from validation.figures.palette import COLOURS, PRESET_AUTHORS, PRESET_QUICK
from validation.work import Arrays, Work

TITLE = "The preset quick beside the authors' constants"
SECONDS = {"quick": 20, "full": 330}

PRESETS = {"authors": PRESET_AUTHORS, "quick": PRESET_QUICK}
"""Those compared, and what they are called in legends."""
EVALUATIONS = 40
"""Of each run, evenly spread over its iterations."""
HELD_OUT = 0.25
"""The part of scikit-learn's cases that is tested on."""


@dataclass(frozen=True)
class Task:
    """What is trained, and how long."""

    name: str
    data: str
    """By name; scikit-learn's are those of PROBLEMS."""
    full: int
    """Iterations."""
    quick: int = 0
    """Iterations of the quick figure, which leaves it out at 0."""
    chosen_on: bool = False
    """Whether the preset was chosen by it."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Of the experiment."""

    def to_be_had(self) -> bool:
        """Whether the data are here or can be fetched."""
        try:
            return self.data in PROBLEMS or datasets.load(self.data) is not None
        except FetchError:
            return False

    def prepared(self, preset: str, folder: Path) -> Prepared:
        """The run with a preset; data of scikit-learn go through the folder."""
        data = self.data if self.data in datasets.NAMES else _file(self.data, folder)
        return prepare(Experiment(data=data, preset=preset, constants={}, **self.options))


CLASSES = {"likelihood": "categorical"}
LOGISTIC = {"activation": "logistic"}
TASKS = (
    Task("fashion16", "fashion16", 800, 60, chosen_on=True),
    Task("fashion16, classes", "fashion16", 100, 40, chosen_on=True, options=CLASSES),
    Task("CURVES", "curves", 200, chosen_on=True, options=LOGISTIC),
    Task("mnist16", "mnist16", 200),
    Task("digits, classes", "digits", 100, 40, options=CLASSES),
    Task("friedman1, regression", "friedman1", 100, 40),
)
"""Autoencoders where nothing else is said."""
ERRORS = {"θ": "last", "θ̄": "averaged"}
"""Parameters, and what their test errors are called in the arrays."""
COLUMNS = ("k", "seconds", *ERRORS.values())


def draw(work: Work) -> Drawn:
    """The figure "presets"."""
    tasks = [task for task in TASKS if (not work.quick or task.quick) and task.to_be_had()]
    found = {task: {name: _run(work, task, name) for name in PRESETS} for task in tasks}
    return Drawn(
        _figure(found),
        _caption(found),
        [row for task, runs in found.items() for row in rows(task, runs)],
        {"points": _points(found)},
    )


def _file(problem: str, folder: Path) -> str:
    """An .npz of a problem of scikit-learn: shuffled, inputs and numbers to be predicted standardised."""
    X, y = PROBLEMS[problem].make()
    order = np.random.default_rng(0).permutation(len(X))
    train, test = np.split(order, [round((1 - HELD_OUT) * len(X))])

    def scaled(v: np.ndarray) -> np.ndarray:
        spread = v[train].std(0)
        return (v - v[train].mean(0)) / np.where(spread > 0, spread, 1.0)

    X, y = scaled(X), y if PROBLEMS[problem].classes else scaled(y)
    path = folder / "data" / f"{problem}.npz"
    write_whole(path, lambda file: np.savez(file, X=X[train], Y=y[train], X_test=X[test], Y_test=y[test]))
    return str(path)


def _run(work: Work, task: Task, preset: str) -> Arrays:
    """Test errors of θ and θ̄ after so many iterations and seconds, or what the folder keeps."""
    p, iterations = task.prepared(preset, work.out), task.quick if work.quick else task.full
    described = p.experiment.asdict() | {"data": p.dataset.crc32(), "iterations": iterations}
    name = f"presets-{task.name}-{preset}-{iterations}".replace(",", "").replace(" ", "-")
    return work.kept(name, described, lambda: _course(p, iterations, f"{task.name}, {preset}"))


def _course(p: Prepared, iterations: int, name: str) -> Arrays:
    """Seconds are the processor's, in one BLAS thread, without those of evaluation."""
    spent, reached = 0.0, []
    at = {round(k) for k in np.linspace(0, iterations, EVALUATIONS + 1)[1:]}
    steps = loop.iterate(p.optimizer, p.first_state(), p.data)
    with threadpool_limits(1):
        for k in tqdm(range(1, iterations + 1), desc=name, leave=False, disable=None):
            start = time.process_time()
            state, _, _ = next(steps)
            assert isinstance(state, State)
            spent += time.process_time() - start
            if k in at:
                reached.append((k, spent, _error(p, state.parameters), _error(p, state.averaged)))
    columns = np.array(reached, dtype=np.float64).T
    return dict(zip(COLUMNS, columns, strict=True))


def _error(p: Prepared, parameters: Parameters) -> float:
    """On the test cases: the misclassified fraction if there are classes, else the squared error."""
    assert p.data.X_test is not None and p.data.Y_test is not None
    found = evaluate(p.network, parameters, p.data.X_test, p.data.Y_test)
    return found.error if found.misclassified is None else found.misclassified


def rows(task: Task, runs: Mapping[str, Arrays]) -> list[Row]:
    """For θ and θ̄ the errors at the end, and when each preset first has, of the evaluations, the error at the authors'
    end: with their constants that may be before it."""
    table: list[Row] = []
    for parameters, key in ERRORS.items():
        level = runs["authors"][key][-1]
        needed = {name: first_below(run, "seconds", key, level) for name, run in runs.items()}
        ours, theirs = needed["quick"], needed["authors"]
        row: dict[str, Any] = {"data": task.name, "chosen on it": "yes" if task.chosen_on else "no"}
        row |= {"test error of": parameters, "iterations": int(runs["authors"]["k"][-1])}
        row |= {f"{name}: at the end": float(run[key][-1]) for name, run in runs.items()}
        row |= {f"{name}: seconds": float(run["seconds"][-1]) for name, run in runs.items()}
        row |= {f"{name}: seconds to the authors' last": s for name, s in needed.items()}
        table.append(row | {"ratio": ours / theirs if ours and theirs else None})
    return table


def _points(found: Mapping[Task, Mapping[str, Arrays]]) -> list[Row]:
    return [
        {"data": task.name, "preset": name, "iteration": int(k), "seconds": float(seconds)}
        | {"test error of θ": float(last), "test error of θ̄": float(averaged)}
        for task, runs in found.items()
        for name, run in runs.items()
        for k, seconds, last, averaged in zip(*(run[key] for key in COLUMNS), strict=True)
    ]


def _caption(found: Mapping[Task, Mapping[str, Arrays]]) -> str:
    chosen, others = (", ".join(task.name for task in found if task.chosen_on is on) for on in (True, False))
    return (
        "Test errors, squared or for classes the misclassified fraction, of the last iterate θ (thick) and of the "
        "averaged iterate θ̄ (thin), which is the model that a run leaves. Networks, mini-batches, η and initial "
        "parameters are those of `kfac-ref train`, of logistic units for CURVES; float32, seed 0. Seconds "
        f"are the processor's, of one thread, evaluation not counted. The preset quick was chosen on {chosen} "
        f"and on MNIST (see `python -m validation race`); {others} took no part in that."
    )


def _figure(found: Mapping[Task, Mapping[str, Arrays]]) -> Figure:
    columns = min(4, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax, (task, runs) in zip(axes, found.items(), strict=False):
        for name, run in runs.items():
            ax.plot(run["seconds"], run["last"], lw=1.8, color=COLOURS[PRESETS[name]], label=PRESETS[name])
            ax.plot(run["seconds"], run["averaged"], lw=0.8, color=COLOURS[PRESETS[name]])
        ax.set_title(task.name + ("" if task.chosen_on else " (not chosen on)"), fontsize=10)
        ax.set_xlabel("seconds of training")
        ax.spines[["top", "right"]].set_visible(False)
        plots.logarithmic(ax)
    for ax in axes[len(found) :]:
        ax.set_axis_off()
    axes[0].set_ylabel("test error")
    axes[0].legend(fontsize=8, frameon=False)
    return figure
