"""Figure 5 (§4.2, §4.3): F̃ against the block-diagonal F̆ and the block-tridiagonal F̂, of the middle four layers.

Beside the paper's picture, in the table, all three against F itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kfac_ref import block_diagonal, block_tridiagonal, damping, factors, kronecker_fisher
from kfac_ref.factors import Factors
from validation.figures import matrices
from validation.figures.drawn import Drawn, Row
from validation.figures.mnist16 import MIDDLE, middle, middle_fisher, partly_trained
from validation.work import Work

TITLE = "Figure 5: F̃ and its approximations F̆ and F̂"
SECONDS = {"quick": 2, "full": 11}


def draw(work: Work) -> Drawn:
    """Draw it."""
    network = partly_trained(work)
    all_layers = factors.exact(network.forward_pass)
    of_middle = middle(all_layers)
    rows: list[Row] = []
    for gamma in (0.0, network.gamma):
        F_tilde, F_breve, F_hat = approximations(of_middle, gamma)
        row = _row("middle four", gamma, F_tilde, F_breve, F_hat)
        if gamma == 0:
            F = middle_fisher(network.forward_pass)
            row |= {
                f"‖{sign} − F‖ / ‖F‖": matrices.relative_error(approximation, F)
                for sign, approximation in (("F̃", F_tilde), ("F̆", F_breve), ("F̂", F_hat))
            }
        rows.append(row)
    if not work.quick:
        rows.append(_row("all six", network.gamma, *approximations(all_layers, network.gamma)))
    others = {"F_breve": F_breve, "F_hat": F_hat}
    white = matrices.white_level(F_tilde)
    figure, arrays = matrices.compare(F_tilde, others, white, ("F̃", "F̆", "F̂"), MIDDLE)
    caption = (
        f"F̃ (left), its approximations (middle) and the differences (right): above the block-diagonal F̆, below the "
        f"block-tridiagonal F̂ (F̂⁻¹ is block-tridiagonal; F̂ itself is full). Black is 0, white {white:.2g} or more, the "
        f"same in all; a dot is the mean of {matrices.CELL} × {matrices.CELL} entries. All are of the same factors, "
        f"damped by factored Tikhonov with the run's γ at that iteration, {network.gamma:.3g}; the table has them "
        f"undamped (γ = 0) too, and then also against F{'' if work.quick else '; and all six layers'}. {network.about}"
    )
    return Drawn(figure, caption, summary=rows, arrays=arrays)


def approximations(undamped: Factors, gamma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F̃, F̆ and F̂ for one γ, dense."""
    damped = damping.damp(undamped, gamma)
    of_breve, of_hat = block_diagonal.approximate(damped), block_tridiagonal.approximate(damped)
    return kronecker_fisher.dense(damped), kronecker_fisher.dense(of_breve), kronecker_fisher.dense(of_hat)


def _row(layers: str, gamma: float, F_tilde: np.ndarray, F_breve: np.ndarray, F_hat: np.ndarray) -> dict[str, Any]:
    return {
        "layers": layers,
        "γ": gamma,
        "‖F̆ − F̃‖ / ‖F̃‖": matrices.relative_error(F_breve, F_tilde),
        "‖F̂ − F̃‖ / ‖F̃‖": matrices.relative_error(F_hat, F_tilde),
    }
