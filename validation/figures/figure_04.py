"""Figure 4 (§4.3): the chain that F̂ makes of the layers' gradients, without and with directions."""

from __future__ import annotations

from validation.figures.diagrams import DERIVATIVE, box, canvas, chain, note
from validation.figures.drawn import Drawn
from validation.work import Work

TITLE = "Figure 4: the graphical models that F̂ is the covariance of"
SECONDS = {"quick": 1, "full": 1}

LAYERS = ("1", "2", r"\ell-1", r"\ell")


def draw(work: Work) -> Drawn:
    """Draw it."""
    figure, ax = canvas(11.9, 3.8)
    xs = (1.3, 4.0, 8.0, 10.6)
    for y, text in ((3.5, "undirected"), (1.95, "directed")):
        note(ax, (0.15, y), text, align="left")
    for y, style in ((2.8, "-"), (1.1, "<|-")):
        nodes = [
            box(ax, (x, y), rf"$\mathrm{{vec}}(\mathcal{{D}}W_{{{i}}})$", DERIVATIVE, rounded=True)
            for x, i in zip(xs, LAYERS, strict=True)
        ]
        dots = note(ax, ((xs[1] + xs[2]) / 2, y), r"$\cdots$", size=16)
        dots.set_bbox({"boxstyle": "square,pad=0.1", "facecolor": "none", "edgecolor": "none"})
        chain(ax, [*nodes[:2], dots, *nodes[2:]], style)
    edges = (
        ((xs[0] + xs[1]) / 2, "1,2"),
        (5.25, "2,3"),
        (6.75, r"\ell-2,\ell-1"),
        ((xs[2] + xs[3]) / 2, r"\ell-1,\ell"),
    )
    for x, pair in edges:
        note(ax, (x, 3.1), rf"$[\hat{{F}}{{}}^{{-1}}]_{{{pair}}}$")
        note(ax, (x, 1.37), rf"$\Psi_{{{pair}}}$")
    covariances = (r"\Sigma_{1|2}", r"\Sigma_{2|3}", r"\Sigma_{\ell-1|\ell}", r"\Sigma_{\ell}")
    for x, covariance in zip(xs, covariances, strict=True):
        note(ax, (x, 0.55), rf"$\mathrm{{covariance}}\ {covariance}$")
    caption = (
        "Two forms of the Gaussian model of vec(𝒟W₁), …, vec(𝒟W_ℓ) whose covariance is F̂. Above, undirected: layers "
        "that are not neighbours share no edge, as F̂⁻¹ is block-tridiagonal; its blocks are the edges' weights. Below, "
        "directed: given that of the layer after it, a gradient vec(𝒟Wᵢ) has mean Ψᵢ,ᵢ₊₁ vec(𝒟Wᵢ₊₁) and covariance "
        "Σᵢ|ᵢ₊₁; the last has mean 0 and covariance Σ_ℓ. A diagram; nothing is computed."
    )
    return Drawn(figure, caption)
