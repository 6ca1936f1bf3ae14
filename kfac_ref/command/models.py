"""The commands for what is trained: `kfac-ref predict`, `evaluate` and `export`."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import BACKENDS, to_numpy
from kfac_ref.command import parsers
from kfac_ref.data import datasets
from kfac_ref.data.files import write_text
from kfac_ref.data.npz_file import read_archive, read_npy, write_archive
from kfac_ref.data.table_file import SUFFIXES as TABLES
from kfac_ref.data.table_file import read_table
from kfac_ref.training import exports
from kfac_ref.training.models import Model
from kfac_ref.training.runs import load

OUTPUTS = (".csv", ".npz")


def register(commands: Any) -> None:
    """Add the three to an argument parser's `commands`."""
    predict = _command(
        commands,
        "predict",
        _predict,
        "predict with a trained network",
        "predict flowers --data new.csv --out species.csv",
    )
    predict.add_argument("--data", required=True, metavar="FILE", help=INPUTS)
    predict.add_argument(
        "--out", required=True, type=Path, metavar="FILE.csv|.npz", help="predictions, and probabilities of classes"
    )

    evaluate = _command(
        commands,
        "evaluate",
        _evaluate,
        "say how well a trained network predicts",
        "evaluate flowers --data flowers.csv",
    )
    evaluate.add_argument("--data", required=True, metavar="FILE", help=f"{INPUTS}; with the targets")
    evaluate.add_argument("--target", type=Path, metavar="Y.npy", help="the targets, where --data is an .npy")
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE.png", help="a picture (default: evaluation.png in the run's folder)"
    )

    export = _command(
        commands, "export", _export, "write a trained network in another format", "export flowers --to onnx"
    )
    export.add_argument("--to", required=True, choices=exports.FORMATS, metavar="FORMAT", help=FORMATS)
    export.add_argument("--out", type=Path, metavar="FILE", help="(default: model.onnx and so on in the run's folder)")
    for parser in (predict, evaluate):
        parser.add_argument("--backend", default="numpy", choices=BACKENDS, help="of the arrays (default: numpy)")


FORMATS = f"{', '.join([*exports.FORMATS][:-1])} or {[*exports.FORMATS][-1]}"
INPUTS = "a table with the columns that it was trained on, an .npz with X, an .npy, or a data set by name"


def _command(commands: Any, name: str, run: Any, meaning: str, example: str) -> parsers.Parser:
    parser = parsers.add(commands, name, run, meaning, examples=(example,))
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a .safetensors file")
    return parser


def _predict(options: argparse.Namespace) -> int:
    suffix = options.out.suffix.lower()
    if suffix not in OUTPUTS:
        raise ValueError(f"--out must end in {' or '.join(OUTPUTS)}; got {options.out}")
    model = load(options.run, options.backend)
    X, _ = _read(model, options.data, None, None)
    mean = to_numpy(model.mean(X))
    classes = model.classes
    predicted = mean if classes is None else classes[mean.argmax(1)]
    if suffix == ".npz":
        found = {"prediction": predicted, "inputs": model.input_names, "outputs": model.output_names}
        if classes is not None:
            found["probability"] = mean
        write_archive(options.out, {name: np.asarray(x) for name, x in found.items()})
    else:
        names = model.output_names
        header = names if classes is None else ["prediction", *(f"probability of {name}" for name in names)]
        rows = mean.tolist() if classes is None else [[c, *p] for c, p in zip(predicted, mean.tolist(), strict=True)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([header, *rows])
        write_text(options.out, text.getvalue())
    print(f"{options.out}: {len(mean)} cases")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    out = options.out or _beside(options.run, "evaluation.png")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png; got {out}")
    model = load(options.run, options.backend)
    X, Y = _read(model, options.data, options.target, "targets")
    assert Y is not None
    found = model.measured(X, Y)
    print(found)
    # only now, as Matplotlib takes long to import
    from kfac_ref.command import evaluation, plots

    plots.save(evaluation.picture(found, f"{options.run} on {options.data}"), out)
    print(f"\npicture  {out}")
    return 0


def _export(options: argparse.Namespace) -> int:
    write, suffix = exports.FORMATS[options.to]
    out = options.out or _beside(options.run, f"export{suffix}" if options.to == "safetensors" else f"model{suffix}")
    if out.suffix.lower() != suffix:
        raise ValueError(f"--out must end in {suffix} for {options.to}; got {out}")
    write(load(options.run), out)
    print(out)
    return 0


def _beside(run: Path, name: str) -> Path:
    return run / name if run.is_dir() else run.with_name(name)


def _read(model: Model, given: str, target: Path | None, what: str | None) -> tuple[Any, np.ndarray | None]:
    """The network's inputs from a file or a data set by name, and the targets if `what` calls for them."""
    path = Path(given).expanduser()
    suffix = path.suffix.lower()
    if suffix in TABLES:
        table = read_table(path)
        X = model.inputs(table, str(path))
        return X, model.targets(table, None, str(path)) if what else None
    if suffix == ".npy":
        X = model.inputs(read_npy(path))
        Y = None if target is None else read_npy(target)
    elif suffix == ".npz":
        found, names = read_archive(path, ("X", "Y"))
        if "X" not in found:
            raise ValueError(f"{path}: key 'X' is missing, found {', '.join(names) or 'nothing'}")
        X, Y = model.inputs(found["X"]), found.get("Y")
    else:
        dataset = datasets.load(given)
        held = dataset.X_test is not None
        if held:
            print("kfac-ref: these are the test cases of the data set", file=sys.stderr)
        X = model.inputs(dataset.X_test if held else dataset.X)
        Y = dataset.Y_test if held else dataset.Y
    if not what:
        return X, None
    return X, model.targets(X, Y, given)
