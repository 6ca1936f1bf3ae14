"""Figure 10 (§13): training error against computation time, K-FAC with both inverses and the preset `quick`
beside tuned SGD."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kfac_ref.command import plots
from validation.figures import autoencoders
from validation.figures.autoencoders import Compared
from validation.figures.drawn import Drawn, Row
from validation.figures.palette import CONSTANT_M, SGD
from validation.figures.tuning import Setting, alike, distinct
from validation.work import Work

TITLE = "Figure 10: training error against computation time"
SECONDS = {"quick": 250, "full": 2400}


def draw(work: Work) -> Drawn:
    """The figure."""
    found = autoencoders.compared(work)
    figure = Figure(figsize=(max(5.2 * len(found), 6.5), 8), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False, height_ratios=(1.25, 1))
    for (above, below), one in zip(axes.T, found, strict=True):
        autoencoders.draw_errors(above, one, "seconds")
        above.set(title=one.name, xlabel="seconds of training", ylabel="squared error a case")
        above.legend(fontsize=8, frameon=False)
        _draw_grid(below, one)
    return Drawn(
        figure,
        _caption(found),
        [row for one in found for row in summary(one)],
        {"points": autoencoders.points(found), "sgd-grid": [row for one in found for row in grid_rows(one)]},
        autoencoders.minibatch_errors(found),
    )


def _caption(found: Sequence[Compared]) -> str:
    grids = "; ".join(
        f"{one.name}: {one.budget.grid.short} iterations each, then {one.budget.grid.long} of the best and their "
        f"neighbours in ε, winner ε = {one.tuned.winner.learning_rate:g}, μ_max = {one.tuned.winner.mu_max:g}, "
        + ("its neighbours worse" if one.tuned.enclosed else "with a neighbour untried")
        for one in found
    )
    more = ", the run with m = 1000" if any(CONSTANT_M in one.runs for one in found) else ""
    return (
        f"Above: error on all training cases (dots) against seconds of training, evaluation not counted; thin: on the "
        f"mini-batch before each step, for SGD at θ + μv. {autoencoders.described(found)} The slower K-FAC run sets "
        f"the time; SGD{more} and that of the preset quick have as much; the faster one ends earlier, after the same "
        f"iterations. Below: SGD's training error after the runs that tuned it; bold after the long ones; framed: the "
        "winner. Values of μ_max that μ_t does not reach make no difference and share a run; the winner has the least "
        f"of them. {grids}."
    )


Curve = tuple[list[float], list[float]]
"""Seconds and training errors."""


def seconds_to(curve: Curve, error: float) -> float | None:
    """Seconds after which the error was first found to be at most `error`; None if it never was."""
    return next((seconds for seconds, found in zip(*curve, strict=True) if found <= error), None)


def error_at(curve: Curve, seconds: float) -> float:
    """The error after so many seconds, interpolated geometrically."""
    return math.exp(np.interp(seconds, curve[0], np.log(curve[1])))


def summary(one: Compared) -> list[Row]:
    """The errors at the end of each run, and after the seconds that all of them had."""
    curves = {label: plots.series(run.lines, "seconds", "train_error") for label, run in one.runs.items()}
    common = min(seconds[-1] for seconds, _ in curves.values())
    rows: list[Row] = []
    for label, run in one.runs.items():
        seconds, errors = curves[label]
        rows.append(
            {
                "data": one.name,
                "optimizer": one.label(label),
                "iterations": run.lines[-1]["k"],
                "seconds": seconds[-1],
                "training error": errors[-1],
                "after (s)": common,
                "error then": error_at(curves[label], common),
                "ratio to SGD's": error_at(curves[label], common) / error_at(curves[SGD], common),
                "seconds to SGD's last": seconds_to(curves[label], curves[SGD][1][-1]),
            }
        )
    return rows


def grid_rows(one: Compared) -> list[Row]:
    """Every run that tuned SGD."""
    grid = one.budget.grid
    rows: list[Row] = []
    for iterations, errors in ((grid.short, one.tuned.short), (grid.long, one.tuned.long)):
        for setting, error in sorted(errors.items()):
            rows.append(
                {
                    "data": one.name,
                    "learning_rate": setting.learning_rate,
                    "mu_max": " ".join(f"{mu:g}" for mu in alike(setting.mu_max, iterations)),
                    "iterations": iterations,
                    "train_error": error,
                    "winner": iterations == grid.long and setting == one.tuned.winner,
                }
            )
    return rows


def _draw_grid(ax: Axes, one: Compared) -> None:
    """SGD's grid: a row for each ε, a column for each μ_max that made a difference in the long runs."""
    grid, tuned = one.budget.grid, one.tuned
    columns = distinct(grid.long)
    rows = sorted({setting.half_decades for setting in [*tuned.short, *tuned.long]})
    last = np.full((len(rows), len(columns)), math.nan)
    for (row, column), _ in np.ndenumerate(last):
        setting = Setting(rows[row], columns[column])
        short = tuned.short.get(Setting(setting.half_decades, alike(setting.mu_max, grid.short)[0]))
        long = tuned.long.get(setting)
        both = short is not None and long is not None
        for error, up, weight in ((short, 0.2, "normal"), (long, -0.2, "bold")):
            if error is not None:
                last[row, column] = error
                text = f"{error:.3g}" if math.isfinite(error) else "diverged"
                ax.text(column, row + up * both, text, ha="center", va="center", fontsize=8, weight=weight)
        if setting == tuned.winner:
            ax.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False, lw=2))
    finite = last[np.isfinite(last)]
    norm = LogNorm(0.9 * finite.min(), min(1.1 * finite.max(), 30 * finite.min()))
    ax.imshow(np.ma.masked_invalid(last), norm=norm, cmap="Blues_r", alpha=0.6, aspect="auto", origin="lower")
    ax.set_xticks(range(len(columns)), [", ".join(f"{mu:g}" for mu in alike(first, grid.long)) for first in columns])
    ax.set_yticks(range(len(rows)), [f"{Setting(n, 0).learning_rate:g}" for n in rows])
    ax.set(xlabel="μ_max", ylabel="ε")
    ax.set_title(f"SGD's training error after {grid.short} iterations, bold after {grid.long}", fontsize=9)
