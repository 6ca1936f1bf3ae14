"""The commands `kfac-ref train`, and `plot`, which draws what it left."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kfac_ref import machine, optimizer
from kfac_ref.command import parsers, reporting, train_options
from kfac_ref.training import networks, runs
from kfac_ref.training.dealing import prepare
from kfac_ref.training.experiment import Experiment, require_known


def register(commands: Any) -> None:
    """Add the two to an argument parser's `commands`."""
    train = parsers.add(
        commands,
        "train",
        _train,
        "train a network on your data, or on a data set by name",
        "Without options it is an autoencoder on the images that come with the package, for less than a minute on "
        "two cores. Settings, metrics, a checkpoint, the model and pictures are left in a new folder under kfac-runs.",
        (
            "train --data mnist --iterations 500",
            "train --data flowers.csv --target species --validation 0.2 --out flowers",
            "train --data fashion --network conv --seconds 180",
            "train --resume flowers --iterations 1000",
        ),
        # an option that is not given is absent, so that --resume can tell it from one that is
        argument_default=argparse.SUPPRESS,
        usage="kfac-ref train [--data NAME|PATH] [--network NETWORK] [--out DIR] [OPTION …]",
    )
    train_options.add(train)

    plot = parsers.add(
        commands,
        "plot",
        _plot,
        "draw the errors of several runs over each other",
        examples=("plot kfac-runs/fashion16-1 kfac-runs/fashion16-2 --out both.png",),
    )
    plot.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run's folder")
    plot.add_argument("--out", required=True, type=Path, metavar="FILE.png", help="the picture")


def _train(options: argparse.Namespace) -> int:
    given, processes = vars(options), machine.processes_found()
    experiment_given = {f.name: given[f.name] for f in fields(Experiment) if f.name in given}
    experiment_given["constants"] = {
        k.removeprefix("constant_"): v for k, v in given.items() if k.startswith("constant_")
    }
    plan_given = {f.name: given[f.name] for f in fields(runs.Plan) if f.name in given}
    if "resume" in given:
        folder = given["resume"]
        with runs.at_work(folder, processes):
            return _run(*_resumed(folder, given, experiment_given, plan_given, processes))
    if "refresh_inverse" in given:
        raise ValueError("--refresh-inverse goes with --resume")
    default = {} if "seconds" in plan_given else {"iterations": train_options.ITERATIONS}
    plan = runs.Plan(**default | plan_given)
    if experiment_given.get("optimizer") == "sgd" and "preset" in experiment_given:
        raise ValueError("--preset is for K-FAC; it does not go with --optimizer sgd")
    prepared = prepare(Experiment(**experiment_given), processes)
    runs.require_held_out(prepared, plan)
    name = prepared.dataset.name

    def new() -> Path:
        return runs.new_folder(given["out"]) if "out" in given else runs.next_folder(Path("kfac-runs"), name)

    folder = processes.by_first(new)
    with runs.at_work(folder, processes):
        return _run(runs.start(folder, prepared, plan), plan)


def _resumed(
    folder: Path,
    given: dict[str, Any],
    experiment_given: dict[str, Any],
    plan_given: dict[str, Any],
    processes: machine.Processes,
) -> tuple[runs.Run, runs.Plan]:
    """The run in `folder` and its plan with what is given anew; ValueError if what is given contradicts the run."""
    if "out" in given:
        raise ValueError("--out does not go with --resume: a run goes on in its own folder")
    experiment, plan = processes.by_first(lambda: runs.read_settings(folder))
    constants = experiment_given.pop("constants")
    require_known(constants, experiment.constants, experiment.optimizer)
    moved = {name: experiment_given.pop(name) for name in ("data", "backend") if name in experiment_given}
    wanted, likelihood = networks.apart(experiment_given.pop("network", None), experiment_given.get("likelihood"))
    if wanted is not None and not networks.same(wanted, experiment.network):
        raise ValueError(
            f"the run in {folder} has network {networks.said(experiment.network)}; it cannot be changed by --resume"
        )
    experiment_given |= {} if likelihood is None else {"likelihood": likelihood}
    before = {f.name: getattr(experiment, f.name) for f in fields(experiment)} | dict(experiment.constants)
    for name, value in (experiment_given | constants).items():
        if before[name] != value:
            raise ValueError(f"the run in {folder} has {name} {before[name]}; it cannot be changed by --resume")
    plan = replace(plan, **plan_given)
    try:
        prepared = prepare(replace(experiment, **moved), processes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / runs.SETTINGS}: {error}") from error
    run = runs.resume(folder, prepared)
    if "refresh_inverse" in given:
        if not isinstance(run.state, optimizer.State):
            raise ValueError("--refresh-inverse is for runs of K-FAC")
        run.state = optimizer.refreshed(run.state)
    run.patience(plan)
    drawn = processes.by_first(lambda: (folder / reporting.CURVE).exists())
    if (run.exhausted or plan.done(run.state.k, run.seconds)) and drawn:
        raise ValueError(
            f"the run in {folder} is finished: {run.state.k} iterations in {run.seconds:.0f} s; "
            "give more --iterations or --seconds to go on"
        )
    processes.by_first(lambda: runs.write_settings(run, plan))
    return run, plan


def _run(run: runs.Run, plan: runs.Plan) -> int:
    """Train with a progress bar, or with a line for each evaluation where there is no terminal; then draw."""
    first = run.processes.first
    if first and (warning := machine.blas_warning()):
        print(f"kfac-ref: warning: {warning}", file=sys.stderr)
    caught: list[int] = []

    def interrupt(number: int, _frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        run.stop = True
        # os.write, as a signal may come in the middle of a print
        if first:
            os.write(2, b"\nstopping after this iteration; again to stop at once\n")

    def stopped() -> str:
        folder = shlex.quote(str(run.folder))
        return f"stopped at iteration {run.state.k}; go on with: kfac-ref train --resume {folder}"

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with run.at_full_speed(plan) as threads:
            if not first:
                run.train(plan, lambda line: None)
                return 0
            print(reporting.heading(run, threads), flush=True)
            with reporting.progress_bar(plan, run) as bar:
                run.train(plan, lambda line: _report(bar, plan, line))
    except optimizer.Diverged as error:
        raise optimizer.Diverged(f"{error}; the last good state is in {run.folder / runs.CHECKPOINT}") from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(stopped()) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(reporting.draw(run))
    print(reporting.kept(run))
    if run.stop and not plan.done(run.state.k, run.seconds):
        print(stopped(), file=sys.stderr)
        return 128 + caught[0]
    return 0


def _report(bar: tqdm, plan: runs.Plan, line: dict[str, Any]) -> None:
    reporting.advance(bar, plan, line)
    if bar.disable and "train_error" in line:
        print(reporting.one_line(line), flush=True)


def _plot(options: argparse.Namespace) -> int:
    from kfac_ref.command import plots

    folders: list[Path] = options.folders
    if options.out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png; got {options.out}")
    names = [folder.resolve().name for folder in folders]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    lines = {label: runs.read_metrics(folder) for label, folder in zip(labels, folders, strict=True)}
    for label, metrics in lines.items():
        if not any("train_error" in line for line in metrics):
            raise ValueError(f"the run {label} has not been evaluated yet, so there is nothing to draw")
    plots.save(plots.overlay(lines), options.out)
    print(options.out)
    return 0
