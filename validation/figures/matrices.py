"""Draws the sizes of a matrix's entries, dashes between its blocks, as the paper does in Figures 2, 3, 5 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CELL = 4
"""Entries a side of the cells of which one mean is drawn; it divides the 20 units of a layer."""
DOTS = 120
"""Dots per inch: one for each mean, so that the picture is neither resampled nor blurred."""
GAP, LEFT, TOP, BOTTOM = 16, 46, 54, 30
"""Dots between panels, and around them for what is written there."""
DASHES = "#d9a520"
INVERSES_WHITER = 0.1
"""The share of entries that are white in a picture of an inverse, whose diagonal blocks would outshine the others."""


def relative_error(approximation: np.ndarray, exact: np.ndarray) -> float:
    """‖approximation − exact‖_F / ‖exact‖_F."""
    return float(np.linalg.norm(approximation - exact) / np.linalg.norm(exact))


def sizes(matrix: np.ndarray, cell: int = CELL) -> np.ndarray:
    """Means of |entries| over squares of `cell` × `cell` entries; ValueError if these do not fill the matrix."""
    rows, columns = matrix.shape
    if rows % cell or columns % cell:
        raise ValueError(f"a matrix of shape {matrix.shape} cannot be cut into squares of {cell} x {cell}")
    return np.abs(matrix).reshape(rows // cell, cell, columns // cell, cell).mean(axis=(1, 3))


def block_means(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """Means of |entries| over each of `blocks` × `blocks` blocks of the same shape."""
    return sizes(matrix, matrix.shape[0] // blocks)


def by_distance(means: np.ndarray) -> list[float]:
    """Means (n, n) of blocks, averaged over those with |i−j| = 0, 1, …, n−1."""
    i, j = np.indices(means.shape)
    return [float(means[abs(i - j) == distance].mean()) for distance in range(len(means))]


def white_level(matrix: np.ndarray, whiter: float = 0.03) -> float:
    """The size from which on entries are white: this share of the matrix's entries is larger."""
    return float(np.quantile(np.abs(matrix), 1 - whiter))


def panels(rows: int, columns: int, side: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of square panels, `side` dots each."""
    # not laid out by constraints, as each panel is to have a whole number of dots
    width = LEFT + columns * (side + GAP)
    height = BOTTOM + rows * (side + TOP)
    figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS)
    grid = []
    for r in range(rows):
        bottom = BOTTOM + (rows - 1 - r) * (side + TOP)
        lefts = [LEFT + c * (side + GAP) for c in range(columns)]
        grid.append([figure.add_axes((x / width, bottom / height, side / width, side / height)) for x in lefts])
        grid[r][0].set_ylabel("layer", fontsize=8)
    return figure, grid


def draw(ax: Axes, drawn: np.ndarray, white: float, title: str, layers: Sequence[int]) -> None:
    """Draw `drawn` ≥ 0 in grey, black for 0, white from `white` on, dashes between the blocks of these layers."""
    n, blocks = len(drawn), len(layers)
    # extent: a mean on each dot, the upper left corner at (0, 0)
    ax.imshow(drawn, cmap="gray", vmin=0, vmax=white, interpolation="nearest", extent=(0, n, n, 0))
    for edge in range(1, blocks):
        for line in (ax.axhline, ax.axvline):
            line(edge * n / blocks, color=DASHES, lw=0.7, ls=(0, (4, 4)))
    ax.set_title(title, fontsize=10)
    centres = [(b + 0.5) * n / blocks for b in range(blocks)]
    ax.set_xticks(centres, [str(i) for i in layers], fontsize=8)
    ax.set_yticks(centres, [str(i) for i in layers], fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set(color="grey", linewidth=0.5)


def compare(
    exact: np.ndarray, others: Mapping[str, np.ndarray], white: float, signs: Sequence[str], layers: Sequence[int]
) -> tuple[Figure, dict[str, np.ndarray]]:
    """Figures 5 and 6: a row for each of `others`, `exact` beside it and their difference.

    `signs` are what the matrices are called in the titles, `exact` first. The figure, and what is drawn in units of the
    white level, which is the same for all.
    """
    first = sizes(exact)
    figure, grid = panels(len(others), 3, len(first))
    arrays = {"white": np.asarray(white), "exact": in_units_of(white, first)}
    for axes, (name, other), sign in zip(grid, others.items(), signs[1:], strict=True):
        parts, difference = (first, sizes(other), sizes(other - exact)), f"|{sign} − {signs[0]}|"
        for ax, part, title in zip(axes, parts, (f"|{signs[0]}|", f"|{sign}|", difference), strict=True):
            draw(ax, part, white, title, layers)
        arrays |= {name: in_units_of(white, parts[1]), f"{name}_difference": in_units_of(white, parts[2])}
    return figure, arrays


def in_units_of(white: float, drawn: np.ndarray) -> np.ndarray:
    """What is drawn, white being 1, in float16, whose range is too narrow for the numbers themselves."""
    return (drawn / white).astype(np.float16)
