"""The pictures of a run: `curve.png`, error against iteration and against seconds, and `reconstructions.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kfac_ref.data.files import write_whole

MEASURES = {"error": "squared error a case", "misclassified": "misclassified"}
TRAIN, TEST, MINIBATCH, PCA = "#1f5fa8", "#d1601f", "#b8c4d0", "#555555"
"""Colours of one run's curves."""
GRID = "#e8e8e8"

Lines = Sequence[Mapping[str, Any]]
"""A run's metrics, one mapping per iteration."""


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG: to a temporary name first, then renamed."""
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))


def curve(lines: Lines, title: str, pca: tuple[float, float | None] | None) -> Figure:
    """Training and test error of one run against iteration and against seconds; `pca` are the errors of PCA.

    Thick lines are of the last iterate θ, thin ones of the averaged iterate θ̄ where there is one.
    """
    measure = _measure([lines])
    averaged = any(f"train_{measure}_averaged" in line for line in lines)
    figure, axes = _pair(title, MEASURES[measure])
    for ax, x in zip(axes, ("k", "seconds"), strict=True):
        if measure == "error":
            _line(ax, series(lines, x, "error"), color=MINIBATCH, lw=0.8, label="mini-batch, before the step")
        for part, name, colour in (("train", "training", TRAIN), ("test", "test", TEST)):
            points = series(lines, x, f"{part}_{measure}")
            if points[0]:
                label = name + (" (thin: averaged iterate)" if averaged else "")
                _line(ax, points, color=colour, lw=1.8, label=label)
                _line(ax, series(lines, x, f"{part}_{measure}_averaged"), color=colour, lw=0.7, alpha=0.7)
        smallest = min(_heights(ax), default=0)
        for value, part, style in zip(pca or (), ("training", "test"), ("--", ":"), strict=False):
            # one that is next to 0, as for data of few dimensions, would flatten all else
            if value is not None and value > smallest / 1000:
                ax.axhline(value, color=PCA, lw=1, ls=style, label=f"PCA, {part}: {value:#.3g}")
    return _finished(figure, axes)


def overlay(runs: Mapping[str, Lines]) -> Figure:
    """Several runs over each other, one colour each: training error solid, test error dashed, of the last iterate."""
    measure = _measure(list(runs.values()))
    figure, axes = _pair("solid: training, dashed: test", MEASURES[measure])
    for number, (name, lines) in enumerate(runs.items()):
        for ax, x in zip(axes, ("k", "seconds"), strict=True):
            for part, style in (("train", "-"), ("test", "--")):
                label = name if part == "train" else None
                points = series(lines, x, f"{part}_{measure}")
                _line(ax, points, linestyle=style, color=f"C{number % 10}", lw=1.5, label=label)
    return _finished(figure, axes)


def _measure(runs: Sequence[Lines]) -> str:
    """What is drawn: the misclassified fraction where all runs have it, else the squared error."""
    return "misclassified" if all(any("train_misclassified" in x for x in lines) for lines in runs) else "error"


def reconstructions(inputs: np.ndarray, outputs: np.ndarray, shape: tuple[int, int] | None, title: str) -> Figure:
    """Inputs (n, d) above their reconstructions; as images of `shape`, or as curves over the d values if None."""
    n = len(inputs)
    width, height = (0.8 * n, 1.7 * shape[0] / shape[1]) if shape else (1.2 * n, 3.0)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure(figsize=(max(width, 5), height + 0.4), layout=layout)
    grid = figure.subplots(2, n, squeeze=False)
    low, high = float(inputs.min()), float(inputs.max())
    for row, cases in zip(grid, (inputs, outputs), strict=True):
        for ax, case in zip(row, cases, strict=True):
            ax.set_xticks([])
            ax.set_yticks([])
            if shape:
                ax.imshow(case.reshape(shape), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
                ax.set_axis_off()
            else:
                ax.plot(case, lw=0.8)
                ax.set_ylim(low, high if high > low else low + 1)
    figure.suptitle(title, fontsize=9)
    return figure


def series(lines: Lines, x: str, y: str) -> tuple[list[float], list[float]]:
    """The points (x, y) of the iterations that have both."""
    points = [(line[x], line[y]) for line in lines if line.get(x) is not None and line.get(y) is not None]
    return [p[0] for p in points], [p[1] for p in points]


def _pair(title: str, what: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, label in zip(axes, ("iteration", "seconds of training"), strict=True):
        ax.set_xlabel(label)
        ax.grid(True, color=GRID, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(what)
    figure.suptitle(title, fontsize=10)
    return figure, axes


def _line(ax: Axes, points: tuple[list[float], list[float]], **how: Any) -> None:
    """A curve, with its points marked where they are few."""
    ax.plot(*points, marker="o" if len(points[0]) <= 5 else None, ms=4, **how)


def _finished(figure: Figure, axes: Sequence[Axes]) -> Figure:
    """With a legend, and a logarithmic scale if all is above 0 (no class may be mistaken any more)."""
    axes[0].legend(fontsize=8, frameon=False)
    if all(height > 0 for ax in axes for height in _heights(ax)):
        for ax in axes:
            logarithmic(ax)
    return figure


def logarithmic(ax: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers and a grid."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(partial(_minor_label, ax))
    ax.tick_params(which="minor", labelsize=7)
    ax.grid(True, which="both", color=GRID, lw=0.6)


def _heights(ax: Axes) -> list[float]:
    return [float(y) for line in ax.lines for y in np.asarray(line.get_ydata())]


def _minor_label(ax: Axes, value: float, _: object) -> str:
    """All minor ticks have their number where the axis is within a decade, otherwise the 2s and the 5s."""
    low, high = sorted(ax.get_ylim())
    return f"{value:g}" if high <= 10 * low or f"{value:.0e}"[0] in "25" else ""
