"""What a network does not know (beyond the paper): Laplace's approximation with Kronecker factors, in four pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autodiff import Network, glorot_initialisation
from autodiff.network import Parameters
from kfac_ref import posterior
from kfac_ref.batch import Batch
from kfac_ref.optimizer import KFAC
from kfac_ref.posterior import Posterior
from kfac_ref.settings import preset
from validation.figures import calibration
from validation.figures.calibration import BEFORE, METHODS
from validation.figures.drawn import Drawn
from validation.work import Arrays, Work

TITLE = "What a network does not know: Laplace's approximation with Kronecker factors"
SECONDS = {"quick": 10, "full": 70}

AFTER = "factored damping, λ₀ by evidence"
"""The method that is drawn."""
COLOURS = {BEFORE: "#d1601f", AFTER: "#1f5fa8"}
HIDDEN, ITERATIONS = 30, 200
"""Of the two small networks."""
ETA = {"gaussian": 1e-3, "categorical": 1e-3}
FEW = 10
"""Cases that a bin of the reliability diagram must have to be drawn."""
NOISE = 0.1
"""Standard deviation of the regression's targets."""


def draw(work: Work) -> Drawn:
    """The figure "posterior"."""
    line, moons, found = regression(), two_moons(), calibration.measured(work)
    rows, sigma = calibration.rows(found), line[0].noise_variance ** 0.5
    caption = (
        f"Above: a 1-{HIDDEN}-{HIDDEN}-1 tanh network on {len(line[1])} cases of sin(3x) + noise of standard deviation "
        f"{NOISE} (λ₀ and σ² by the evidence: σ = {sigma:.3f}; bands: two standard deviations of "
        f"a target, dark those of the output alone), and a 2-{HIDDEN}-{HIDDEN}-2 relu classifier of two moons, the "
        "probability of the likelier class at θ and averaged over the posterior (probit, exact damping, λ₀ by the "
        f"evidence). Below: {found['network']} trained on {int(found['cases'])} cases, reliability of its "
        f"probabilities in {calibration.BINS} bins (those of at least {FEW} cases), and the entropies of its "
        "predictions for test images and for images of digits (MNIST), of which it knows nothing; drawn are the "
        f"probabilities at θ and those with {AFTER}. AUROC: how often a digit's entropy is the larger. Probit of "
        "linearised outputs with exact variances. The evidence that chooses λ₀ is that of exact damping; held-out "
        "cases choose it by their log-likelihood."
    )
    return Drawn(_figure(line, moons, found, rows), caption, rows, {"measures": rows, "reliability": _points(found)})


# --- two small networks ----------------------------------------------------------------------------------------------


def trained(network: Network, X: np.ndarray, Y: np.ndarray) -> Parameters:
    """By K-FAC on all cases."""
    eta = ETA[network.likelihood.name]
    settings = preset("authors", eta=eta, lambda0=1.0, inverse="block-diagonal", tau1=1.0, average_from=1)
    kfac = KFAC(network, settings)
    state = kfac.init(glorot_initialisation(network, 0), seed=0)
    for _ in range(ITERATIONS):
        state, _ = kfac.step(state, Batch(X, Y))
    return state.parameters


def regression() -> tuple[Posterior, np.ndarray, np.ndarray]:
    """The posterior, X and Y; there are no cases in the middle."""
    rng = np.random.default_rng(2)
    X = np.concatenate([rng.uniform(-1.6, -0.5, 40), rng.uniform(0.5, 1.6, 40)])[:, None]
    Y = np.sin(3 * X) + NOISE * rng.standard_normal(X.shape)
    network = Network([1, HIDDEN, HIDDEN, 1], "tanh", "gaussian")
    made = posterior.fit(network, trained(network, X, Y), X, Y, noise_variance=NOISE**2)
    return posterior.most_evident(made, noise=True), X, Y


def two_moons() -> tuple[Posterior, np.ndarray, np.ndarray]:
    """The posterior, X and labels."""
    rng = np.random.default_rng(3)
    angle, label = rng.uniform(0, np.pi, 200), np.repeat([0, 1], 100)
    X = np.c_[np.cos(angle), np.sin(angle)]
    X[label == 1] = [1, 0.5] - X[label == 1]
    X = X - [0.5, 0.25] + 0.15 * rng.standard_normal(X.shape)
    network = Network([2, HIDDEN, HIDDEN, 2], "relu", "categorical")
    Y = np.eye(2)[label]
    return posterior.most_evident(posterior.fit(network, trained(network, X, Y), X, Y)), X, label


# --- the picture -----------------------------------------------------------------------------------------------------


def _figure(
    line: tuple[Posterior, np.ndarray, np.ndarray],
    moons: tuple[Posterior, np.ndarray, np.ndarray],
    found: Arrays,
    rows: list[dict[str, Any]],
) -> Figure:
    figure = Figure(figsize=(12, 7.4), layout="constrained")
    axes = figure.subplots(2, 3)
    _band(axes[0, 0], *line)
    for ax, averaged in ((axes[0, 1], False), (axes[0, 2], True)):
        image = _confidence(ax, *moons, averaged)
    figure.colorbar(image, ax=axes[0, 2], label="probability of the likelier class")
    numbers = {name: number for number, name in enumerate(METHODS) if name in (BEFORE, AFTER)}
    by_name = {row["probabilities"]: row for row in rows}
    ax = axes[1, 0]
    ax.plot([0, 1], [0, 1], color="#aaaaaa", lw=1)
    for name, number in numbers.items():
        confidence, accuracy, cases = calibration.reliability(found[f"p{number}"], found["labels"])
        accuracy = np.where(cases >= FEW, accuracy, np.nan)
        label = f"{name}: ECE {by_name[name]['ECE']:.3f}"
        ax.plot(confidence, accuracy, "o-", color=COLOURS[name], lw=1.4, ms=4, label=label)
    ax.set(title="reliability", xlabel="confidence", ylabel="fraction that is right", xlim=(0, 1), ylim=(0, 1))
    ax.legend(fontsize=8, frameon=False)
    for ax, (name, number) in zip(axes[1, 1:], numbers.items(), strict=True):
        what = "without posterior" if name == BEFORE else "averaged over the posterior"
        _entropies(ax, found, number, what, by_name[name].get("AUROC"))
    return figure


def _band(ax: Axes, made: Posterior, X: np.ndarray, Y: np.ndarray) -> None:
    x = np.linspace(-3, 3, 301)[:, None]
    predicted = posterior.outputs(made, x)
    z, variance = predicted.z[:, 0], predicted.variance[:, 0]
    for extra, shade in ((made.noise_variance, "#c9d9ec"), (0.0, "#8fb2d9")):
        width = 2 * np.sqrt(variance + extra)
        ax.fill_between(x[:, 0], z - width, z + width, color=shade, lw=0)
    ax.plot(x, z, color="#1f5fa8", lw=1.6)
    ax.plot(x, np.sin(3 * x), color="#555555", lw=1, ls="--")
    ax.plot(X, Y, ".", color="#222222", ms=4)
    ax.set(title="regression: two standard deviations", xlim=(-3, 3), ylim=(-4, 4), xlabel="x")


def _confidence(ax: Axes, made: Posterior, X: np.ndarray, labels: np.ndarray, averaged: bool) -> Any:
    side = np.linspace(-3, 3, 121)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    predicted = posterior.outputs(made, grid)
    p = posterior.probit(made, predicted) if averaged else made.network.likelihood.mean(predicted.z)
    shape = (len(side), len(side))
    image = ax.pcolormesh(side, side, p.max(1).reshape(shape), cmap="cividis", vmin=0.5, vmax=1, rasterized=True)
    ax.contour(side, side, p[:, 1].reshape(shape), [0.5], colors="white", linewidths=1.2)
    for label, colour in ((0, "#f0f0f0"), (1, "#d1601f")):
        ax.plot(*X[labels == label].T, "o", color=colour, mec="#222222", mew=0.4, ms=3.5)
    ax.set(title="two moons: " + ("averaged over the posterior" if averaged else "at θ alone"), aspect="equal")
    return image


def _entropies(ax: Axes, found: Arrays, number: int, what: str, area: float | None) -> None:
    edges = np.linspace(0, np.log(10), 41).tolist()
    for key, label, colour in (("p", "test images", "#1f5fa8"), ("u", "digits, unknown to it", "#d1601f")):
        if f"{key}{number}" in found:
            scores = calibration.entropy(found[f"{key}{number}"])
            ax.hist(scores, edges, density=True, color=colour, alpha=0.55, label=label)
    ax.set(title=what + (f": AUROC {area:.3f}" if area is not None else ""), xlabel="entropy of the prediction, nats")
    ax.set(yscale="log", ylim=(1e-2, 20), ylabel="density")
    ax.legend(fontsize=8, frameon=False)


def _points(found: Arrays) -> list[dict[str, Any]]:
    """The reliability diagrams of all methods."""
    table = []
    for number, name in enumerate(METHODS):
        columns = calibration.reliability(found[f"p{number}"], found["labels"])
        for confidence, accuracy, cases in zip(*columns, strict=True):
            if cases:
                row = {"probabilities": name, "confidence": confidence, "right": accuracy, "cases": int(cases)}
                table.append(row)
    return table
