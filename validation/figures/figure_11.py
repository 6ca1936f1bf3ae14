"""Figure 11 (§13): training error against iterations and against cases, K-FAC with both inverses and
the preset `quick` beside tuned SGD."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kfac_ref.command import plots
from validation import reference_run
from validation.figures import autoencoders
from validation.figures.autoencoders import KFAC, Compared
from validation.figures.drawn import Drawn, Row
from validation.work import Work

TITLE = "Figure 11: training error against iterations"
SECONDS = {"quick": 5, "full": 15}
"""Where the folder has the runs, which are those of figure 10; making them takes as long as that figure."""
PRINTED = {"mnist", "curves", "faces"}
"""The data sets of which the authors' program's runs are known."""


def draw(work: Work) -> Drawn:
    """The figure."""
    found = autoencoders.compared(work)
    figure = Figure(figsize=(max(5.2 * len(found), 6.5), 8), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for (above, below), one in zip(axes.T, found, strict=True):
        if one.name in PRINTED:
            _draw_authors(above, one)
        for ax, x, what in ((above, "k", "iterations"), (below, "cases", "training cases worked through")):
            autoencoders.draw_errors(ax, one, x)
            ax.set(xlabel=what, ylabel="squared error a case")
        above.set(title=one.name, xlim=(0, one.budget.kfac))
        above.legend(fontsize=8, frameon=False)
    return Drawn(
        figure,
        _caption(found),
        [row for one in found if one.name in PRINTED for row in beside_the_authors(one)],
        {"points": autoencoders.points(found)},
        autoencoders.minibatch_errors(found),
    )


def _caption(found: Sequence[Compared]) -> str:
    printed = [one.name for one in found if one.name in PRINTED]
    like = [name for name in printed if name != "mnist"]
    return (
        "Error on all training cases (dots) against iterations and against the cases of all mini-batches so far; thin: "
        f"on the mini-batch before each step, for SGD at θ + μv. {autoencoders.described(found)}"
        + (" Black: what the authors' program printed of its runs, circles and thin line alike" if printed else "")
        + (f"; for {' and '.join(like)} on their data, which ours are only like" if like else "")
        + ("." if printed else "")
    )


def _draw_authors(ax: Axes, one: Compared) -> None:
    """What the authors' program printed, as far as K-FAC was run here."""
    theirs, last = reference_run.authors_run(one.name), one.budget.kfac
    before = [row | {"k": row["k"] - 1} for row in theirs.minibatches if row["k"] <= last]
    ax.plot(*plots.series(before, "k", "error"), color="black", lw=0.5, alpha=0.6)
    rows = [row for row in theirs.rows if row["k"] <= last]
    ax.plot(*plots.series(rows, "k", "train_error"), "o", color="black", ms=6, mfc="none", label="authors' program")


def beside_the_authors(one: Compared) -> list[Row]:
    """K-FAC's training errors and the authors', where both were evaluated; their ratio where the data are the same."""
    theirs = {row["k"]: row["train_error"] for row in reference_run.authors_run(one.name).rows}
    rows: list[Row] = []
    for label in KFAC.values():
        for k, ours in zip(*plots.series(one.runs[label].lines, "k", "train_error"), strict=True):
            if k in theirs:
                row = {"data": one.name, "optimizer": label, "iteration": k, "ours": ours, "authors": theirs[k]}
                rows.append(row | ({"ratio": ours / theirs[k]} if one.name == "mnist" else {}))
    return rows
