"""Figure 1 (§2): what the forward and the backward pass compute in a feed-forward network."""

from __future__ import annotations

from validation.figures.diagrams import DERIVATIVE, PARAMETER, VALUE, arrow, box, canvas, chain, note
from validation.figures.drawn import Drawn
from validation.work import Work

TITLE = "Figure 1: the quantities of a feed-forward network, for ℓ = 2"
SECONDS = {"quick": 1, "full": 1}


def draw(work: Work) -> Drawn:
    """Draw it."""
    figure, ax = canvas(11.0, 3.5)
    top, bottom = 3.0, 0.8
    forward = [
        box(ax, (1.2, top), r"$\bar{a}_0$", VALUE),
        box(ax, (2.3, top), r"$W_1$", PARAMETER, rounded=True),
        box(ax, (3.4, top), r"$s_1$", VALUE),
        box(ax, (4.5, top), r"$\phi_1$", PARAMETER, rounded=True),
        box(ax, (5.6, top), r"$\bar{a}_1$", VALUE),
        box(ax, (6.7, top), r"$W_2$", PARAMETER, rounded=True),
        box(ax, (7.8, top), r"$s_2$", VALUE),
        box(ax, (8.9, top), r"$\phi_2$", PARAMETER, rounded=True),
        box(ax, (10.1, top), r"$a_2 = z$", VALUE),
    ]
    backward = [
        box(ax, (10.1, bottom), r"$\mathcal{D}a_2 = \mathcal{D}z$", DERIVATIVE),
        box(ax, (7.8, bottom), r"$g_2 = \mathcal{D}s_2$", DERIVATIVE),
        box(ax, (5.6, bottom), r"$\mathcal{D}a_1$", DERIVATIVE),
        box(ax, (3.4, bottom), r"$g_1 = \mathcal{D}s_1$", DERIVATIVE),
    ]
    chain(ax, forward)
    loss = box(ax, (10.1, (top + bottom) / 2), r"$L(y, z)$", VALUE, rounded=True)
    chain(ax, [forward[-1], loss, backward[0]])
    chain(ax, backward)
    products = (
        (2.3, r"$\mathcal{D}W_1 = g_1 \bar{a}_0^\top$", 0, 3),
        (6.7, r"$\mathcal{D}W_2 = g_2 \bar{a}_1^\top$", 4, 1),
    )
    for x, text, a, g in products:
        made = box(ax, (x, (top + bottom) / 2), text, DERIVATIVE)
        arrow(ax, forward[a], made, dashed=True)
        arrow(ax, backward[g], made, dashed=True)
    steps = ((8.75, r"$\odot\, \phi_2^\prime(s_2)$"), (6.5, r"$W_2^\top$"), (4.6, r"$\odot\, \phi_1^\prime(s_1)$"))
    for x, text in steps:
        note(ax, (x, bottom - 0.33), text)
    note(ax, (0.1, top), "forward", align="left")
    note(ax, (0.1, bottom), "backward", align="left")
    caption = (
        "A feed-forward network of two layers: forward sᵢ = Wᵢ āᵢ₋₁ and aᵢ = φᵢ(sᵢ), ā being a with a 1 appended and "
        "a₀ = x; backward gᵢ = 𝒟aᵢ ⊙ φᵢ′(sᵢ), 𝒟aᵢ₋₁ = Wᵢᵀ gᵢ without the bias column, and 𝒟Wᵢ = gᵢ āᵢ₋₁ᵀ. Rounded "
        "boxes are the network's matrices and functions, and the loss. A diagram; nothing is computed."
    )
    return Drawn(figure, caption)
