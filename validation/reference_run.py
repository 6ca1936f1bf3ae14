"""Trains as the authors did, with their preset, and prints its errors beside those that their program printed.

The networks and constants are those of §13 and of the authors' program, whose runs were on a GPU in float32. MNIST is
the same data; CURVES and FACES are run on data that are only like the authors'.
"""

from __future__ import annotations

import argparse
import csv
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info
from tqdm import tqdm

from kfac_ref.command import plots
from kfac_ref.optimizer import Diverged
from kfac_ref.settings import INVERSES
from kfac_ref.training import loop, runs
from kfac_ref.training.experiment import Experiment, prepare
from validation.work import Work

AUTHORS = Path(__file__).parent / "authors"
EVERY = 50
"""Iterations between the authors' evaluations."""
ERRORS = ("train_error", "test_error", "train_error_averaged", "test_error_averaged")

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run's errors."""

    rows: list[Row]
    """On all cases, every 50 iterations and at the last: `k`, `seconds` of training so far, and the ERRORS."""
    minibatches: list[Row]
    """On the mini-batch before each step: `k` and `error`."""


def authors_run(name: str) -> Run:
    """What the authors' program printed."""
    with open(AUTHORS / f"{name}_full.csv", encoding="utf-8") as file:
        rows: list[Row] = [{"k": int(x["iteration"]), **{e: float(x[e]) for e in ERRORS}} for x in csv.DictReader(file)]
    with open(AUTHORS / f"{name}_iterations.csv", encoding="utf-8") as file:
        minibatches: list[Row] = [{"k": int(x["iteration"]), "error": float(x["error"])} for x in csv.DictReader(file)]
    return Run(rows, minibatches)


def experiment(name: str, **options: Any) -> Experiment:
    """A data set's autoencoder, trained as the authors did but for `options`; their units are logistic."""
    return Experiment(**{"data": name, "preset": "authors", "activation": "logistic", "constants": {}} | options)


def train(name: str, iterations: int, seed: int, **options: Any) -> Run:
    """Train as the authors did, for so many iterations."""
    prepared = prepare(experiment(name, seed=seed, **options))
    settings = prepared.optimizer.settings
    rows: list[Row] = []
    minibatches: list[Row] = []
    total = 0.0
    steps = loop.iterate(prepared.optimizer, prepared.first_state(), prepared.data)
    for k in tqdm(range(1, iterations + 1), desc=f"{name}, seed {seed}", disable=None, leave=False):
        state, record, seconds = next(steps)
        total += seconds
        minibatches.append({"k": k, "error": record.error})
        if k % EVERY == 0 or k == iterations:
            values = loop.evaluate_all(prepared.network, state, prepared.data, settings.eta, settings.chunk_size)
            rows.append(_row(k, total, values))
    return Run(rows, minibatches)


def train_in(folder: Path, name: str, iterations: int, seed: int, **options: Any) -> Run:
    """The same in a folder: a run that was stopped there goes on, and one that was finished is read."""
    described = experiment(name, seed=seed, **options)
    trained = Work(folder).train(f"{name}-{seed}", described, runs.Plan(iterations=iterations, evaluate_every=EVERY))
    if trained.diverged:
        raise Diverged(f"{name}, seed {seed}: the objective is not finite after iteration {len(trained.lines)}")
    return from_metrics(trained.lines)


def from_metrics(lines: Sequence[Mapping[str, Any]]) -> Run:
    """The errors in what a run writes, iteration by iteration."""
    evaluated = [line for line in lines if "train_error" in line]
    rows = [_row(line["k"], line["seconds"], line) for line in evaluated]
    return Run(rows, [{"k": line["k"], "error": line["error"]} for line in lines])


def _row(k: int, seconds: float, values: Mapping[str, Any]) -> Row:
    # θ̄ is θ until averaging begins
    errors = {e: values.get(e, values.get(e.removesuffix("_averaged"))) for e in ERRORS}
    return {"k": k, "seconds": seconds, **errors}


def table(ours: Sequence[Row], authors: Mapping[int, Row]) -> str:
    """Ours beside the authors', a line every 50 iterations."""
    lines = [
        f"{'':9}  {'':>8}  {'training error':^31}  {'test error':^21}  {'training, averaged':^21}",
        f"{'iteration':>9}  {'seconds':>8}  {'ours':>9}  {'authors':>9}  {'ratio':>9}"
        f"  {'ours':>9}  {'authors':>10}  {'ours':>9}  {'authors':>10}",
    ]
    for row in ours:
        # the authors' program printed these every 50 iterations only
        theirs = authors.get(row["k"], {})
        cells = {e: f"{theirs[e]:.4f}" if theirs else "–" for e in ERRORS}
        ratio = f"{row['train_error'] / theirs['train_error']:.3f}" if theirs else "–"
        lines.append(
            f"{row['k']:>9}  {row['seconds']:>8.1f}  {row['train_error']:>9.4f}  {cells['train_error']:>9}"
            f"  {ratio:>9}  {row['test_error']:>9.4f}  {cells['test_error']:>10}"
            f"  {row['train_error_averaged']:>9.4f}  {cells['train_error_averaged']:>10}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation reference-run mnist|curves|faces --iterations N`."""
    parser = argparse.ArgumentParser(prog="python -m validation reference-run", description=__doc__)
    parser.add_argument("name", choices=("mnist", "curves", "faces"), help="the data and their network")
    parser.add_argument(
        "--iterations", type=int, default=100, metavar="N", help="default: 100; the authors' go to 1500"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one run each (default: 0)")
    parser.add_argument("--inverse", choices=INVERSES, default=INVERSES[0], help="default: %(default)s")
    parser.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default) or float64")
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="numpy (default) or cupy")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the runs there, and go on where they stopped")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="default: reference-run-NAME.png")
    options = parser.parse_args(arguments)
    if options.iterations < 1:
        raise ValueError(f"--iterations must be ≥ 1; got {options.iterations}")
    blas = ", ".join(sorted({f"{x['internal_api']} {x.get('architecture', '')}" for x in threadpool_info()}))
    machine = f"NumPy {np.__version__}, {blas}, {platform.machine()}"
    print(f"{options.name}, {options.inverse}, {options.dtype} on {options.backend}; {machine}")
    theirs = authors_run(options.name)
    done = {}
    for seed in options.seeds:
        common = {"dtype": options.dtype, "backend": options.backend, "constants": {"inverse": options.inverse}}
        asked = options.name, options.iterations, seed
        kept = options.folder and options.folder / options.inverse
        run = done[f"seed {seed}"] = train_in(kept, *asked, **common) if kept else train(*asked, **common)
        print(f"\nseed {seed}\n{table(run.rows, {row['k']: row for row in theirs.rows})}", flush=True)
    out = options.out or Path(f"reference-run-{options.name}.png")
    _draw(options.name, {"authors": theirs} | done, options.iterations, out)
    print(f"\n{out}")
    return 0


def _draw(name: str, drawn: Mapping[str, Run], iterations: int, path: Path) -> None:
    figure = plots.Figure(figsize=(8, 4.5), layout="constrained")
    ax = figure.subplots()
    for number, (label, run) in enumerate(drawn.items()):
        how: dict[str, Any] = {"color": f"C{number - 1}" if number else "black"}
        kept = [row for row in run.minibatches if row["k"] <= iterations]
        ax.plot(*plots.series(kept, "k", "error"), lw=0.9, label=label, **how)
        kept = [row for row in run.rows if row["k"] <= iterations]
        ax.plot(*plots.series(kept, "k", "train_error"), "o", ms=5, **how)
        ax.plot(*plots.series(kept, "k", "test_error"), "x", ms=7, **how)
    ax.set(xlabel="iteration", ylabel="squared error a case")
    ax.set_title(f"{name}: error on the mini-batch (lines), all training (dots) and test cases (crosses)", fontsize=10)
    plots.logarithmic(ax)
    ax.legend(fontsize=8, frameon=False)
    plots.save(figure, path)
