"""Figure 7 (§6): by how much one update improves h, against γ, by damping, and with and without re-scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from autodiff.arrays import positive_part, read_scalars, to_numpy
from autodiff.network import Parameters
from autodiff.objective import evaluate, loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import block_diagonal, block_tridiagonal, damping, ekfac, plots, quadratic, training
from kfac_ref.ekfac import Eigenbasis
from kfac_ref.experiment import Prepared
from kfac_ref.factors import Factors
from kfac_ref.optimizer import State
from kfac_ref.quadratic import InnerProducts
from kfac_ref.settings import Settings
from validation.figures import autoencoder_state
from validation.figures.drawn import Drawn, Row
from validation.work import Arrays, Work

TITLE = "Figure 7: the improvement of h by one update, against the strength of damping"
SECONDS = {"quick": 45, "full": 240}
DAMPINGS = {
    "F̂, factored": ("#1f5fa8", "o"),
    "F̆, factored": ("#d1601f", "s"),
    "F̆, plain": ("#5a8f3c", "^"),
}
"""What is inverted and how it is damped; colours and marks."""
LENGTHS = ("without re-scaling", "with re-scaling")


@dataclass(frozen=True)
class Size:
    """How much is computed."""

    cases: int
    """h is measured on the first so many training cases."""
    gammas: tuple[float, float, int]
    """From 10^a to 10^b, so many."""


SIZES = {"quick": Size(2000, (-2.5, 2.0, 10)), "full": Size(10_000, (-2.5, 2.0, 19))}


def draw(work: Work) -> Drawn:
    """The figure, with the γ that the run itself had there marked."""
    start, size = autoencoder_state.start(work), SIZES["quick" if work.quick else "full"]

    def compute() -> dict[str, Any]:
        trained = autoencoder_state.trained(work, start)
        low, high, points = size.gammas
        found = measure(trained.prepared, trained.state, np.logspace(low, high, points), size.cases)
        return found | {"about": trained.described()}

    found = work.kept("figure_07", start.asdict() | asdict(size), compute)
    rows = table(found)
    return Drawn(picture(found), _caption(found), summary(rows), {"improvements": rows})


def measure(prepared: Prepared, state: State, gammas: Sequence[float] | np.ndarray, cases: int) -> dict[str, Any]:
    """h(θ) − h(θ + αΔ) for each damping and γ, with α = 1 and with the α of §6.4; without momentum.

    The gradient and the Fisher in α are those of the mini-batch that comes next in the run, λ+η in α is the run's, the
    factors are its running averages, and h is the mean over the first `cases` training cases.

    Returns
    -------
    dict : `improvement` and `alpha`, (DAMPINGS, LENGTHS, γ), `gammas`, `h` before the update, the numbers of cases `m`
        and `cases`, and the run's `gamma`.
    """
    network, data, settings = prepared.network, prepared.data, prepared.optimizer.settings
    assert isinstance(settings, Settings) and state.factors is not None
    m = training.minibatch_size(state.k + 1, settings.m1, data.X.shape[0], settings.full_batch_at)
    batch = training.minibatch(data, state.seed, state.k + 1, m)
    forward_pass = ForwardPass(network, state.parameters, batch.X, settings.chunk_size)
    _, gradient = loss_and_gradient(forward_pass, batch.Y, settings.eta)
    basis = nonnegative(ekfac.eigenbasis(state.factors))
    X, Y = data.X[:cases, :], data.Y[:cases, :]

    def h(parameters: Parameters) -> float:
        return evaluate(network, parameters, X, Y, settings.eta, settings.chunk_size).h

    before = h(state.parameters)
    improvement, alpha = np.empty((2, len(DAMPINGS), len(LENGTHS), len(gammas)))
    for c, gamma in enumerate(gammas):
        directions = updates(state.factors, basis, gradient, float(gamma), settings.pi_norm)
        products = quadratic.inner_products(forward_pass, gradient, directions, math.ceil(settings.tau2 * m))
        on_host = InnerProducts(*read_scalars(*products))
        for d, direction in enumerate(directions):
            best = quadratic.minimise(on_host, state.lam + settings.eta, [d])
            alpha[d, :, c] = 1.0, best.alpha
            for r, length in enumerate(alpha[d, :, c]):
                after = h([W + float(length) * u for W, u in zip(state.parameters, direction, strict=True)])
                improvement[d, r, c] = before - after
    run = {"m": m, "cases": X.shape[0], "gamma": state.gamma}
    return run | {"improvement": improvement, "alpha": alpha, "gammas": np.asarray(gammas), "h": before}


def updates(factors: Factors, basis: Eigenbasis, gradient: Parameters, gamma: float, norm: str) -> list[Parameters]:
    """Δ = −F₀⁻¹∇h for each of DAMPINGS: F̂ and F̆ of factors damped by γ (§6.3), and (F̆ + γ²I)⁻¹ in the eigenbasis.

    ValueError where a damped factor is not positive definite.
    """
    damped = damping.factorise(factors, gamma, norm)
    damping.require_positive_definite(to_numpy(damped.pivots), gamma)
    inverses = (block_tridiagonal.invert(factors, damped), block_diagonal.invert(damped))
    solved = [inverse.apply(gradient) for inverse in inverses]
    solved.append(ekfac.solve(basis, basis.kronecker_diagonal(), gradient, gamma**2))
    return [[-u for u in U] for U in solved]


def nonnegative(basis: Eigenbasis) -> Eigenbasis:
    """Eigenvalues that rounding in float32 has made negative, of factors that are second moments, are 0."""
    return replace(basis, s_A=[positive_part(s) for s in basis.s_A], s_G=[positive_part(s) for s in basis.s_G])


def table(found: Arrays) -> list[Row]:
    """A line for each γ, damping and length."""
    return [
        {
            "gamma": float(gamma),
            "damping": name,
            "update": length,
            "alpha": float(found["alpha"][d, r, c]),
            "improvement": float(found["improvement"][d, r, c]),
        }
        for d, name in enumerate(DAMPINGS)
        for r, length in enumerate(LENGTHS)
        for c, gamma in enumerate(found["gammas"])
    ]


def summary(rows: Sequence[Row]) -> list[Row]:
    """The best γ of each curve, what it gains there, and for which γ an update gains at least half of that."""
    lines: list[Row] = []
    for name in DAMPINGS:
        for length in LENGTHS:
            curve = [row for row in rows if row["damping"] == name and row["update"] == length]
            best = max(curve, key=lambda row: row["improvement"])
            half = [row["gamma"] for row in curve if row["improvement"] >= best["improvement"] / 2 > 0]
            lines.append(
                {
                    "damping": name,
                    "update": length,
                    "best improvement of h": best["improvement"],
                    "at γ": best["gamma"],
                    "α there": best["alpha"],
                    "γ with half of it or more": f"{min(half):.2g} … {max(half):.2g}" if half else "none",
                    "worst": min(row["improvement"] for row in curve),
                }
            )
    return lines


def picture(found: Arrays) -> Figure:
    """Above, what improves h, on a linear axis; below, what makes it worse, and by how much, on a logarithmic one."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    better, worse = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for d, (name, (colour, mark)) in enumerate(DAMPINGS.items()):
        for r, length in enumerate(LENGTHS):
            how: dict[str, Any] = {"ls": "-", "mfc": colour} if r else {"ls": "--", "mfc": "white"}
            gained = found["improvement"][d, r]
            for ax, values in ((better, gained), (worse, np.where(gained < 0, -gained, np.nan))):
                ax.plot(found["gammas"], values, color=colour, marker=mark, ms=4, label=f"{name}, {length}", **how)
    best = float(np.max(found["improvement"]))
    better.set(ylabel="fall of h", ylim=(0, 1.05 * best if best > 0 else 1), xscale="log")
    worse.set(xlabel="γ", ylabel="rise of h", yscale="log")
    rises = -found["improvement"][found["improvement"] < 0]
    worse.set_ylim(*((2 * rises.max(), rises.min() / 2) if rises.size else (1, 0.1)))
    for ax in (better, worse):
        ax.axvline(float(found["gamma"]), color=plots.PCA, lw=1, ls=":", label="γ of the run there")
        ax.grid(True, color=plots.GRID, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    better.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _caption(found: Arrays) -> str:
    return (
        f"One update, all from the same point: after {found['about']}. δ = αΔ, Δ = −F₀⁻¹∇h, without momentum: α = 1 "
        "(dashed), or by the exact Fisher and that λ + η (§6.4; solid). F₀ is F̂ or F̆ with factored Tikhonov damping "
        "(§6.3), or, plain Tikhonov damping, F̆ + γ²I, by the eigenvectors of the factors; for F̂ there is no such "
        "closed form. The factors are the run's running averages; ∇h and the Fisher in α are from the "
        f"{found['m']} cases of its next mini-batch. h is that of the first {found['cases']} training cases, "
        f"{float(found['h']):.5g} before the update. Updates that improve h are above, those that make it worse below."
    )
