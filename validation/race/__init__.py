"""Who is first at a training error on MNIST's autoencoder: the best setting of K-FAC here, of kfac-jax, or of Adam,
Muon, SOAP and L-BFGS in PyTorch.

All begin at the same parameters where they have the same initialisation, and are evaluated alike: ‖y − E[y|z]‖², the
mean over all training images. What counts is the seconds of training; evaluating, compiling and importing are left out.
A run that comes to some error half as late again as the leader of its side did is stopped. Runs that are in the folder
already are used again, so that a race that was stopped goes on; after a change of the code, here or there, use another
folder.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from autodiff.arrays import from_numpy
from autodiff.objective import evaluate
from kfac_ref.command import plots
from kfac_ref.data.files import write_text
from kfac_ref.machine import blas_warning
from kfac_ref.optimizer import Diverged
from validation.benchmark.peer import NEEDED
from validation.figures.drawn import as_csv, as_text
from validation.race.racers import (
    OURS,
    RIVALS,
    SIDES,
    THEIRS,
    TORCH_NEEDED,
    Pythons,
    Racer,
    Setting,
    at_start,
    experiment,
)
from validation.race.settings import SETTINGS
from validation.work import Work, machine

TARGET = 8.23
"""The authors' training error at iteration 150."""
BEHIND = 1.5
"""How much later than the leader a run may be at some error."""
ATTEMPTS = 3
"""Runs with the best setting of each side."""
GRACE = 0.25
"""The part of the leader's seconds in which no run is behind."""
RESOLUTION = 1.02
"""The factor between the seconds of evaluations next to the target."""
COLOURS = dict(zip(SIDES, ("#1f5fa8", "#d1601f", "#2e8b57", "#8e44ad", "#b8860b", "#7f7f7f"), strict=True))
REACHED, LATE, TIME, DIVERGED = "target reached", "behind", "time is up", "diverged"


@dataclass(frozen=True)
class Run:
    """How a setting did."""

    setting: Setting
    k: Sequence[int]
    """Iterations at each evaluation, of which the first is before the first iteration."""
    seconds: Sequence[float]
    error: Sequence[float]
    ended: str
    """REACHED, LATE, TIME or DIVERGED."""

    @property
    def score(self) -> float:
        """Seconds to the target; infinite if it was not reached."""
        return self.seconds[-1] if self.ended == REACHED else math.inf

    def row(self) -> dict[str, Any]:
        """Of the table."""
        return {
            "side": self.setting.side,
            "setting": self.setting.name,
            "iterations": self.k[-1],
            "seconds": self.seconds[-1],
            "lowest error": min(self.error),
            "ended": self.ended,
        }


def drive(
    setting: Setting,
    racer: Racer,
    error: Callable[[Sequence[np.ndarray]], float],
    target: float,
    limit: float,
    leader: Run | None,
) -> Run:
    """Train until the target is reached, for `limit` seconds at most, or until the run is behind its side's leader."""
    k, seconds, errors = [0], [0.0], [error(racer.parameters())]
    until, ended = limit / 200, ""
    while not ended:
        try:
            done, now = racer.advance(min(until, limit))
            found = error(racer.parameters())
        except Diverged:
            return Run(setting, k, seconds, errors, DIVERGED)
        if not math.isfinite(found):
            return Run(setting, k, seconds, errors, DIVERGED)
        k.append(done)
        seconds.append(now)
        errors.append(found)
        if found <= target:
            ended = REACHED
        elif now >= limit:
            ended = TIME
        elif leader and behind(now, found, leader):
            ended = LATE
        # often next to the target, seldom far from it
        until = now * min(max((found / target) ** 0.25, RESOLUTION), 1.5)
    return Run(setting, k, seconds, errors, ended)


def behind(seconds: float, error: float, leader: Run) -> bool:
    """Whether a run is at this error BEHIND times as late as the leader was, after a time of GRACE."""
    then = next((t for t, e in zip(leader.seconds, leader.error, strict=True) if e <= error), math.inf)
    return seconds > GRACE * leader.seconds[-1] and seconds > BEHIND * then


def best(runs: Sequence[Run], side: str) -> Run | None:
    """The run of a side that was first at the target; None if none was there."""
    return min((r for r in runs if r.setting.side == side and r.score < math.inf), key=lambda r: r.score, default=None)


def evaluation() -> Callable[[Sequence[np.ndarray]], float]:
    """‖y − E[y|z]‖², the mean over all training cases, as a function of the parameters."""
    prepared = experiment({})
    X, network, s = prepared.data.X, prepared.network, prepared.optimizer.settings
    return lambda parameters: evaluate(network, [from_numpy(W, X) for W in parameters], X, X, s.eta, s.chunk_size).error


def race(work: Work, settings: Sequence[Setting], pythons: Pythons, target: float, limit: float) -> list[Run]:
    """All settings, one after another; then the best of each side again, in turn, as the machine may be disturbed."""
    error, where = evaluation(), machine()
    runs: list[Run] = []

    def run(setting: Setting, attempt: int, leader: Run | None) -> Run:
        def compute() -> Mapping[str, Any]:
            with at_start(setting, pythons) as racer:
                found = drive(setting, racer, error, target, limit, leader)
            return {name: getattr(found, name) for name in ("k", "seconds", "error", "ended")}

        name = re.sub(r"[^\w.]+", "-", f"{setting} {attempt}")
        kept = work.kept(name, asdict(setting) | {"target": target, "limit": limit, "machine": where}, compute)
        k, seconds, errors = (kept[x].tolist() for x in ("k", "seconds", "error"))
        found = Run(setting, k, seconds, errors, str(kept["ended"]))
        tqdm.write(f"{setting}: {found.k[-1]} iterations, {found.seconds[-1]:.1f} s, {found.ended}")
        return found

    for setting in tqdm(settings, desc="settings", disable=None, leave=False):
        runs.append(run(setting, 1, best(runs, setting.side)))
    winners = [winner for side in SIDES if (winner := best(runs, side))]
    for attempt in range(2, ATTEMPTS + 1):
        runs += [run(winner.setting, attempt, None) for winner in winners]
    return runs


def seconds(runs: Sequence[Run], side: str) -> float:
    """The median of the seconds to the target with the best setting of a side; infinite if none was there."""
    winner = best(runs, side)
    return median(run.score for run in runs if run.setting == winner.setting) if winner else math.inf


def verdict(runs: Sequence[Run], target: float, limit: float) -> str:
    """The best of each side, and the ratios of our seconds to those of the others."""
    lines = []
    there = [side for side in SIDES if any(r.setting.side == side for r in runs)]
    for side in there:
        if winner := best(runs, side):
            times = sum(run.setting == winner.setting for run in runs)
            which = f"{winner.setting.name}; median of {times} runs"
            lines.append(f"{side}: {seconds(runs, side):.1f} s to a training error of {target:g} ({which})")
        else:
            lines.append(f"{side}: not at a training error of {target:g} within {limit:g} s")
    rivals = [side for side in RIVALS if side in there]
    for name, sides in ((THEIRS, [THEIRS]), (f"the best of {', '.join(rivals)}", rivals)):
        if any(side in there for side in sides) and (found := _ratio(runs, sides, limit)):
            lines.append(f"ratio to {name}: {found}")
    return "\n".join(lines)


def _ratio(runs: Sequence[Run], sides: Sequence[str], limit: float) -> str | None:
    """Our seconds over those of the first of `sides`, or a bound where none of them got there in time."""
    ours, theirs = seconds(runs, OURS), min(seconds(runs, side) for side in sides)
    if max(ours, theirs) < math.inf:
        return f"{ours / theirs:.3f}"
    if ours < math.inf and any(r.setting.side in sides and r.ended == TIME for r in runs):
        return f"below {ours / limit:.3f}"
    return None


def draw(runs: Sequence[Run], target: float) -> plots.Figure:
    """Error against seconds and against iterations of all runs, the best of each side thick."""
    figure = plots.Figure(figsize=(8, 8.5), layout="constrained")
    axes = figure.subplots(2)
    winners = [best(runs, side) for side in SIDES]
    for ax, name in zip(axes, ("seconds of training", "iterations"), strict=True):
        for run in sorted(runs, key=lambda r: r in winners):
            wins, side = run in winners, run.setting.side
            how: dict[str, Any] = {"lw": 2.2} if wins else {"lw": 0.8, "alpha": 0.55}
            # the error before the first iteration would flatten all else
            x = run.k if name == "iterations" else run.seconds
            ax.plot(x[1:], run.error[1:], color=COLOURS[side], label=str(run.setting) if wins else None, **how)
        ax.axhline(target, color="#555555", lw=1, ls="--", label=f"the target, {target:g}")
        ax.set_xlabel(name)
        ax.set_ylabel("training error")
        plots.logarithmic(ax)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlim(left=0)
    axes[1].set_xscale("log")
    axes[0].legend(fontsize=8, frameon=False, title="thin: other settings", title_fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation race --peers PYTHON --torch PYTHON [--target E] [--seconds S] …`."""
    parser = argparse.ArgumentParser(prog="python -m validation race", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", help=NEEDED)
    parser.add_argument("--torch", metavar="PYTHON", help=TORCH_NEEDED)
    parser.add_argument("--only", nargs="+", choices=SIDES, default=SIDES, metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--target", type=float, default=TARGET, metavar="E", help=f"default: {TARGET}")
    parser.add_argument("--seconds", type=float, default=180.0, metavar="S", help="of training, a run (default: 180)")
    parser.add_argument("--out", type=Path, default=Path("race"), metavar="DIR", help="default: race")
    given = parser.parse_args(arguments)
    for name in ("target", "seconds"):
        if not 0 < getattr(given, name) < math.inf:
            raise ValueError(f"--{name} must be finite and > 0; got {getattr(given, name)}")
    pythons = Pythons(given.peers, given.torch)
    settings = [s for s in pythons.take_part(SETTINGS) if s.side in given.only]
    print(machine(), flush=True)
    if warning := blas_warning():
        print(f"warning: {warning}", file=sys.stderr)
    runs = race(Work(given.out), settings, pythons, given.target, given.seconds)
    table = [run.row() for run in runs]
    said = f"{as_text(table)}\n\n{verdict(runs, given.target, given.seconds)}"
    print(f"\n{said}")
    for option, left_out, needed in (("peers", THEIRS, NEEDED), ("torch", ", ".join(RIVALS), TORCH_NEEDED)):
        if not getattr(given, option):
            print(f"\nleft out: {left_out}: --{option} is not given, which is {needed}")
    write_text(given.out / "race.txt", f"{machine()}\n\n{said}\n")
    points = [
        {"side": r.setting.side, "setting": r.setting.name, "k": k, "seconds": t, "error": e}
        for r in runs
        for k, t, e in zip(r.k, r.seconds, r.error, strict=True)
    ]
    write_text(given.out / "race.csv", as_csv(points))
    plots.save(draw(runs, given.target), given.out / "race.png")
    print(f"\n{given.out / 'race.png'}")
    return 0
