"""`python -m validation processes`: what many processes send each other, and what they gain."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

from kfac_ref.command import plots
from kfac_ref.data.files import write_text
from kfac_ref.settings import preset
from kfac_ref.training.experiment import AUTOENCODERS
from validation.benchmark import flops
from validation.figures import palette
from validation.processes import minibatches, model
from validation.work import Work, machine

DESCRIPTION = """
Measures, by mpiexec, what an iteration of MNIST's network takes with 1, 2, 4 and 8 processes of one BLAS thread each,
and with one process of as many threads as there are cores; counts messages and bytes; computes from the operations, the
measured rates and figures of networks what 8, 64 and 512 processes would take, each on a core as those measured; and
trains with mini-batches of several sizes. What was measured is kept in DIR, and not measured again.
"""
LARGE = (3162,) * 11
"""A network of 100 million weights."""
COMPUTED = (1, 8, 64, 512)
CASES = {"MNIST's network": 60_000, "100 million weights": 60_000}
NETWORKS = {"MNIST's network": AUTOENCODERS["mnist"], "100 million weights": LARGE}
INVERSES = ("block-diagonal", "block-tridiagonal")


def main(arguments: Sequence[str]) -> int:
    """Measure what is not yet, compute, print and draw; 2 where there is no mpiexec."""
    parser = argparse.ArgumentParser("python -m validation processes", description=DESCRIPTION)
    parser.add_argument("--out", type=Path, default=Path("processes"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--m", type=int, default=4000, metavar="N", help="cases in a mini-batch (default: 4000)")
    parser.add_argument("--iterations", type=int, default=20, metavar="N", help="that are timed (default: 20)")
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2, 4, 8], metavar="P", help="(default: 1 2 4 8)"
    )
    parser.add_argument("--quick", action="store_true", help="few iterations of few cases, for a look")
    options = parser.parse_args(arguments)
    work = Work(options.out, options.quick)
    if options.quick:
        options.m, options.iterations, options.processes = 100, 3, [1, 2]
    timed = work.made("timed") or work.part("timed", "processes", lambda: _timed(options))
    counted = work.made("counted") or work.part("counted", "processes", lambda: _counted(options.quick))
    simulated = work.made("minibatches") or work.part("minibatches", "processes", lambda: _simulated(options.quick))
    text = report(timed, counted, simulated)
    write_text(options.out / "processes.txt", text)
    print(text)
    plots.save(picture(simulated["reached"], simulated["target"]), options.out / "minibatches.png")
    return 0


def measured(number: int, *options: str) -> dict[str, Any]:
    """What `validation.processes.measured` finds with so many processes."""
    program = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if program is None:
        raise ValueError('there is no mpiexec (pip install "kfac-ref[mpi]")')
    command = [sys.executable, "-m", "validation.processes.measured", *options]
    if number > 1:
        command = [program, "-n", str(number), *command]
    # the BLAS may have as many threads as are asked for
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError(f"{number} processes ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def _timed(options: argparse.Namespace) -> dict[str, Any]:
    runs = []
    for inverse in INVERSES:
        about = ["--inverse", inverse, "--m", str(options.m), "--iterations", str(options.iterations)]
        if (cores := len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) > 1:
            runs.append(measured(1, *about, "--threads", str(cores)))
        runs += [measured(number, *about, "--threads", "1") for number in options.processes]
    return {"runs": runs}


def _counted(quick: bool) -> dict[str, Any]:
    # bytes depend neither on the mini-batch nor on how many processes there are
    iterations = "3" if quick else "40"
    return {"runs": [measured(2, "--inverse", i, "--m", "100", "--iterations", iterations) for i in INVERSES]}


def _simulated(quick: bool) -> dict[str, Any]:
    if quick:
        found = minibatches.compare((250, 1000), {"kfac": 20, "sgd": 40}, 25.0)
        return {"target": 25.0, "reached": [asdict(r) for r in found]}
    return {"target": minibatches.TARGET, "reached": [asdict(r) for r in minibatches.compare()]}


def report(timed: Mapping[str, Any], counted: Mapping[str, Any], simulated: Mapping[str, Any]) -> str:
    """All tables, and what is measured and what computed."""
    runs = timed["runs"]
    parts = [
        f"{machine()}\nmeasured {timed['made']}; times are those of a machine that may have had other work",
        "MEASURED: bytes and messages of an iteration, MNIST's network, float32, preset authors, means over "
        f"{counted['runs'][0]['iterations']} iterations. Bytes are those of what was summed or gathered, once.\n\n"
        + tabulate(_traffic(counted["runs"]), headers="keys", floatfmt=".4g"),
        f"MEASURED: seconds of an iteration, mini-batches of {runs[0]['m']}, means over the first "
        f"{runs[0]['iterations']}, on {os.cpu_count()} cores.\n\n"
        + tabulate(_times(runs), headers="keys", floatfmt=".3g"),
        "COMPUTED, not measured: seconds of an iteration with all 60,000 cases, from operations at the rates measured "
        "with one process of one thread, and the figures of two networks.\n\n"
        + tabulate(_computed(runs), headers="keys", floatfmt=".3g"),
        f"MEASURED by one process: iterations to a training error of {simulated['target']:g}, autoencoder "
        f"{'-'.join(map(str, minibatches.NETWORK))} of fashion16, SGD with the best of the learning rates "
        f"{', '.join(map(str, minibatches.LEARNING_RATES))} at each size; –: not within "
        f"{minibatches.LIMITS['kfac']} (K-FAC) or {minibatches.LIMITS['sgd']} (SGD).\n\n"
        + tabulate(_reached(simulated["reached"]), headers="keys", missingval="–"),
    ]
    return "\n\n".join(parts) + "\n"


def _traffic(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for run in runs:
        gradient = run["traffic"]["gradient"]["bytes"]
        for what, t in run["traffic"].items():
            rows.append({"inverse": run["inverse"], "what": what, "messages": t["messages"], "MB": t["bytes"] / 1e6})
        total = sum(t["bytes"] for t in run["traffic"].values())
        messages = sum(t["messages"] for t in run["traffic"].values())
        rows.append({"inverse": run["inverse"], "what": "all", "messages": messages, "MB": total / 1e6})
        rows[-1]["of the gradient's"] = total / gradient
    return rows


def _times(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for run in runs:
        waiting = sum(t["seconds"] for t in run["traffic"].values())
        about = {"by": run["inverse"], "processes": run["processes"], "threads each": run["threads"]}
        rows.append(about | {"seconds": run["seconds"], "in messages": waiting} | run["stages"])
    return rows


def rates(run: Mapping[str, Any]) -> dict[str, float]:
    """Seconds for each operation, by stage, and for each weight of the rest, of a run by one process."""
    sizes = AUTOENCODERS["mnist"]
    settings = preset("authors", inverse=run["inverse"])
    found = dict.fromkeys(flops.iteration(sizes, run["m"], settings, 4), 0.0)
    for k in range(1, run["iterations"] + 1):
        work = flops.iteration(sizes, run["m"], settings, k)
        work["inverse"] = model.due(settings, k)[1] * flops.inverse(sizes, settings.tridiagonal)
        found = {stage: found[stage] + count for stage, count in work.items()}
    weights = sum(d * (n + 1) for n, d in pairwise(sizes))
    return {
        stage: run["stages"][stage] * run["iterations"] / count if count else 0.0 for stage, count in found.items()
    } | {"rest": run["stages"]["rest"] / weights}


def _computed(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for inverse in INVERSES:
        alone = next(r for r in runs if r["inverse"] == inverse and r["processes"] == r["threads"] == 1)
        settings, measured_rates = preset("authors", inverse=inverse), rates(alone)
        for name, sizes in NETWORKS.items():
            for wire in model.WIRES:
                one = None
                for number in COMPUTED:
                    s = model.seconds(sizes, CASES[name], settings, number, measured_rates, wire)
                    one = one or sum(s.values())
                    about = {"network": name, "inverse": inverse, "wire": wire.name, "processes": number}
                    rows.append(about | {"seconds": sum(s.values()), "times faster": one / sum(s.values())} | s)
    return rows


def _reached(reached: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for r in reached:
        row = rows.setdefault(r["m"], {"m": r["m"]})
        row["K-FAC" if r["optimizer"] == "kfac" else "SGD"] = r["iterations"]
        if r["optimizer"] == "sgd":
            row["its learning rate"] = r["learning_rate"]
    return list(rows.values())


def picture(reached: Sequence[Mapping[str, Any]], target: float) -> Figure:
    """Iterations against the size of the mini-batch."""
    figure = Figure(figsize=(5, 3.8), layout="constrained")
    ax = figure.subplots()
    for optimizer, name in (("kfac", palette.TRIDIAGONAL), ("sgd", palette.SGD)):
        found = [(r["m"], r["iterations"]) for r in reached if r["optimizer"] == optimizer and r["iterations"]]
        ax.plot([m for m, _ in found], [k for _, k in found], "o-", label=name, color=palette.COLOURS[name])
    ax.set(xscale="log", yscale="log", xlabel="cases in the mini-batch", title=f"to a training error of {target:g}")
    ax.set_ylabel("iterations")
    sizes = sorted({r["m"] for r in reached})
    ax.set_xticks(sizes, [str(m) for m in sizes])
    ax.set_xticks([], minor=True)
    ax.legend(fontsize=8, frameon=False)
    return figure
