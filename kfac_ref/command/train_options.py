"""The options of `kfac-ref train`."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from autodiff import ACTIVATIONS, LIKELIHOODS
from kfac_ref import machine
from kfac_ref.baselines import SGDSettings
from kfac_ref.command import parsers
from kfac_ref.data import datasets
from kfac_ref.settings import PRESETS, Settings
from kfac_ref.training import networks
from kfac_ref.training.experiment import PREDICTING, Experiment

ITERATIONS = 800
"""Of a run that is given no bound."""


def add(train: argparse.ArgumentParser) -> None:
    """Give its options to the parser of `train`."""
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
        type=parsers.network,
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


def _add_constants(parser: argparse.ArgumentParser) -> None:
    """An option for every constant of the optimizers, with its meaning and its value in the default preset."""
    group = parser.add_argument_group(
        "constants of Algorithm 2 and of SGD",
        f"In brackets the values of the preset {Experiment.preset}. Unless they are given, fashion16 takes eta 7e-3, "
        "faces 5e-6, and a classifier or a regression "
        f"{_listed(PREDICTING[Experiment.preset])}, with the other presets {_listed(PREDICTING['authors'])}; networks "
        f"of other layers than dense ones take {_listed(networks.SUITED)}.",
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


def _listed(constants: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in constants.items())


def _names(text: str) -> tuple[str, ...]:
    return tuple(next(csv.reader([text])))


def _count_or_none(text: str) -> int | None:
    try:
        return None if text == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number or "none"') from None
