"""Policies trained by K-FAC in a trust region (ACKTR, Wu et al. 2017) beside Adam (A2C), the same actor and critic.

Both are tuned on seeds of their own, and compared on five others. Needs gymnasium (`pip install 'kfac-ref[rl]'`). What
was computed is kept in the folder and used again: after a change of the code, use another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from autodiff.names import closest
from kfac_ref.command.plots import GRID
from validation.figures.drawn import Drawn, Row, as_text, write
from validation.policy import kl
from validation.policy.environments import TASKS, gymnasium
from validation.policy.training import ENVIRONMENTS, EPISODES, steps_until
from validation.policy.tuning import FINALISTS, FIRST, SEEDS, run, settings, tuned
from validation.work import Work

METHODS = {"kfac": ("K-FAC, trust region", "#1f5fa8"), "adam": ("Adam", "#d1601f")}
"""What they are called in the picture, and their colours."""
SECOND = ", second setting"
"""Of the two best by tuning, where it is reported beside the first: tuning on few seeds is noisy."""
REPORTED = (0, 1, 2, 3, 4)
"""Seeds."""
QUICK = 8192
"""Steps, with --quick."""
MEASURED = 16_384
"""Steps of the run along which divergences are measured."""
Runs = dict[tuple[str, str], list[dict[str, Any]]]
"""By task and method, one for each seed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation policy [TASK …] --out DIR [--quick]`."""
    parser = argparse.ArgumentParser(prog="python -m validation policy", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"which (default: all): {', '.join(TASKS)}")
    parser.add_argument("--out", type=Path, default=Path("policy"), metavar="DIR", help="default: policy")
    parser.add_argument("--quick", action="store_true", help="two seeds, few steps and settings: a minute")
    options = parser.parse_args(arguments)
    gymnasium()
    tasks = [closest(name, TASKS, "task") for name in options.tasks] or list(TASKS)
    work = Work(options.out, options.quick)
    work.refuse_other_kind(["policy"])
    made = work.part("policy", f"policy{' --quick' if work.quick else ''}", lambda: _made(work, tasks))
    print(made["caption"], as_text(made["table"]), as_text(made["kl"]), work.out / "policy.png", sep="\n\n")
    return 0


def _made(work: Work, tasks: Sequence[str]) -> dict[str, Any]:
    found: Runs = {}
    chosen, costs = {}, []
    pairs = [(task, method) for task in tasks for method in METHODS]
    with tqdm(pairs, disable=None, leave=False) as bar:
        for task, method in bar:
            bar.set_description(f"{task}, {method}")
            best, rows = tuned(work, task, method)
            costs += rows
            steps, seeds = (QUICK, REPORTED[:2]) if work.quick else (TASKS[task].steps, REPORTED)
            for constants, which in zip(best, ("", SECOND), strict=False):
                chosen[task, method + which] = constants
                found[task, method + which] = [run(work, task, method, constants, seed, steps) for seed in seeds]
    figure, curves = _draw(found, tasks)
    summary = _summary(found, chosen, tasks)
    length = QUICK // 2 if work.quick else MEASURED
    made = [row for task in tasks for row in _divergences(work, task, chosen[task, "kfac"], length)]
    caption = (
        f"{ENVIRONMENTS} environments side by side, {len(next(iter(found.values())))} seeds, medians and quartiles. "
        "Returns are means over fresh episodes with the policy as it stands, actions drawn from it, "
        f"{EPISODES['CartPole-v1']} of CartPole and 20 of the others; steps are those of training. "
        f"Tuned on other seeds: on CartPole {FIRST}, and {len(SEEDS)} for the best {FINALISTS} settings, else one. "
        + "; ".join(f"{task}, {method}: {_said(c)}" for (task, method), c in chosen.items())
        + "."
    )
    tables: dict[str, Sequence[Row]] = {"returns": curves, "tuning": costs, "kl": made, "summary": summary}
    write(Drawn(figure, caption, summary, tables), work.out, "policy")
    return {"caption": caption, "table": summary, "kl": made}


def _said(constants: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in constants.items())


def _summary(found: Runs, chosen: dict[tuple[str, str], dict[str, float]], tasks: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for task in tasks:
        for of, method in found:
            if of != task:
                continue
            first = method.removesuffix(SECOND)
            name = method.replace(first, METHODS[first][0])
            runs, level = found[task, method], TASKS[task].solved
            late = [float(np.mean(r["returns"][-len(r["returns"]) // 4 :])) for r in runs]
            row: dict[str, Any] = {"task": task, "method": name}
            if level is not None:
                for what in ("steps", "seconds"):
                    until = [steps_until(r, level, what) for r in runs]
                    row[f"{what} to {level:g}"] = float(np.median(until))
                    row[f"{what}, quartiles"] = " – ".join(f"{x:.4g}" for x in _quartiles(until))
                row["solved"] = f"{sum(bool(np.max(r['returns']) >= level) for r in runs)} of {len(runs)}"
            row["mean return of the last quarter"] = float(np.median(late))
            row["of all evaluations"] = float(np.median([np.mean(r["returns"]) for r in runs]))
            row["seconds"] = float(np.median([r["seconds"][-1] for r in runs]))
            row["settings tried"] = len(settings(task, first))
            rows.append(row)
    return rows


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    """By order alone, so that some may be infinite."""
    found = np.percentile(values, [25, 75], method="closest_observation")
    return float(found[0]), float(found[1])


def _divergences(work: Work, task: str, constants: dict[str, float], steps: int) -> list[Row]:
    """KL/δ of steps, by what they are scaled by."""

    def compute() -> dict[str, Any]:
        measured = kl.measured(task, constants, REPORTED[0], steps)
        by_delta = {f"ΔᵀFΔ, F of the batch; δ = {delta:g}": x for delta, x in measured.by_delta.items()}
        return {"names": [*measured.by_rule, *by_delta], "ratios": [*measured.by_rule.values(), *by_delta.values()]}

    kept = work.kept(f"kl-{task}", {"constants": constants, "steps": steps}, compute)
    rows: list[Row] = []
    for name, ratios in zip(kept["names"], kept["ratios"], strict=True):
        low, median, high = map(float, np.percentile(ratios, [25, 50, 75]))
        row: dict[str, Any] = {"task": task, "scaled by": str(name), "KL/δ, median": median, "25 %": low, "75 %": high}
        rows.append(row | {"what is wrong": kl.RULES.get(str(name), "")})
    return rows


def _draw(found: Runs, tasks: Sequence[str]) -> tuple[Figure, list[Row]]:
    figure = Figure(figsize=(4.2 * len(tasks), 6), layout="constrained")
    axes = figure.subplots(2, len(tasks), squeeze=False)
    curves: list[Row] = []
    for column, task in zip(axes.T, tasks, strict=True):
        for method, (name, colour) in METHODS.items():
            runs = found[task, method]
            returns = np.array([r["returns"] for r in runs])
            steps = np.asarray(runs[0]["steps"])
            seconds = np.median([r["seconds"] for r in runs], axis=0)
            low, median, high = np.percentile(returns, [25, 50, 75], axis=0)
            for ax, x in zip(column, (steps / 1000, seconds), strict=True):
                ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
                ax.plot(x, median, color=colour, lw=1.6, label=name)
            points = zip(steps, seconds, low, median, high, strict=True)
            keys = ("steps", "seconds", "25 %", "median", "75 %")
            curves += [{"task": task, "method": method} | dict(zip(keys, map(float, p), strict=True)) for p in points]
        for ax, label in zip(column, ("thousand steps of training", "seconds of training"), strict=True):
            level = TASKS[task].solved
            if level is not None:
                ax.axhline(level, color="#555555", lw=0.8, ls="--", label=f"solved: {level:g}")
            ax.set_xlabel(label)
            ax.grid(True, color=GRID, lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        column[0].set_title(TASKS[task].name, fontsize=10)
    for row in axes:
        row[0].set_ylabel("mean return")
    axes[0, 0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure, curves
