"""Figure 5 (§4.2, §4.3): F̃ against the block-diagonal F̆ and the block-tridiagonal F̂, of the middle four layers.

Beside the paper's picture, in the table, all three against F itself.
"""

from __future__ import annotations

from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, kronecker_fisher
from kfac_ref.curvature.factors import Factors
from validation.figures import matrices
from validation.figures.drawn import Drawn
from validation.figures.mnist16 import MIDDLE, Triple, compared, middle_fisher, partly_trained
from validation.work import Work

TITLE = "Figure 5: F̃ and its approximations F̆ and F̂"
SIGNS = ("F̃", "F̆", "F̂")
SECONDS = {"quick": 2, "full": 11}


def draw(work: Work) -> Drawn:
    """Draw it."""
    network = partly_trained(work)
    (undamped, (F_tilde, F_breve, F_hat)), rows = compared(network, approximations, SIGNS, work.quick)
    F = middle_fisher(network.forward_pass)
    rows[0] |= {
        f"‖{sign} − F‖ / ‖F‖": matrices.relative_error(matrix, F) for sign, matrix in zip(SIGNS, undamped, strict=True)
    }
    white = matrices.white_level(F_tilde)
    figure, arrays = matrices.compare(F_tilde, {"F_breve": F_breve, "F_hat": F_hat}, white, SIGNS, MIDDLE)
    caption = (
        f"F̃ (left), its approximations (middle) and the differences (right): above the block-diagonal F̆, below the "
        f"block-tridiagonal F̂ (F̂⁻¹ is block-tridiagonal; F̂ itself is full). Black is 0, white {white:.2g} or more, the "
        f"same in all; a dot is the mean of {matrices.CELL} × {matrices.CELL} entries. All are of the same factors, "
        f"damped by factored Tikhonov with the run's γ at that iteration, {network.gamma:.3g}; the table has them "
        f"undamped (γ = 0) too, and then also against F{'' if work.quick else '; and all six layers'}. {network.about}"
    )
    return Drawn(figure, caption, summary=rows, arrays=arrays)


def approximations(undamped: Factors, gamma: float) -> Triple:
    """F̃, F̆ and F̂ for one γ, dense."""
    damped = damping.damp(undamped, gamma)
    of_breve, of_hat = block_diagonal.approximate(damped), block_tridiagonal.approximate(damped)
    return kronecker_fisher.dense(damped), kronecker_fisher.dense(of_breve), kronecker_fisher.dense(of_hat)
