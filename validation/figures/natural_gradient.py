"""SGD, the exact natural gradient and K-FAC on a network small enough for the dense Fisher (beyond the paper)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from autodiff import Network, glorot_initialisation
from kfac_ref import KFAC, baselines, preset
from kfac_ref.baselines import NaturalGradient, NaturalGradientSettings, SGDSettings
from kfac_ref.data import datasets, images
from kfac_ref.training.loop import Data
from validation.figures.course import course, first_below, panels, spread
from validation.figures.drawn import Drawn
from validation.figures.palette import COLOURS, DIAGONAL, NATURAL_GRADIENT, SGD, TRIDIAGONAL
from validation.figures.tuning import alike
from validation.work import Arrays, Work

TITLE = "The exact natural gradient, K-FAC and SGD on a small network"
SECONDS = {"quick": 12, "full": 75}

NETWORK = Network([64, 12, 6, 12, 64], ["tanh", "identity", "tanh"], "bernoulli")
CASES, LAMBDA0, ETA, SEED = 1000, 0.01, 1e-5, 0
AMOUNT: dict[bool, dict[str, Any]] = {
    True: {"exact": 20, "kfac": 300, "sgd": 1500, "rates": (0.01, 0.03, 0.06, 0.1), "mu_max": (0.99,)},
    False: {
        "exact": 80,
        "kfac": 2000,
        "sgd": 4000,
        "rates": (0.003, 0.01, 0.02, 0.03, 0.06, 0.1),
        "mu_max": (0.9, 0.99),
    },
}
"""Iterations, and SGD's grid; quick and not."""
LEVELS = (2.0, 1.3, 1.1)
"""Nats above the entropy that the table asks for."""


def draw(work: Work) -> Drawn:
    """The figure "natural-gradient"."""
    data, amount = _data(), AMOUNT[work.quick]
    entropy = _entropy(data.X)
    found = {name: _run(work, name, optimizer, steps, data) for name, optimizer, steps in _second_order(amount)}
    grid = {
        (mu, rate): _run(work, f"SGD {rate:g} {mu:g}", _sgd(rate, mu), amount["sgd"], data)
        for mu in amount["mu_max"]
        for rate in amount["rates"]
    }
    last = {key: run["h"][-1] - entropy if len(run["h"]) else np.inf for key, run in grid.items()}
    mu, rate = min(last, key=lambda key: last[key])
    same = ", ".join(f"{other:g}" for other in alike(mu, amount["sgd"]) if other != mu)
    found[SGD] = grid[mu, rate]
    summary = [_row(name, run, entropy) for name, run in found.items()]
    rows = [
        {"method": name, "k": int(k), "seconds": s, "h": h, "h above entropy": h - entropy, "error": e}
        for name, run in found.items()
        for k, s, h, e in zip(run["k"], run["seconds"], run["h"], run["error"], strict=True)
    ]
    tried = [{"mu_max": m, "learning_rate": r, "h above entropy": value} for (m, r), value in last.items()]
    caption = (
        f"h on all training cases above the entropy of the targets, which is its least possible value ({entropy:.2f} "
        f"nats), for the {NETWORK} autoencoder (P = {_size(NETWORK)}) of {CASES} Fashion-MNIST images averaged to 8×8, "
        f"float64. All methods are full-batch and begin at the same point (Glorot, seed {SEED}), η = {ETA:g}. The "
        f"exact natural gradient solves with the dense F of all cases at each iteration; it and K-FAC (preset authors) "
        f"have λ₀ = {LAMBDA0:g} and the same rule for λ. SGD with Nesterov momentum is the best of the grid on the "
        f"right, which shows what each setting has after {amount['sgd']} iterations (the best: ε = {rate:g}, μ_max = "
        f"{mu:g}{f'; {same} would be the same, as μ_t stays below' if same else ''}). Seconds are those of one thread."
    )
    return Drawn(_figure(found, last, entropy), caption, summary, {"runs": rows, "sgd-grid": tried})


def _data() -> Data:
    data = datasets.load("fashion16")
    assert data.image_shape is not None
    pictures = data.X[:CASES].astype(np.float64).reshape(-1, *data.image_shape)
    X = images.area_average(pictures, 8, 8).reshape(CASES, -1)
    return Data(X, X)


def _entropy(Y: np.ndarray) -> float:
    """Σ over outputs of the entropy of a Bernoulli variable with mean y, mean over cases: the least that h can be."""
    terms = [-p[p > 0] * np.log(p[p > 0]) for p in (Y, 1 - Y)]
    return float(sum(t.sum() for t in terms) / len(Y))


def _size(network: Network) -> int:
    return sum(p * q for p, q in network.shapes)


def _second_order(amount: Mapping[str, Any]) -> list[tuple[str, Any, int]]:
    common: dict[str, Any] = {"m1": CASES, "full_batch_at": None, "eta": ETA, "lambda0": LAMBDA0}
    exact = NaturalGradient(NETWORK, NaturalGradientSettings(**common))
    kfac = [KFAC(NETWORK, preset("authors", inverse=i, **common)) for i in ("block-diagonal", "block-tridiagonal")]
    return [
        (NATURAL_GRADIENT, exact, amount["exact"]),
        *((n, k, amount["kfac"]) for n, k in zip((DIAGONAL, TRIDIAGONAL), kfac, strict=True)),
    ]


def _sgd(rate: float, mu: float) -> baselines.SGD:
    return baselines.SGD(NETWORK, SGDSettings(learning_rate=rate, mu_max=mu, eta=ETA, m1=CASES))


def _run(work: Work, name: str, optimizer: Any, iterations: int, data: Data) -> Arrays:
    at = spread(iterations)
    about = {"network": str(NETWORK), "data": zlib.crc32(data.X.tobytes()), "seed": SEED, "at": at}
    state = optimizer.init(glorot_initialisation(NETWORK, SEED), SEED)
    file = f"natural-gradient {name}{' quick' if work.quick else ''}".replace(",", "").replace(" ", "-")
    return work.kept(file, about | asdict(optimizer.settings), lambda: course(optimizer, state, data, at, name))


def _row(name: str, run: Arrays, entropy: float) -> dict[str, Any]:
    above = run | {"above": run["h"] - entropy}
    row: dict[str, Any] = {
        "method": name,
        "iterations": int(run["k"][-1]),
        "ms an iteration": 1000 * run["seconds"][-1] / run["k"][-1],
        "last h above entropy": above["above"][-1],
    }
    for level in LEVELS:
        k, seconds = (first_below(above, x, "above", level) for x in ("k", "seconds"))
        row |= {f"iterations to {level:g}": k and int(k), f"seconds to {level:g}": seconds}
    return row


def _figure(found: Mapping[str, Arrays], last: Mapping[tuple[float, float], float], entropy: float) -> Figure:
    figure, axes = panels(3, f"{NETWORK}, full batch of {CASES}")
    for name, run in found.items():
        for ax, x in zip(axes, ("k", "seconds"), strict=False):
            ax.plot(run[x], run["h"] - entropy, color=COLOURS[name], lw=1.6, label=name)
    _grid(axes[2], last)
    axes[0].set_ylabel("h above the entropy of the targets (nats a case)")
    axes[0].legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def _grid(ax: Axes, last: Mapping[tuple[float, float], float]) -> None:
    for mu, style in zip(sorted({mu for mu, _ in last}, reverse=True), ("-", ":"), strict=False):
        points = sorted((rate, value) for (m, rate), value in last.items() if m == mu and np.isfinite(value))
        ax.plot(*zip(*points, strict=True), ls=style, marker="o", ms=4, color=COLOURS[SGD], label=f"μ_max = {mu:g}")
    ax.set_xscale("log")
    rates = sorted({rate for _, rate in last})
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("SGD's learning rate ε")
    ax.set_title("SGD's grid", fontsize=9)
    ax.legend(fontsize=8, frameon=False)
