"""A training run in memory, for optimizers that the command does not know: what it reaches, when, and in how many
seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from autodiff.objective import evaluate
from kfac_ref.command import plots
from kfac_ref.optimizer import Diverged
from kfac_ref.training import loop
from validation.work import Arrays


def course(optimizer: Any, state: loop.AnyState, data: loop.Data, at: Sequence[int], name: str) -> Arrays:
    """What a run has reached after the iterations `at`, or after those of them that it got to before it diverged.

    It runs in one BLAS thread: that serves narrow layers best, and what else the machine does then matters least.

    Parameters
    ----------
    optimizer, state, data : what `loop.iterate` takes.
    at : increasing; the last is the last iteration.
    name : for the progress bar.

    Returns
    -------
    Arrays k, seconds (of training, evaluation not counted), h and error on all training cases, and alpha, the mean of α
    since the evaluation before (NaN for SGD).
    """
    settings, total, reached, alphas = optimizer.settings, 0.0, [], []
    with (
        threadpool_limits(1),
        np.errstate(over="ignore", invalid="ignore"),
        tqdm(total=at[-1], desc=name, unit="it", leave=False, disable=None) as bar,
    ):
        iterations = loop.iterate(optimizer, state, data)
        try:
            while state.k < at[-1]:
                state, record, seconds = next(iterations)
                total += seconds
                alphas.append(getattr(record, "alpha", np.nan))
                bar.update()
                if state.k in at:
                    now = evaluate(
                        optimizer.network, state.parameters, data.X, data.Y, settings.eta, settings.chunk_size
                    )
                    reached.append((state.k, total, now.h, now.error, np.mean(alphas)))
                    alphas = []
        except Diverged:
            pass
    columns = np.array(reached).reshape(-1, 5).T
    return dict(zip(("k", "seconds", "h", "error", "alpha"), columns, strict=True))


def spread(iterations: int, points: int = 60) -> list[int]:
    """At most so many of the iterations 1 … `iterations`, both ends among them, evenly spread on a logarithmic axis."""
    return sorted({round(k) for k in np.geomspace(1, iterations, points)})


def first_below(run: Arrays, x: str, y: str, level: float) -> float | None:
    """x where y is first at most `level`; None if it never is."""
    below = np.flatnonzero(run[y] <= level)
    return float(run[x][below[0]]) if len(below) else None


def panels(columns: int, title: str) -> tuple[Figure, list[Axes]]:
    """An empty figure of panels side by side, the heights of all on one logarithmic scale; the first two are against
    iterations and seconds, logarithmic too."""
    figure = Figure(figsize=(4.6 * columns, 4.4), layout="constrained")
    axes = list(figure.subplots(1, columns, sharey=True))
    for ax, label in zip(axes, ("iteration", "seconds of training"), strict=False):
        ax.set_xlabel(label)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        plots.logarithmic(ax)
        ax.tick_params(labelsize=9)
    figure.suptitle(title, fontsize=10)
    return figure, axes
