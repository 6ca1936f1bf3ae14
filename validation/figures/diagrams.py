"""Boxes and arrows for the figures that are diagrams (1, 4 and 8)."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

Point = tuple[float, float]

VALUE, PARAMETER, DERIVATIVE = "#eaf1f8", "#fbeedd", "#f3e6f2"
"""Fills: quantities of a case; matrices and functions of the network; derivatives."""
LINE = "#404040"
DASHES = (0, (4, 3))


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that many inches, whose coordinates are inches too, from the lower left corner."""
    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.set_axis_off()
    return figure, ax


def box(ax: Axes, at: Point, text: str, fill: str, rounded: bool = False) -> Text:
    """Text in a box or a rounded one, its centre `at`."""
    shape = "round,pad=0.5,rounding_size=0.9" if rounded else "square,pad=0.4"
    how = {"boxstyle": shape, "facecolor": fill, "edgecolor": LINE, "linewidth": 0.9}
    return ax.text(*at, text, fontsize=12, ha="center", va="center", bbox=how, zorder=3)


def note(ax: Axes, at: Point, text: str, size: float = 10, align: str = "center") -> Text:
    """Text without a box."""
    return ax.text(*at, text, fontsize=size, ha=align, va="center", color=LINE, zorder=4)


def arrow(ax: Axes, start: Text, end: Text, style: str = "-|>", dashed: bool = False) -> None:
    """An arrow from the edge of one box to that of another."""
    how = {
        "arrowstyle": style,
        "color": LINE,
        "linewidth": 1.1,
        "linestyle": DASHES if dashed else "-",
        "patchA": start.get_bbox_patch(),
        "patchB": end.get_bbox_patch(),
        "shrinkA": 1,
        "shrinkB": 1,
        "mutation_scale": 12,
    }
    # above the boxes, so as to be drawn after them: only then do their edges have their places
    ax.annotate("", xy=end.get_position(), xytext=start.get_position(), arrowprops=how, zorder=5)


def chain(ax: Axes, boxes: list[Text], style: str = "-|>") -> None:
    """An arrow from each box to the next."""
    for start, end in pairwise(boxes):
        arrow(ax, start, end, style)
