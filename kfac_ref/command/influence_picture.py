"""The picture of `kfac-ref influence`: a query beside the training cases that help it most, and those that harm it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

if TYPE_CHECKING:
    from kfac_ref.command.influence import Answer

HELPFUL, HARMFUL = "#1f5fa8", "#d1601f"


def picture(
    answers: Sequence[Answer],
    queries: np.ndarray,
    training: np.ndarray,
    said: Mapping[int, str],
    kind: str,
    top: int,
) -> Figure:
    """Two rows for each answer, above the helpful training cases, below the harmful ones.

    `queries` and `training` are images (N, rows, columns) or (N, rows, columns, 3), `said` what a training case is, and
    `kind` what the queries are.
    """
    top = max(len(x) for a in answers for x in (a.helpful(top), a.harmful(top)))
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure(figsize=(1.05 * (top + 2.6), 2 * 1.45 * len(answers) + 0.5), layout=layout)
    grid = figure.add_gridspec(2 * len(answers), top + 2, width_ratios=[2.2, *[1] * (top + 1)][: top + 2])
    low, high = float(training.min()), float(training.max())

    def draw(place: Any, image: np.ndarray, title: str, colour: str = "k") -> None:
        ax = figure.add_subplot(place)
        ax.imshow(_scaled(image, low, high), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(title, fontsize=7, color=colour)

    for row, answer in enumerate(answers):
        about = answer.about.replace(", ", "\n")
        title = f"{kind} {answer.query}\n{about}\nloss {answer.loss:.3g}".replace("\n\n", "\n")
        draw(grid[2 * row : 2 * row + 2, 0], queries[answer.query], title)
        kinds = (("helps", answer.helpful(top), HELPFUL), ("does\nharm", answer.harmful(top), HARMFUL))
        for below, (what, cases, colour) in enumerate(kinds):
            label = figure.add_subplot(grid[2 * row + below, 1])
            label.set_axis_off()
            label.text(0.9, 0.5, what, ha="right", va="center", fontsize=9, color=colour)
            for column, n in enumerate(cases):
                title = f"{said[int(n)]}\n{answer.changes[n]:+.2g}".strip()
                draw(grid[2 * row + below, column + 2], training[n], title, colour)
    figure.suptitle("What leaving out a training case would add to the loss, to first order", fontsize=9)
    return figure


def _scaled(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours as Matplotlib takes them, in [0, 1]; grey as it is."""
    return image if image.ndim == 2 or (low >= 0 and high <= 1) else (image - low) / (high - low)
