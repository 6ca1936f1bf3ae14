"""Figure 9 (§13): progress per update, and per training case worked through, against the size of mini-batches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from autodiff.network import Parameters
from autodiff.objective import evaluate
from kfac_ref.command import plots
from kfac_ref.optimizer import KFAC, State
from kfac_ref.settings import Settings
from kfac_ref.training import loop
from kfac_ref.training.experiment import Prepared
from validation.figures import autoencoder_state
from validation.figures.drawn import Drawn, Row
from validation.figures.palette import COLOURS, DIAGONAL, NO_MOMENTUM, TRIDIAGONAL
from validation.work import Arrays, Work

TITLE = "Figure 9: progress per update against the size of the mini-batches"
SECONDS = {"quick": 40, "full": 150}
METHODS: dict[str, dict[str, Any]] = {
    TRIDIAGONAL: {"inverse": "block-tridiagonal"},
    DIAGONAL: {"inverse": "block-diagonal"},
    NO_MOMENTUM: {"inverse": "block-tridiagonal", "momentum": False},
}
"""Constants of Algorithm 2."""
MARKS = dict(zip(METHODS, "os^", strict=True))
PER = 1000
"""Cases that the right panel's progress is for."""


@dataclass(frozen=True)
class Size:
    """How much is computed."""

    cases: int
    """h is measured on the first so many training cases."""
    m: tuple[int, ...]
    """Cases in the mini-batches; sizes beyond those of the data are left out."""
    updates: int
    """With each method and m."""
    skipped: int
    """The first so many are not averaged over."""


SIZES = {
    "quick": Size(2000, (250, 500, 1000, 2000, 4000), updates=4, skipped=1),
    "full": Size(10_000, (250, 500, 1000, 2000, 4000, 8000), updates=10, skipped=2),
}


def draw(work: Work) -> Drawn:
    """The figure."""
    origin, size = autoencoder_state.origin(work), SIZES["quick" if work.quick else "full"]

    def compute() -> dict[str, Any]:
        end = autoencoder_state.trained(work, origin)
        return measure(end.prepared, end.state, size) | {"about": end.described()}

    decisive = origin.asdict() | asdict(size) | {"methods": METHODS}
    found = work.kept(f"figure_09{'-quick' if work.quick else ''}", decisive, compute)
    return Drawn(picture(found), _caption(found), summary(found), {"progress": table(found)})


def measure(prepared: Prepared, state: State, size: Size) -> dict[str, Any]:
    """The mean improvement of h by an update, for each method and m, all from `state`.

    Returns
    -------
    dict : `progress`, (METHODS, m), `m`, `h` before the updates, and what else the caption says.
    """
    data, settings = prepared.data, prepared.optimizer.settings
    assert isinstance(settings, Settings)
    X, Y = data.X[: size.cases, :], data.Y[: size.cases, :]

    def h(parameters: Parameters) -> float:
        return evaluate(prepared.network, parameters, X, Y, settings.eta, settings.chunk_size).h

    sizes = [m for m in size.m if m <= data.X.shape[0]]
    progress = np.empty((len(METHODS), len(sizes)))
    for r, constants in enumerate(METHODS.values()):
        for c, m in enumerate(sizes):
            optimizer = KFAC(prepared.network, replace(settings, m1=m, full_batch_at=None, **constants))
            # the inverse is another method's, or an old one; the factors are good for all
            steps = loop.iterate(optimizer, replace(state, inverse=None), data)
            points = [state.parameters, *(next(steps)[0].parameters for _ in range(size.updates))]
            progress[r, c] = (h(points[size.skipped]) - h(points[-1])) / (size.updates - size.skipped)
    counts = {"updates": size.updates, "skipped": size.skipped, "cases": X.shape[0]}
    return counts | {"progress": progress, "m": np.asarray(sizes), "h": h(state.parameters)}


def table(found: Arrays) -> list[Row]:
    """A line for each method and m."""
    return [
        {"method": name, "m": int(m), "per update": float(progress), "per 1000 cases": float(PER * progress / m)}
        for name, each in zip(METHODS, found["progress"], strict=True)
        for m, progress in zip(found["m"], each, strict=True)
    ]


def summary(found: Arrays) -> list[Row]:
    """The progress per update, a line for each m."""
    columns = zip(found["m"], found["progress"].T, strict=True)
    return [{"m": int(m)} | dict(zip(METHODS, map(float, column), strict=True)) for m, column in columns]


def picture(found: Arrays) -> Figure:
    """Per update to the left, per 1000 cases to the right; what made h worse is marked at the lower edge."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, per, what in zip(axes, (1, found["m"] / PER), ("update", f"{PER} cases worked through"), strict=True):
        for r, name in enumerate(METHODS):
            values = np.where(found["progress"][r] > 0, found["progress"][r] / per, np.nan)
            ax.plot(found["m"], values, color=COLOURS[name], marker=MARKS[name], ms=5, label=name)
            worse = found["m"][np.isnan(values)]
            if len(worse):
                edge = ax.get_xaxis_transform()
                ax.plot(worse, np.full(len(worse), 0.02 + 0.03 * r), "x", color=COLOURS[name], ms=7, transform=edge)
        ax.set(xlabel="m, cases in a mini-batch", ylabel=f"fall of h per {what}", xscale="log")
        ax.set_xticks(found["m"], [str(m) for m in found["m"]])
        ax.set_xticks([], minor=True)
        ax.margins(y=0.15)
        plots.logarithmic(ax)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def _caption(found: Arrays) -> str:
    worse = int(np.sum(found["progress"] <= 0))
    return (
        f"Updates with a fixed m, one run of each method and m, all from the same state: after {found['about']}. Every "
        "run goes on from the state's factors, λ, γ and (with momentum) δ₀; the inverse is computed anew at the first "
        "update, and then as Algorithm 2 says. "
        f"Progress is the fall of h over the first {found['cases']} training cases, {float(found['h']):.5g} before, a "
        f"mean over updates {int(found['skipped']) + 1} to {found['updates']}. Left and in the table: per update; "
        f"right: divided by m, for {PER} cases. Both axes are logarithmic; {worse or 'none'} of the "
        f"{found['progress'].size} runs made h worse{' (crosses)' if worse else ''}."
    )
