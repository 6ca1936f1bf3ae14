"""Figure 6 (§4.2, §4.3): F̃⁻¹ against F̆⁻¹ and F̂⁻¹, of the middle four layers."""

from __future__ import annotations

from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, kronecker_fisher
from kfac_ref.curvature.factors import Factors
from validation.figures import matrices
from validation.figures.drawn import Drawn
from validation.figures.mnist16 import MIDDLE, Triple, compared, dense_inverse, partly_trained
from validation.work import Work

TITLE = "Figure 6: the inverse of F̃, and those of its approximations F̆ and F̂"
SIGNS = ("F̃⁻¹", "F̆⁻¹", "F̂⁻¹")
SECONDS = {"quick": 2, "full": 35}


def draw(work: Work) -> Drawn:
    """Draw it."""
    network = partly_trained(work)
    (_, (exact, breve, hat)), rows = compared(network, inverses, SIGNS, work.quick)
    others = {"F_breve_inverse": breve, "F_hat_inverse": hat}
    white = matrices.white_level(exact, matrices.INVERSES_WHITER)
    figure, arrays = matrices.compare(exact, others, white, SIGNS, MIDDLE)
    caption = (
        f"F̃⁻¹ (left), its approximations (middle) and the differences (right): above the block-diagonal F̆⁻¹, below the "
        f"block-tridiagonal F̂⁻¹. Black is 0, white {white:.2g} or more, the same in all; a dot is the mean of "
        f"{matrices.CELL} × {matrices.CELL} entries. The factors are damped by factored Tikhonov with the run's γ at "
        f"that iteration, {network.gamma:.3g}, and all three are inverses for these four layers alone; the table has "
        f"them undamped (γ = 0) too{'' if work.quick else ', and for all six layers'}. F̆⁻¹ and F̂⁻¹ are as K-FAC "
        f"multiplies by them, F̃⁻¹ from the dense matrix. {network.about}"
    )
    return Drawn(figure, caption, summary=rows, arrays=arrays)


def inverses(undamped: Factors, gamma: float) -> Triple:
    """F̃⁻¹, F̆⁻¹ and F̂⁻¹ for one γ, dense."""
    damped, layers = damping.factorise(undamped, gamma), range(1, undamped.layers + 1)
    shapes = [(undamped.G[i, i].shape[0], undamped.A[i - 1, i - 1].shape[0]) for i in layers]
    root = kronecker_fisher.invert(damping.damp(undamped, gamma)).root
    return (
        root.T @ root,
        dense_inverse(block_diagonal.invert(damped).apply, shapes),
        dense_inverse(block_tridiagonal.invert(undamped, damped).apply, shapes),
    )
