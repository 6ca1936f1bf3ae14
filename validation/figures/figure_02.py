"""Figure 2 (§3): |F|, |F̃| and |F − F̃| of the middle four layers, F̃ undamped; and the error while it was trained."""

from __future__ import annotations

import numpy as np

from kfac_ref.curvature import kronecker_fisher
from validation.figures import matrices
from validation.figures.drawn import Drawn, Row
from validation.figures.mnist16 import (
    LOOKED_AT,
    MIDDLE,
    middle_factors,
    middle_fisher,
    misclassified_by_seed,
    partly_trained,
    share,
)
from validation.work import Work

TITLE = "Figure 2: the exact Fisher F, its Kronecker-factored approximation F̃, and their difference"
SECONDS = {"quick": 6, "full": 45}
SEEDS = {True: 3, False: 20}
"""Runs from other initial parameters, to see what depends on them; by whether it is quick."""
REACHED = 0.05
"""The paper's network misclassified as many after 7 iterations, and none after 22."""


def draw(work: Work) -> Drawn:
    """Draw it."""
    network = partly_trained(work)
    cases = network.forward_pass.cases
    F, F_tilde = middle_fisher(network.forward_pass), kronecker_fisher.dense(middle_factors(network.forward_pass))
    white = matrices.white_level(F)
    parts = {"F": matrices.sizes(F), "F_tilde": matrices.sizes(F_tilde), "difference": matrices.sizes(F - F_tilde)}
    figure, (row,) = matrices.panels(1, 3, len(parts["F"]))
    for ax, part, title in zip(row, parts.values(), ("|F|", "|F̃|", "|F − F̃|"), strict=True):
        matrices.draw(ax, part, white, title, MIDDLE)
    curves = misclassified_by_seed(work, SEEDS[work.quick])
    caption = (
        f"Sizes of the entries of F (left), of F̃ (middle) and of their difference (right); dashes between the layers' "
        f"blocks. Black is 0, white {white:.2g} or more, the same in the three; a dot is the mean of "
        f"{matrices.CELL} × {matrices.CELL} entries. In the black squares of the difference both inputs are the "
        f"constant 1 of the bias, where F̃ is exact. {network.about}"
    )
    return Drawn(
        figure,
        caption,
        summary=[*_agreement(F, F_tilde), *_errors(curves, cases)],
        tables={
            "misclassified": [
                {"iteration": k} | {f"seed {seed}": int(count) for seed, count in enumerate(counts)}
                for k, counts in enumerate(curves.T)
            ],
            "blocks": [
                {"i": i, "j": j, "‖F̃ − F‖ / ‖F‖": error}
                for (i, j), error in zip(_pairs(), _block_errors(F, F_tilde), strict=True)
            ],
        },
        arrays={name: matrices.in_units_of(white, part) for name, part in parts.items()} | {"white": np.asarray(white)},
    )


def _agreement(F: np.ndarray, F_tilde: np.ndarray) -> list[Row]:
    errors = _block_errors(F, F_tilde)
    cosine = float(np.sum(F * F_tilde) / (np.linalg.norm(F) * np.linalg.norm(F_tilde)))
    return [
        {"what": "‖F̃ − F‖ / ‖F‖ (Frobenius)", "value": f"{matrices.relative_error(F_tilde, F):.4g}"},
        {"what": "smallest and largest of its 16 blocks", "value": f"{min(errors):.4g}, {max(errors):.4g}"},
        {"what": "mean |F̃ − F| / mean |F|", "value": f"{np.abs(F_tilde - F).mean() / np.abs(F).mean():.4g}"},
        {"what": "cosine of the angle between F̃ and F", "value": f"{cosine:.4g}"},
    ]


def _pairs() -> list[tuple[int, int]]:
    return [(i, j) for i in MIDDLE for j in MIDDLE]


def _block_errors(F: np.ndarray, F_tilde: np.ndarray) -> list[float]:
    """The relative errors of F̃_{i,j}, in the order of `_pairs`."""
    n = len(MIDDLE)
    cut = [[block for band in np.split(M, n) for block in np.split(band, n, axis=1)] for M in (F, F_tilde)]
    return [matrices.relative_error(approximate, exact) for exact, approximate in zip(*cut, strict=True)]


def _errors(curves: np.ndarray, cases: int) -> list[Row]:
    """The course of seed 0, and how it is from the others."""
    early, late, last = curves[:, LOOKED_AT], curves[:, -1], curves.shape[1] - 1
    reached = int(np.sum((early <= REACHED * cases) & (late == 0)))
    course = " ".join(str(count) for count in curves[0])
    return [
        {"what": f"misclassified of {cases} after 0 … {last} iterations", "value": course},
        {"what": f"after {LOOKED_AT} iterations (paper: 5 %)", "value": share(early[0], cases)},
        {"what": f"after {last} iterations (paper: 0 %)", "value": share(late[0], cases)},
        {
            "what": f"after {LOOKED_AT}: least, median, most of {len(curves)} seeds",
            "value": ", ".join(f"{x / cases:.2%}" for x in (early.min(), np.median(early), early.max())),
        },
        {
            "what": f"seeds that have ≤ {REACHED:.0%} after {LOOKED_AT} and 0 after {last}",
            "value": f"{reached} of {len(curves)}",
        },
    ]
