"""The command `kfac-ref`: its parts, of which `train` and `plot` are here."""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import kfac_ref
from autodiff import ACTIVATIONS, LIKELIHOODS
from autodiff.names import closest, nearest
from kfac_ref import machine, optimizer
from kfac_ref.baselines import SGDSettings
from kfac_ref.command import influence as influence_command
from kfac_ref.command import models as model_commands
from kfac_ref.command import oracle as oracle_commands
from kfac_ref.command import parsers, reporting
from kfac_ref.data import datasets
from kfac_ref.settings import PRESETS, Settings
from kfac_ref.training import networks, runs
from kfac_ref.training.dealing import prepare
from kfac_ref.training.experiment import Experiment, require_known

ITERATIONS = 800
"""Of a run that is given no bound."""

DESCRIPTION = """
K-FAC, an optimizer for neural networks (Martens & Grosse 2015), in its reference implementation on NumPy or CuPy: train
networks, use what was trained, and check other implementations.
"""
EPILOG = """
Begin with

  kfac-ref train

which trains an autoencoder on images that come with the package, for less than a minute, and draws what it did. What
each command takes is said by its --help, as in

  kfac-ref train --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 0, 1 for a run that diverged, 2 for bad input or none, 130 for Ctrl-C."""
    parser = whole_parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        if machine.started_first():
            parser.print_help()
        return 2
    try:
        if not given[0].startswith("-"):
            closest(given[0], parser.parts, "command")
        options, rest = parser.parse_known_args(given)
        if rest:
            hint = nearest(rest[0], options.parser.option_names)
            raise ValueError(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return options.command(options)
    except optimizer.Diverged as error:
        return _ended(f"kfac-ref: stopped: {error}", 1, error)
    except KeyboardInterrupt as error:
        return _ended("kfac-ref: interrupted", 130, error)
    except BrokenPipeError:
        # whoever read the output has gone; nothing more can be said, not even by the flush when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, MemoryError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        if isinstance(error, MemoryError):
            message = f"not enough memory: {error}"
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            message = f"{error.filename}: is a file, expected a folder"
        return _ended(f"kfac-ref: error: {' '.join(message.split())}", 2, error)


def _ended(message: str, code: int, error: BaseException) -> int:
    """Say why the command ends, once: of several processes the first does if all know; else who knows ends all."""
    if not (machine.started_alone() or machine.agreed(error)):
        machine.end_all(message, code)
    elif machine.started_first():
        print(message, file=sys.stderr)
    return code


def whole_parser() -> parsers.Parser:
    """The parser of the command with all its parts, which shtab makes completions of."""
    parser = parsers.Parser(
        prog="kfac-ref",
        usage="kfac-ref COMMAND …",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=parsers.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kfac-ref {kfac_ref.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", prog="kfac-ref")
    parser.parts = commands.choices

    train = parsers.add(
        commands,
        "train",
        _train,
        "train a network on your data, or on a data set by name",
        "Without options it is an autoencoder on the images that come with the package, for about a minute on two "
        "cores. Settings, metrics, a checkpoint, the model and pictures are left in a new folder under kfac-runs.",
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
    what = train.add_argument_group("what is trained on what")
    what.add_argument(
        "--data",
        metavar="NAME|PATH",
        help=f"{', '.join(datasets.NAMES)} (default: {datasets.DEFAULT}), or the path of an .npz with X and optionally "
        "Y, X_test, Y_test, of an .npy of inputs, of a .csv or .parquet table, of a folder of IDX files, or of PNG or "
        "JPEG images in a folder for each class",
    )
    what.add_argument(
        "--target", metavar="COLUMN", help="of a table, what is to be predicted; with an .npy, the .npy of the targets"
    )
    what.add_argument("--drop", type=_names, metavar="COLUMN[,COLUMN…]", help="of a table, what is left out")
    what.add_argument(
        "--categorical",
        type=_names,
        metavar="COLUMN[,COLUMN…]",
        help="of a table, columns of numbers that are names of categories; those of words are anyway",
    )
    what.add_argument(
        "--impute",
        metavar="median",
        help="of a table, fill what is missing: numbers by the median, categories by the commonest",
    )
    what.add_argument("--validation", type=float, metavar="F", help="hold out this fraction of the cases, to test on")
    what.add_argument(
        "--network",
        type=_network,
        metavar="NETWORK",
        help="sizes, as 256-128-64-16-64-128-256; or, for images, "
        f'{", ".join(networks.NAMED)}; or layers, as "1x28x28: conv 16 5x5 relu, average-pool 2, flatten, dense 10"; '
        "or the path of a JSON file of these",
    )
    what.add_argument(
        "--activation",
        metavar="NAME",
        help=f"of networks by sizes: {', '.join(ACTIVATIONS)} (default: tanh)",
    )
    what.add_argument(
        "--likelihood",
        metavar="NAME",
        help=f"{', '.join(LIKELIHOODS)}; of the targets Y if there are any, else of an autoencoder",
    )
    what.add_argument(
        "--initialisation",
        metavar="NAME",
        help="sparse (default for networks by sizes), he (default for others) or glorot",
    )
    how = train.add_argument_group("how")
    how.add_argument("--optimizer", metavar="NAME", help="kfac (default) or sgd: Nesterov momentum")
    how.add_argument(
        "--preset",
        metavar="NAME",
        help="constants: quick (default), or as in the authors' program (authors) or in the paper (paper)",
    )
    how.add_argument("--iterations", type=int, metavar="N", help=f"stop after N iterations (default: {ITERATIONS})")
    how.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds of training")
    how.add_argument("--seed", type=int, metavar="N", help="of initial parameters, mini-batches, targets (default: 0)")
    how.add_argument("--dtype", metavar="NAME", help="float32 (default) or float64")
    how.add_argument(
        "--backend", metavar="NAME", help="numpy (default), cupy, or cupy-tf32: products rounded for tensor cores"
    )
    how.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help=f"of the BLAS from beginning to end, for bits that repeat (default: 1 for layers up to {machine.NARROW} "
        "wide; else at first as many as there are cores that no other run of yours has taken, and no more than the "
        "BLAS has at present, then fewer whenever fewer are faster)",
    )
    folder = train.add_argument_group("the run's folder")
    folder.add_argument("--out", type=Path, metavar="DIR", help="a new folder (default: the next kfac-runs/DATA-N)")
    folder.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the run in DIR, as if it had not been interrupted; only --iterations, --seconds, --backend, "
        "--threads, how often to evaluate and save, and where the same --data are can be changed",
    )
    folder.add_argument(
        "--refresh-inverse",
        action="store_true",
        help="with --resume: begin as the authors' program does, with a new inverse and new running averages",
    )
    folder.add_argument("--evaluate-every", type=int, metavar="N", help="iterations between evaluations (default: 20)")
    how.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop after N evaluations in a row that test cases gained nothing from; the best model is kept",
    )
    folder.add_argument("--save-every", type=float, metavar="S", help="seconds between checkpoints (default: 30)")
    _add_constants(train)

    plot = parsers.add(
        commands,
        "plot",
        _plot,
        "draw the errors of several runs over each other",
        examples=("plot kfac-runs/fashion16-1 kfac-runs/fashion16-2 --out both.png",),
    )
    plot.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run's folder")
    plot.add_argument("--out", required=True, type=Path, metavar="FILE.png", help="the picture")
    model_commands.register(commands)
    influence_command.register(commands)
    oracle_commands.register(commands, _network)
    parser.complete_paths()
    return parser


def _add_constants(parser: argparse.ArgumentParser) -> None:
    """An option for every constant of the optimizers, with its meaning and its value in the default preset."""
    group = parser.add_argument_group(
        "constants of Algorithm 2 and of SGD",
        f"In brackets the values of the preset {Experiment.preset}. Unless they are given, fashion16 takes eta 7e-3, "
        "faces 5e-6, and a classifier or a regression lambda0 1 at most; networks of other layers than dense ones take "
        + ", ".join(f"{k} {'none' if v is None else v}" for k, v in networks.SUITED.items())
        + ".",
    )
    constants = {f.name: f for f in (*fields(SGDSettings), *fields(Settings))}
    for name, f in constants.items():
        option: dict[str, Any] = {"dest": f"constant_{name}"}
        default = getattr(PRESETS[Experiment.preset], name, f.default)
        baseline = getattr(SGDSettings, name, default)
        shown = f"{default:.4g}" if f.type == "float" else str(default)
        if f.type == "bool":
            shown = "yes" if default else "no"
        meaning = f"{f.metadata['help']} ({shown})"
        if baseline != default:
            meaning = f"{meaning[:-1]}; SGD: {baseline})".replace("None", "none")
        if f.type == "bool":
            option |= {"action": argparse.BooleanOptionalAction}
        else:
            types: dict[str, Any] = {"float": float, "int": int, "str": str, "int | None": _count_or_none}
            option |= {"type": types[str(f.type)], "metavar": "NAME" if f.type == "str" else "N"}
        group.add_argument(f"--{name.replace('_', '-')}", help=meaning, **option)


def _network(words: str) -> networks.Wanted:
    try:
        return networks.given(words)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{error.filename}: {error.strerror}") from None
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(next(csv.reader([text])))


def _count_or_none(text: str) -> int | None:
    try:
        return None if text == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number or "none"') from None


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
    default = {} if "seconds" in plan_given else {"iterations": ITERATIONS}
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
        return _ended(stopped(), 130, error)
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


if __name__ == "__main__":
    sys.exit(main())
