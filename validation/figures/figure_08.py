"""Figure 8 (§10): the transformed network of Theorem 1, below the standard one."""

from __future__ import annotations

from matplotlib.patches import Rectangle

from validation.figures.diagrams import DASHES, LINE, PARAMETER, VALUE, box, canvas, chain, note
from validation.figures.drawn import Drawn
from validation.work import Work

TITLE = "Figure 8: a network and its transformed network, for ℓ = 2"
SECONDS = {"quick": 1, "full": 1}

STANDARD = (
    (0.7, r"$\bar{a}_0$"),
    (3.8, r"$W_1$"),
    (5.8, r"$s_1$"),
    (6.8, r"$\bar{\phi}_1$"),
    (7.8, r"$\bar{a}_1$"),
    (9.8, r"$W_2$"),
    (11.8, r"$s_2$"),
    (12.8, r"$\phi_2$"),
    (13.7, r"$z$"),
)
TRANSFORMED = (
    (0.7, r"$\bar{a}_0$"),
    (1.8, r"$\Omega_0$"),
    (2.8, r"$\bar{a}^\dagger_0$"),
    (3.8, r"$W^\dagger_1$"),
    (4.8, r"$s^\dagger_1$"),
    (5.8, r"$\Phi_1$"),
    (6.8, r"$\bar{\phi}_1$"),
    (7.8, r"$\Omega_1$"),
    (8.8, r"$\bar{a}^\dagger_1$"),
    (9.8, r"$W^\dagger_2$"),
    (10.8, r"$s^\dagger_2$"),
    (11.8, r"$\Phi_2$"),
    (12.8, r"$\phi_2$"),
    (13.7, r"$z$"),
)
"""Where along the rows the boxes are, and what is in them."""


def draw(work: Work) -> Drawn:
    """Draw it."""
    figure, ax = canvas(14.3, 4.0)
    top, bottom = 3.1, 0.9
    for y, row in ((top, STANDARD), (bottom, TRANSFORMED)):
        boxes = []
        for x, text in row:
            acts = any(name in text for name in ("W", "Omega", "Phi", "phi"))
            boxes.append(box(ax, (x, y), text, PARAMETER if acts else VALUE, rounded=acts))
        chain(ax, boxes)
    for i, left in ((1, 1.3), (2, 7.3)):
        x, upper, lower = left + 2.5, top - 0.22, bottom + 0.5
        ax.add_patch(Rectangle((left, bottom - 0.5), 5, 1, fill=False, edgecolor=LINE, linestyle=DASHES, linewidth=0.9))
        ax.plot([x, x], [lower, upper], color=LINE, linestyle=DASHES, linewidth=0.9)
        box(ax, (x, (upper + lower) / 2), rf"$W_{i} = \Phi_{i}\, W^\dagger_{i}\, \Omega_{i - 1}$", "white")
    note(ax, (0.15, top + 0.6), "standard", align="left")
    note(ax, (0.15, bottom + 0.75), "transformed", align="left")
    caption = (
        "Above a network of two layers, below the transformed one of Theorem 1: s†ᵢ = W†ᵢ ā†ᵢ₋₁ and "
        "ā†ᵢ = Ωᵢ φ̄ᵢ(Φᵢ s†ᵢ), where φ̄ᵢ appends the 1, Ωᵢ and Φᵢ are invertible and Ω₂ = I. With Wᵢ = Φᵢ W†ᵢ Ωᵢ₋₁ both "
        "compute the same function: what the dashed frames do to a vector is what W₁ and W₂ do. Rounded boxes are "
        "matrices and functions. A diagram; nothing is computed."
    )
    return Drawn(figure, caption)
