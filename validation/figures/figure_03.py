"""Figure 3 (§4): F̃ of the middle four layers, its exact inverse, and the mean size of each of the inverse's blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from kfac_ref.curvature import damping, kronecker_fisher
from validation.figures import matrices
from validation.figures.drawn import Drawn, Row
from validation.figures.mnist16 import MIDDLE, middle_factors, partly_trained
from validation.work import Work

TITLE = "Figure 3: F̃, its inverse, and how large the inverse's blocks are"
SECONDS = {"quick": 2, "full": 4}


def draw(work: Work) -> Drawn:
    """Draw it."""
    network = partly_trained(work)
    factors, gamma, blocks = middle_factors(network.forward_pass), network.gamma, len(MIDDLE)
    rows: list[Row] = []
    for g, what in ((gamma, "damped"), (gamma / 10, "damped"), (0.0, "undamped")):
        damped = damping.damp(factors, g)
        F_tilde, root = kronecker_fisher.dense(damped), kronecker_fisher.invert(damped).root
        inverse = root.T @ root
        rows += [_by_distance(f"{name}, {what}", g, M) for name, M in (("F̃", F_tilde), ("F̃⁻¹", inverse))]
        if g == gamma:
            drawn = matrices.sizes(F_tilde), matrices.sizes(inverse), matrices.block_means(inverse, blocks)
            whites = (
                matrices.white_level(F_tilde),
                matrices.white_level(inverse, matrices.INVERSES_WHITER),
                float(drawn[2].max()),
            )
    figure, (axes,) = matrices.panels(1, 3, len(drawn[0]))
    for ax, part, white, title in zip(axes, drawn, whites, ("|F̃|", "|F̃⁻¹|", "block means of |F̃⁻¹|"), strict=True):
        matrices.draw(ax, part, white, title, MIDDLE)
    _write(axes[2], drawn[2])
    caption = (
        f"F̃ (left), its exact inverse (middle) and the means of |F̃⁻¹| over each block (right). Black is 0, white "
        f"{whites[0]:.2g} or more in F̃, {whites[1]:.2g} or more in F̃⁻¹ and {whites[2]:.2g} on the right, where the "
        f"numbers are shares of that, the largest mean; a dot of the first two is the mean of {matrices.CELL} × "
        f"{matrices.CELL} entries. F̃ is damped by factored Tikhonov with the run's γ at that iteration, {gamma:.3g}, "
        f"and is inverted as the matrix of these four layers alone. The table has mean |entries| of the blocks (i, j) "
        f"by |i − j|, those of the diagonal blocks being 1, with less damping too; the last column is how much of "
        f"‖·‖²_F off the diagonal blocks is beyond those next to them. {network.about}"
    )
    return Drawn(
        figure,
        caption,
        summary=rows,
        tables={
            "block-means": [
                {"i": i} | {f"j = {j}": value for j, value in zip(MIDDLE, row, strict=True)}
                for i, row in zip(MIDDLE, drawn[2].tolist(), strict=True)
            ]
        },
        arrays={
            "F_tilde": matrices.in_units_of(whites[0], drawn[0]),
            "inverse": matrices.in_units_of(whites[1], drawn[1]),
            "whites": np.asarray(whites[:2]),
        },
    )


def _by_distance(name: str, gamma: float, M: np.ndarray) -> Row:
    means = matrices.by_distance(matrices.block_means(M, len(MIDDLE)))
    squares = matrices.block_means(M**2, len(MIDDLE))
    i, j = np.indices(squares.shape)
    return (
        {"matrix": name, "γ": gamma}
        | {f"|i−j| = {distance}": mean / means[0] for distance, mean in enumerate(means)}
        | {"beyond neighbours": float(squares[abs(i - j) > 1].sum() / squares[i != j].sum())}
    )


def _write(ax: Axes, means: np.ndarray) -> None:
    """The numbers in the blocks: a share of the largest each."""
    ratios: Sequence[Sequence[float]] = (means / means.max()).tolist()
    width = ax.get_xlim()[1] / len(means)
    for r, row in enumerate(ratios):
        for c, ratio in enumerate(row):
            colour = "black" if ratio > 0.5 else "white"
            ax.text((c + 0.5) * width, (r + 0.5) * width, f"{ratio:.3f}", color=colour, ha="center", va="center")
