"""The picture: differences of scores against ratios of CPU seconds."""

from __future__ import annotations

from matplotlib.figure import Figure

from kfac_ref.command.plots import GRID
from validation.estimators.problems import PROBLEMS
from validation.estimators.scores import Result, compare

LINEAR = 0.01
"""Differences within this are drawn to scale, larger ones by their logarithms."""


def differences(results: dict[str, dict[str, Result]]) -> Figure:
    """A panel for each other method, a point with its standard error for each data set; filled where the defaults of
    K-FAC's estimators were not chosen by it."""
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, other in zip(axes, ("adam", "lbfgs"), strict=True):
        for name, methods in results.items():
            found = compare(methods, other)
            colour = "#1f5fa8" if PROBLEMS[name].classes else "#d1601f"
            fill = "white" if PROBLEMS[name].chosen_on else colour
            ax.errorbar(found.ratio, found.difference, found.error, fmt="o", color=colour, mfc=fill, ms=5, lw=0.8)
            ax.annotate(name, (found.ratio, found.difference), (4, 4), textcoords="offset points", fontsize=7)
        ax.axhline(0, color="k", lw=0.8)
        ax.axvline(1, color="k", lw=0.8)
        ax.set_xscale("log")
        ax.set_yscale("symlog", linthresh=LINEAR)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(lambda value, _: f"{value:.1g}" if f"{value:.0e}"[0] in "235" else "")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.grid(True, color=GRID, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(f"CPU seconds of K-FAC : {other}")
        ax.set_title(f"beside {other}", fontsize=10)
    axes[0].set_ylabel("score of K-FAC − score of the other")
    figure.suptitle(
        "upper left is better; blue: accuracy, orange: R²; hollow: defaults were chosen by these", fontsize=9
    )
    return figure
