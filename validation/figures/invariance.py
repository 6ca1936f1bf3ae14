"""What another parameterisation changes: nothing for undamped K-FAC, much for SGD, some for damped K-FAC (§10)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from autodiff import Network, glorot_initialisation
from autodiff.network import Parameters
from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Settings
from kfac_ref.command import plots
from kfac_ref.curvature import kronecker
from kfac_ref.data import datasets, images
from validation.figures.drawn import Drawn
from validation.theorems import paths, reparameterisation
from validation.theorems.paths import CHANGES, GRADIENT_DESCENT, UNDAMPED, Start
from validation.theorems.reparameterisation import Reparameterisation
from validation.theorems.statement import relative
from validation.theorems.updates import APPROXIMATIONS, Place, rescaled
from validation.work import Work

TITLE = "Invariance: paths in two parameterisations, and what damping does to it (§10)"
SECONDS = {"quick": 2, "full": 6}
CASES = {"quick": 1000, "full": 4000}
SIDE = 4
SIZES = (SIDE * SIDE, 8, SIDE * SIDE)
WARM_UP = 60
SEED = 0
GAMMAS = 10.0 ** np.arange(-8, 1.1, 0.25)

RANDOM = "random"
NAMES = {name: change.says for name, change in CHANGES.items()} | {RANDOM: "random affine Ω and random Φ"}
COLOURS = {name: f"C{number}" for number, name in enumerate(NAMES)}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "block-tridiagonal": ("F̂", {"linestyle": "-", "lw": 1.4}),
    "block-diagonal": ("F̆", {"linestyle": "--", "lw": 1.4}),
    "SGD": ("SGD", {"linestyle": ":", "lw": 2.0}),
}

Curves = dict[tuple[str, str], np.ndarray]
"""By method and parameterisation."""


def begin(cases: int) -> Start:
    """The autoencoder of so many images, averaged to SIDE × SIDE, after WARM_UP iterations of damped K-FAC."""
    data = datasets.load("fashion16")
    assert data.image_shape is not None
    pictures = data.X[:cases].astype(np.float64).reshape(-1, *data.image_shape)
    X = images.area_average(pictures, SIDE, SIDE).reshape(cases, -1)
    network = Network(SIZES, "logistic", "bernoulli")
    optimizer = KFAC(network, Settings(lambda0=1.0, eta=0.0, tau1=1.0, tau2=1.0))
    state = optimizer.init(glorot_initialisation(network, SEED), SEED)
    for _ in range(WARM_UP):
        state, _ = optimizer.step(state, Batch(X, X))
    return Start(network, state.parameters, X)


def parameterisations(start: Start) -> dict[str, tuple[Start, Reparameterisation]]:
    """The changes of Corollary 2, and one at random."""
    found = {name: change.of(start, np.random.default_rng(SEED)) for name, change in CHANGES.items()}
    change = reparameterisation.random(start.network, np.random.default_rng(SEED))
    # the outputs stay as they are, so that the two functions can be compared as they are
    change = Reparameterisation(change.Omega, [*change.Phi[:-1], np.eye(SIZES[-1])])
    return found | {RANDOM: (start.transformed(change, change.network(start.network)), change)}


def path_distances(start: Start, others: dict[str, tuple[Start, Reparameterisation]]) -> Curves:
    """‖z† − z‖/‖z‖ after each iteration of either method from the same function."""
    found: Curves = {}
    Y = start.X
    for method, settings in UNDAMPED.items():
        here = paths.kfac(start, Y, settings, seed=SEED)
        for name, (there, _) in others.items():
            found[method, name] = paths.distances(paths.kfac(there, Y, settings, here.targets), here)
    here = paths.sgd(start, Y)
    for name, (there, _) in others.items():
        found["SGD", name] = paths.distances(paths.sgd(there, Y), here)
    return found


def damped_distances(start: Start, others: dict[str, tuple[Start, Reparameterisation]]) -> Curves:
    """‖ζ(δ†) − δ‖/‖δ‖ for each of GAMMAS, δ = αΔ, Δ = −F₀⁻¹∇h with factored Tikhonov damping and exact factors."""

    def updates(at: Start) -> dict[str, list[Parameters]]:
        forward_pass = ForwardPass(at.network, at.parameters, at.X)
        place = Place.at(forward_pass, start.X)
        return {
            method: [rescaled(forward_pass, place, APPROXIMATIONS[method].update(place, gamma)) for gamma in GAMMAS]
            for method in UNDAMPED
        }

    found: Curves = {}
    here = updates(start)
    for name, (other, change) in others.items():
        for method, there in updates(other).items():
            pairs = zip(there, here[method], strict=True)
            found[method, name] = np.array(
                [relative(kronecker.flatten(change.zeta(u)), kronecker.flatten(v)) for u, v in pairs]
            )
    return found


def draw(work: Work) -> Drawn:
    """Left the paths, right the damped updates."""
    start = begin(CASES["quick" if work.quick else "full"])
    others = parameterisations(start)
    walked, damped = path_distances(start, others), damped_distances(start, others)
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curves(left, walked, None)
    _curves(right, damped, GAMMAS)
    left.set_title("the same start, trained in two parameterisations", fontsize=10)
    left.set_xlabel("iteration")
    left.set_xticks(range(0, paths.ITERATIONS + 1, 5))
    left.set_ylabel("‖z† − z‖ / ‖z‖ over all cases")
    right.set_title("one update δ = αΔ of K-FAC, Δ damped", fontsize=10)
    right.set_xscale("log")
    right.set_xlabel("γ of factored Tikhonov damping")
    right.set_ylabel("‖ζ(δ†) − δ‖ / ‖δ‖")
    left.legend(
        handles=[Line2D([], [], color="black", label=_label(method), **how) for method, (_, how) in METHODS.items()],
        loc="center", fontsize=8.5, frameon=False,
    )  # fmt: skip
    handles = [Line2D([], [], color=COLOURS[name], label=says) for name, says in NAMES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5, frameon=False)
    return Drawn(figure, _caption(len(start.X)), _summary(walked, damped), _tables(walked, damped))


def _curves(ax: Axes, curves: Curves, x: np.ndarray | None) -> None:
    for (method, name), y in curves.items():
        # from the first iteration on: before it the two differ by rounding alone
        xs, ys = (np.arange(1, len(y)), y[1:]) if x is None else (x, y)
        ax.plot(xs, ys, color=COLOURS[name], **METHODS[method][1])
    ax.set_yscale("log")
    ax.grid(True, color=plots.GRID, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _label(method: str) -> str:
    return "SGD, Nesterov momentum" if method == "SGD" else f"K-FAC, {METHODS[method][0]}"


def _caption(cases: int) -> str:
    sizes, sgd = "-".join(map(str, SIZES)), GRADIENT_DESCENT
    return (
        f"Autoencoder {sizes} with logistic units and the Bernoulli likelihood, of {cases} images of fashion16 "
        f"averaged to {SIDE} × {SIDE} pixels, so that no factor is singular; in float64. The start is what {WARM_UP} "
        f"iterations of damped K-FAC (λ₀ = 1, seed {SEED}) come to, for from a random one undamped steps run away. "
        "Left: how far the outputs of all cases come apart when the same function is trained in another "
        f"parameterisation, by {paths.ITERATIONS} undamped (λ = η = γ = 0), re-scaled, full-batch iterations of K-FAC "
        f"with momentum and the same sampled targets, and by full-batch SGD (ε = {sgd.learning_rate:g}, Nesterov "
        f"momentum up to {sgd.mu_max:g}). Right: the first update of the other parameterisation, brought back by ζ, "
        "beside that of the original, with exact factors damped by γ, and α by the undamped exact Fisher. The "
        "random change has Φ_ℓ = I, so that outputs can be compared as they are. Theorem 1 holds for γ = 0; damping "
        "with a scalar γ breaks it."
    )


def _summary(walked: Curves, damped: Curves) -> list[dict[str, Any]]:
    def at(gamma: float, y: np.ndarray) -> float:
        return float(y[np.argmin(np.abs(np.log(GAMMAS / gamma)))])

    return [
        {"parameterisation": says}
        | {f"path, {sign}": float(walked[method, name][-1]) for method, (sign, _) in METHODS.items()}
        | {
            f"{METHODS[method][0]}, γ = {g:g}": at(g, damped[method, name])
            for method in UNDAMPED
            for g in (1e-4, 1e-2, 1)
        }
        for name, says in NAMES.items()
    ]


def _tables(walked: Curves, damped: Curves) -> dict[str, list[dict[str, Any]]]:
    def columns(curves: Curves, row: int) -> dict[str, float]:
        return {f"{method}: {name}": float(y[row]) for (method, name), y in curves.items() if row < len(y)}

    return {
        "paths": [{"k": k} | columns(walked, k) for k in range(paths.ITERATIONS + 1)],
        "damping": [{"gamma": float(gamma)} | columns(damped, row) for row, gamma in enumerate(GAMMAS)],
    }
