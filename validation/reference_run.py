"""Trains as the authors did, with their preset, and prints its errors beside those that their program printed.

The networks and constants are those of §13 and of the authors' program, whose runs were on a GPU in float32. MNIST is
the same data; CURVES and FACES are run on data that are only like the authors'.
"""

from __future__ import annotations

import argparse
import csv
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info
from tqdm import tqdm

from kfac_ref import plots, training
from kfac_ref.experiment import Experiment, prepare
from kfac_ref.settings import INVERSES

AUTHORS = Path(__file__).parent / "authors"
EVERY = 50
"""Iterations between the authors' evaluations."""
ERRORS = ("train_error", "test_error", "train_error_averaged", "test_error_averaged")

Row = dict[str, Any]


def authors_errors(name: str) -> list[Row]:
    """What the authors' program printed every 50 iterations: `k`, and the ERRORS."""
    with open(AUTHORS / f"{name}_full.csv", encoding="utf-8") as file:
        return [{"k": int(row["iteration"])} | {e: float(row[e]) for e in ERRORS} for row in csv.DictReader(file)]


def run(name: str, iterations: int, seed: int, **options: Any) -> list[Row]:
    """Train for `iterations`; one row every 50 and at the last: `k`, `seconds` of training so far, and the ERRORS."""
    experiment = Experiment(data=name, preset="authors", activation="logistic", seed=seed, **options)
    prepared = prepare(experiment)
    settings = prepared.optimizer.settings
    rows: list[Row] = []
    total = 0.0
    steps = training.iterate(prepared.optimizer, prepared.first_state(), prepared.data)
    for k in tqdm(range(1, iterations + 1), desc=f"{name}, seed {seed}", disable=None, leave=False):
        state, _, seconds = next(steps)
        total += seconds
        if k % EVERY == 0 or k == iterations:
            values = training.evaluate_all(prepared.network, state, prepared.data, settings.eta, settings.chunk_size)
            # θ̄ is θ until averaging begins
            errors = {e: values.get(e, values.get(e.removesuffix("_averaged"))) for e in ERRORS}
            rows.append({"k": k, "seconds": total, **errors})
    return rows


def table(ours: Sequence[Row], authors: Mapping[int, Row]) -> str:
    """Ours beside the authors', a line every 50 iterations."""
    lines = [
        f"{'':9}  {'':>8}  {'training error':^31}  {'test error':^21}  {'training, averaged':^21}",
        f"{'iteration':>9}  {'seconds':>8}  {'ours':>9}  {'authors':>9}  {'ratio':>9}"
        f"  {'ours':>9}  {'authors':>10}  {'ours':>9}  {'authors':>10}",
    ]
    for row in ours:
        theirs = authors.get(row["k"], dict.fromkeys(ERRORS, np.nan))
        lines.append(
            f"{row['k']:>9}  {row['seconds']:>8.1f}  {row['train_error']:>9.4f}  {theirs['train_error']:>9.4f}"
            f"  {row['train_error'] / theirs['train_error']:>9.3f}  {row['test_error']:>9.4f}"
            f"  {theirs['test_error']:>10.4f}  {row['train_error_averaged']:>9.4f}"
            f"  {theirs['train_error_averaged']:>10.4f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation reference-run mnist|curves|faces --iterations N`."""
    parser = argparse.ArgumentParser(prog="python -m validation reference-run", description=__doc__)
    parser.add_argument("name", choices=("mnist", "curves", "faces"))
    parser.add_argument(
        "--iterations", type=int, default=100, metavar="N", help="default: 100; the authors' go to 1500"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one run each (default: 0)")
    parser.add_argument("--inverse", choices=INVERSES, default=INVERSES[0])
    parser.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default) or float64")
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="numpy (default) or cupy")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="default: reference-run-NAME.png")
    options = parser.parse_args(arguments)
    if options.iterations < 1:
        raise ValueError(f"--iterations must be ≥ 1; got {options.iterations}")
    blas = ", ".join(sorted({f"{x['internal_api']} {x.get('architecture', '')}" for x in threadpool_info()}))
    print(f"{options.name}, {options.inverse}, {options.dtype} on {options.backend}; NumPy {np.__version__}, {blas}, "
          f"{platform.machine()}")  # fmt: skip
    theirs = authors_errors(options.name)
    runs = {}
    for seed in options.seeds:
        common = {"dtype": options.dtype, "backend": options.backend, "constants": {"inverse": options.inverse}}
        runs[f"seed {seed}"] = run(options.name, options.iterations, seed, **common)
        print(f"\nseed {seed}\n{table(runs[f'seed {seed}'], {row['k']: row for row in theirs})}", flush=True)
    out = options.out or Path(f"reference-run-{options.name}.png")
    _draw(options.name, runs, [row for row in theirs if row["k"] <= max(options.iterations, EVERY)], out)
    print(f"\n{out}")
    return 0


def _draw(name: str, runs: Mapping[str, Sequence[Row]], authors: Sequence[Row], path: Path) -> None:
    figure = plots.Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for label, rows, marker in [("authors", authors, "s"), *((seed, rows, "o") for seed, rows in runs.items())]:
        for error, style in (("train_error", "-"), ("test_error", ":")):
            colour = "black" if label == "authors" else f"C{list(runs).index(label) % 10}"
            points = plots.series(rows, "k", error)
            ax.plot(*points, style, marker=marker, ms=3, color=colour, label=label if style == "-" else None)
    ax.set(xlabel="iteration", ylabel="squared error a case", yscale="log")
    ax.set_title(f"{name}: solid training, dotted test error", fontsize=10)
    ax.grid(True, which="both", color="#e8e8e8", lw=0.6)
    ax.legend(fontsize=8, frameon=False)
    plots.save(figure, path)
