"""A convolutional classifier trained by K-FAC, with expand and with reduce, beside tuned SGD (beyond the paper)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from kfac_ref.command import plots
from kfac_ref.training import networks
from kfac_ref.training.experiment import Experiment
from validation.figures import classifier
from validation.figures.drawn import Drawn, Row
from validation.figures.palette import COLOURS, DIAGONAL_BLOCKS, EXPAND, FULL_BLOCKS, REDUCE, SGD
from validation.figures.tuning import Grid, Setting, Tuned, tune
from validation.work import Arrays, Work, first_to_be_had

TITLE = "A convolutional classifier: K-FAC with expand and reduce against SGD"
SECONDS = {"quick": 30, "full": 900}

SGD_CASES = 200
"""In SGD's mini-batches, as in Figure 10."""
CONSTANTS = networks.SUITED | {"lambda0": 0.01, "tau2": 0.5, "average_from": 1, "xi_max": 0.95}
"""K-FAC's, in place of the preset's; found on 5000 training cases that were held out."""
KFAC: dict[str, dict[str, str]] = {EXPAND: {"sharing": "expand"}, REDUCE: {"sharing": "reduce"}}
NORMALISED: dict[str, dict[str, str]] = {
    FULL_BLOCKS: {"full_blocks": "full"},
    DIAGONAL_BLOCKS: {"full_blocks": "diagonal"},
}
CLAIMS = {"test": (3.4, 4.8), "train": (6.3, 7.5)}
"""How many times faster than SGD KFC is said to be (Grosse's talk of 2016), to a test error and to a training error."""
LEVELS = {"test": (0.13, 0.11, 0.1, 0.095, 0.09), "train": (0.12, 0.1, 0.08, 0.06, 0.05)}
"""Misclassified fractions that the table asks for; those that no run reaches are left out."""
NAMES = {"test": "test error", "train": "training error"}
AXES = {"seconds": "seconds of training", "k": "iteration"}


@dataclass(frozen=True)
class Budget:
    """How long is trained: seconds of training by the processor's clock, evaluation not counted."""

    kfac: float
    sgd: float
    normalised: float
    """Of K-FAC on the network with layer norm."""
    grid: Grid
    """How SGD is tuned."""


FULL = Budget(75, 150, 40, Grid((-4, -3, -2, -1), 100, 600, kept=2, more=2))
QUICK = Budget(4, 8, 4, Grid((-3, -2, -1), 20, 60, kept=1, more=1))


@dataclass(frozen=True)
class Compared:
    """All runs."""

    data: str
    runs: dict[str, Arrays]
    """By optimizer; SGD is the tuned one."""
    normalised: dict[str, Arrays]
    tuned: Tuned
    budget: Budget

    @property
    def ended(self) -> str:
        """Runs that diverged, for the caption."""
        gone = [name for name, run in (self.runs | self.normalised).items() if run["diverged"]]
        return f" Diverged: {', '.join(gone)}." if gone else ""


def draw(work: Work) -> Drawn:
    """The figure "kfc"."""
    found = compared(work)
    return Drawn(
        _figure(found),
        _caption(found),
        ratios(found.runs),
        {"points": _points(found), "ratios": ratios(found.runs), "sgd-grid": _grid_rows(found)},
    )


def compared(work: Work) -> Compared:
    """Train, or take the runs that the folder keeps. Quickly, and without Fashion-MNIST, on `fashion16`."""
    data = "fashion16" if work.quick else first_to_be_had("fashion", "fashion16").name
    budget = QUICK if work.quick else FULL
    runs = {
        label: classifier.run(work, f"kfc-{_file(label)}", _kfac(data, "conv", constants), budget.kfac)
        for label, constants in KFAC.items()
    }

    def error(setting: Setting, iterations: int) -> float:
        run = classifier.run(work, f"kfc-sgd-{setting}-{iterations}", _sgd(data, setting), math.inf, iterations)
        return math.inf if run["diverged"] else float(run["train_last"][-1])

    tuned = tune(error, budget.grid)
    runs[SGD] = classifier.run(work, f"kfc-sgd-{tuned.winner}", _sgd(data, tuned.winner), budget.sgd)
    network = _with_layer_norm(data)
    normalised = {
        label: classifier.run(work, f"kfc-{_file(label)}", _kfac(data, network, constants), budget.normalised)
        for label, constants in NORMALISED.items()
    }
    return Compared(data, runs, normalised, tuned, budget)


def _file(label: str) -> str:
    return label.replace(",", "").replace(" ", "-")


def _kfac(data: str, network: networks.Wanted, constants: Mapping[str, str]) -> Experiment:
    return Experiment(data=data, network=network, preset="authors", constants=CONSTANTS | dict(constants))


def _sgd(data: str, setting: Setting) -> Experiment:
    constants = {"learning_rate": setting.learning_rate, "mu_max": setting.mu_max, "m1": SGD_CASES}
    return Experiment(data=data, network="conv", optimizer="sgd", constants=constants)


def _with_layer_norm(data: str) -> networks.Description:
    """The network "conv" with a layer norm between each convolution and its activation."""
    image = first_to_be_had(data).image_shape
    assert image is not None
    plain = networks.named("conv", image, 10)
    layers: list[Mapping[str, object]] = []
    for layer in plain["network"]:
        if layer["kind"] == "conv":
            layers += [{**layer, "activation": "identity"}, {"kind": "layer-norm", "activation": layer["activation"]}]
        else:
            layers.append(layer)
    return networks.canonical({**plain, "network": layers, "likelihood": "categorical"})


# --- what is printed -------------------------------------------------------------------------------------------------


def reached(run: Arrays, x: str, part: str, level: float) -> float | None:
    """Seconds or iterations (`x`) until the error of `part` was `level`, interpolated linearly between evaluations;
    None if it never was."""
    xs, errors = [float(v) for v in run[x]], [float(v) for v in run[part]]
    for i, error in enumerate(errors):
        if error <= level:
            if i == 0:
                return xs[0]
            return xs[i - 1] + (xs[i] - xs[i - 1]) * (errors[i - 1] - level) / (errors[i - 1] - error)
    return None


def ratios(runs: Mapping[str, Arrays]) -> list[Row]:
    """For each level what the runs need to it, how many times as much SGD needs, and what KFC claims."""
    rows: list[Row] = []
    for part, levels in LEVELS.items():
        for level in levels:
            theirs = {x: reached(runs[SGD], x, part, level) for x in AXES}
            for label, run in runs.items():
                ours = {x: reached(run, x, part, level) for x in AXES}
                if ours["k"] is None:
                    continue
                row: dict[str, Any] = {"error": NAMES[part], "level": level, "optimizer": label}
                row |= {"seconds": ours["seconds"], "iterations": ours["k"]}
                for x, name in (("seconds", "SGD's seconds over these"), ("k", "SGD's iterations over these")):
                    need, sgd = ours[x], theirs[x]
                    row[name] = sgd / need if sgd and need else None
                row["KFC's claim"] = "" if label == SGD else "{:g} to {:g}".format(*CLAIMS[part])
                rows.append(row)
    return rows


def _points(found: Compared) -> list[Row]:
    return [
        {"network": network, "optimizer": label}
        | {"iteration": int(k), "seconds": float(s), "training error": float(a), "test error": float(b)}
        | {"training error of θ": float(c), "test error of θ": float(d)}
        for network, runs in (("conv", found.runs), ("conv with layer norm", found.normalised))
        for label, run in runs.items()
        for k, s, a, b, c, d in zip(*(run[key] for key in classifier.COLUMNS), strict=True)
    ]


def _grid_rows(found: Compared) -> list[Row]:
    tuned, grid = found.tuned, found.budget.grid
    return [
        {
            "learning_rate": setting.learning_rate,
            "mu_max": setting.mu_max,
            "iterations": iterations,
            "training error": error,
            "winner": iterations == grid.long and setting == tuned.winner,
        }
        for iterations, errors in ((grid.short, tuned.short), (grid.long, tuned.long))
        for setting, error in sorted(errors.items())
    ]


def _caption(found: Compared) -> str:
    s, winner, grid = CONSTANTS, found.tuned.winner, found.budget.grid
    about = first_to_be_had(found.data)
    ends = "; ".join(
        f"{label}: {float(run['seconds'][-1]):.0f} s, {int(run['k'][-1])} iterations, test error "
        f"{float(run['test'][-1]):.4f}, training error {float(run['train'][-1]):.4f}"
        for label, run in (found.runs | found.normalised).items()
    )
    neighbours = "its neighbours worse" if found.tuned.enclosed else "a neighbour untried"
    return (
        f"Misclassified fraction of {found.data} ({about.source}; {len(about.X)} training cases) by the network conv, "
        f"{networks.said(networks.named('conv', about.image_shape or (), 10))}, in float32, seed 0: of all test cases, "
        f"and of the first {min(len(about.X), classifier.CASES)} training cases; of the averaged iterate. Seconds are "
        "the processor's, of one thread, evaluation not counted. K-FAC: block-diagonal, preset authors but λ₀ = "
        f"{s['lambda0']:g}, λ ≥ {s['lambda_min']:g}, mini-batches of {s['m1']} cases, τ₁ = {s['tau1']:g}, τ₂ = "
        f"{s['tau2']:g}, ξ ≤ {s['xi_max']:g}. SGD: mini-batches of {SGD_CASES} cases, ε = {winner.learning_rate:g}, "
        f"μ_max = {winner.mu_max:g}, which has the best training error of θ in a grid of ε and μ_max, {grid.short} "
        f"iterations each, then {grid.long} of the best and their neighbours in ε ({neighbours}); ξ ≤ "
        f"{classifier.XI_MAX:g}; an iteration of K-FAC has {s['m1'] / SGD_CASES:g} times its cases. "
        "Right: the same with a layer norm between each convolution and its relu, full blocks "
        f"of the layer norms' weights beside diagonal ones. At the end: {ends}.{found.ended} KFC is said to be 3.4 to "
        "4.8 times faster than SGD to a test error and 6.3 to 7.5 times to a training error (Grosse's talk of 2016), "
        "on other data and networks."
    )


def _figure(found: Compared) -> Figure:
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(2, 3, sharey="row")
    for row, part in zip(axes, NAMES, strict=True):
        for ax, x in zip(row, AXES, strict=False):
            _curves(ax, found.runs, x, part)
            ax.set(xlabel=AXES[x])
        _curves(row[2], found.normalised, "k", part)
        row[2].set(xlabel=AXES["k"])
        row[0].set_ylabel(f"{NAMES[part]} (misclassified)")
    for ax, title in zip(axes[0], ("conv", "conv", "conv with layer norm"), strict=True):
        ax.set_title(title, fontsize=10)
    for ax in (axes[0, 0], axes[0, 2]):
        ax.legend(fontsize=8, frameon=False)
    return figure


def _curves(ax: Axes, runs: Mapping[str, Arrays], x: str, part: str) -> None:
    for label, run in runs.items():
        ax.plot(run[x], run[part], "o-", ms=3, lw=1.6, color=COLOURS[label], label=label)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
    plots.logarithmic(ax)
