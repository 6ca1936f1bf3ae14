"""What was measured, drawn: where the seconds go, and how they grow."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kfac_ref.command import plots
from validation.benchmark.methods import GRADIENT, JAX_GRADIENT, KFAC_JAX
from validation.benchmark.rounds import Group
from validation.benchmark.scaling import ABOUT, Point
from validation.benchmark.stages import STAGES
from validation.figures import palette

COLOURS = dict(zip(STAGES, ("#1f5fa8", "#5a8f3c", "#d1601f", "#8250a8", "#b5457a", "#7a5c3e", "#b8c4d0"), strict=True))
LINES = {GRADIENT: ("-", "bare gradient"), JAX_GRADIENT: (":", "JAX's bare gradient"), KFAC_JAX: ("--", "kfac-jax")}
"""What is drawn across the bars, how, and how it is called."""
CURVES = {
    GRADIENT: ("bare gradient", "#222222"),
    "block-diagonal": (palette.DIAGONAL, palette.COLOURS[palette.DIAGONAL]),
    "block-tridiagonal": (palette.TRIDIAGONAL, palette.COLOURS[palette.TRIDIAGONAL]),
}


def stages(groups: Sequence[Group]) -> Figure:
    """Bars of an iteration's mean seconds by stage, a panel for each mini-batch of one network."""
    bars = [sum(bool(x.stages()) for x in group.measured.values()) for group in groups]
    figure = Figure(figsize=(9, 1.2 + sum(0.7 + 0.34 * n for n in bars)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": [n + 1 for n in bars]})[:, 0]
    for ax, group in zip(panels, groups, strict=True):
        _bars(ax, group)
    panels[-1].set_xlabel("seconds an iteration, mean over whole cycles")
    named = {label: handle for ax in panels for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _bars(ax: Axes, group: Group) -> None:
    split = {label: x.stages() for label, x in group.measured.items() if x.stages()}
    begin = dict.fromkeys(split, 0.0)
    for stage in STAGES:
        lengths = [x[stage] for x in split.values()]
        ax.barh(list(split), lengths, left=list(begin.values()), color=COLOURS[stage], label=stage, height=0.7)
        begin = {label: begin[label] + x[stage] for label, x in split.items()}
    for label, (style, called) in LINES.items():
        if label in group.measured:
            ax.axvline(group.measured[label].mean, ls=style, color="black", lw=1.2, label=called)
    ax.invert_yaxis()
    cases = ", random cases" if group.made_up else ""
    ax.set_title(f"{group.network}, m = {group.m}{cases}", fontsize=9, loc="left")
    ax.grid(True, axis="x", color=plots.GRID, lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def scaling(points: Sequence[Point]) -> Figure:
    """Seconds an iteration against what grows, both logarithmic, and how the counted work would have them grow."""
    axes = list(dict.fromkeys(p.axis for p in points))
    figure = Figure(figsize=(4 * len(axes), 4.2), layout="constrained")
    for ax, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        for method, (label, colour) in CURVES.items():
            curve = [p for p in points if (p.axis, p.method) == (axis, method)]
            values = [p.value for p in curve]
            ax.plot(values, [p.seconds for p in curve], "o-", color=colour, ms=3.5, lw=1.5, label=label)
            # the work, at the speed that the last point has
            speed = curve[-1].flops / curve[-1].seconds
            ax.plot(values, [p.flops / speed for p in curve], ":", color=colour, lw=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        plots.logarithmic(ax)
        ax.set_xticks([p.value for p in points if (p.axis, p.method) == (axis, GRADIENT)])
        ax.xaxis.minorticks_off()
        ax.tick_params(which="both", labelsize=8)
        ax.set_title(ABOUT[axis], fontsize=9)
        ax.set_xlabel(axis)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds an iteration")
    figure.axes[0].legend(fontsize=8, frameon=False)
    figure.suptitle("dotted: as the counted work grows, at the speed of the last point", fontsize=9)
    return figure
