"""The pictures of a run: `curve.png`, error against iteration and against seconds, and `reconstructions.png`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kfac_ref.files import write_whole

MEASURES = {"error": "squared error a case", "misclassified": "misclassified"}
TRAIN, TEST, MINIBATCH, PCA = "#1f5fa8", "#d1601f", "#b8c4d0", "#555555"
"""Colours of one run's curves."""

Lines = Sequence[Mapping[str, Any]]
"""A run's metrics, one mapping per iteration."""


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG: to a temporary name first, then renamed."""
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))


def curve(lines: Lines, title: str, pca: tuple[float, float | None] | None) -> Figure:
    """Training and test error of one run against iteration and against seconds; `pca` are the errors of PCA.

    Where the iterates are averaged, the curves are those of θ̄, and θ's are drawn thin.
    """
    measure = "misclassified" if any("train_misclassified" in x for x in lines) else "error"
    figure, axes = _pair(title, MEASURES[measure])
    for ax, x in zip(axes, ("k", "seconds"), strict=True):
        if measure == "error":
            ax.plot(*series(lines, x, "error"), color=MINIBATCH, lw=0.8, label="mini-batch, before the step", zorder=1)
        for part, colour in (("train", TRAIN), ("test", TEST)):
            name = "training" if part == "train" else "test"
            averaged = best_series(lines, x, f"{part}_{measure}")
            if any(f"{part}_{measure}_averaged" in line for line in lines):
                ax.plot(*series(lines, x, f"{part}_{measure}"), color=colour, lw=0.8, alpha=0.5, zorder=2)
                name += ", averaged iterate (thin: last iterate)"
            if averaged[0]:
                ax.plot(*averaged, color=colour, lw=1.8, label=name, zorder=3)
        if pca is not None:
            ax.axhline(pca[0], color=PCA, lw=1, ls="--", label=f"PCA, training: {pca[0]:.2f}")
            if pca[1] is not None:
                ax.axhline(pca[1], color=PCA, lw=1, ls=":", label=f"PCA, test: {pca[1]:.2f}")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def overlay(runs: Mapping[str, Lines]) -> Figure:
    """Several runs over each other, one colour each: training error solid, test error dashed (θ̄ where averaged)."""
    classes = [any("train_misclassified" in x for x in lines) for lines in runs.values()]
    measure = "misclassified" if all(classes) else "error"
    figure, axes = _pair("solid: training, dashed: test", MEASURES[measure])
    for number, (name, lines) in enumerate(runs.items()):
        for ax, x in zip(axes, ("k", "seconds"), strict=True):
            for part, style in (("train", "-"), ("test", "--")):
                label = name if part == "train" else None
                ax.plot(
                    *best_series(lines, x, f"{part}_{measure}"), style, color=f"C{number % 10}", lw=1.5, label=label
                )
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def reconstructions(inputs: np.ndarray, outputs: np.ndarray, shape: tuple[int, int] | None, title: str) -> Figure:
    """Inputs (n, d) above their reconstructions; as images of `shape`, or as curves over the d values if None."""
    n = len(inputs)
    width, height = (0.55 * n, 1.65) if shape else (1.2 * n, 3.0)
    figure = Figure(figsize=(max(width, 5), height + 0.35), layout="constrained")
    grid = figure.subplots(2, n, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
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


def best_series(lines: Lines, x: str, y: str) -> tuple[list[float], list[float]]:
    """The same with θ̄'s value where there is one, and θ's otherwise."""
    return series([{**line, y: line.get(f"{y}_averaged", line.get(y))} for line in lines], x, y)


def _pair(title: str, what: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, label in zip(axes, ("iteration", "seconds of training"), strict=True):
        ax.set_xlabel(label)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _labelled(value) else "")
        ax.tick_params(which="minor", labelsize=7)
        ax.grid(True, which="both", color="#e8e8e8", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(what)
    figure.suptitle(title, fontsize=10)
    return figure, axes


def _labelled(value: float) -> bool:
    """Whether a minor tick is a 2 or a 5."""
    return value > 0 and round(value / 10 ** math.floor(math.log10(value) + 1e-9)) in (2, 5)
