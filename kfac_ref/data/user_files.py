"""The user's own data, from whatever file or folder they are in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from autodiff.names import nearest
from kfac_ref.data import table
from kfac_ref.data.dataset import Dataset, Preparation, Reading
from kfac_ref.data.image_files import IDX_FILES, read_idx_folder
from kfac_ref.data.npz_file import Arrays, checked, read_npy, read_npz
from kfac_ref.data.pictures import holds_pictures, read_pictures
from kfac_ref.data.scaling import Scaling
from kfac_ref.data.table_file import SUFFIXES as TABLES
from kfac_ref.data.table_file import read_table

KINDS = ".npz, .npy, .csv or .parquet file, or a folder of IDX files or of PNG or JPEG images"


def load(given: str | Path, reading: Reading, names: Iterable[str]) -> Dataset:
    """The data in a file or folder; `names` are those of the data sets that have one, for a message.

    ValueError if it is not there or something is wrong with what is in it.
    """
    if not str(given).strip():
        raise ValueError(f"no data set or path given: expected one of {', '.join(names)}, or a path")
    path = Path(given).expanduser()
    if not path.exists():
        raise ValueError(
            f'no data set or path "{given}"{nearest(str(given), names)} (expected one of {", ".join(names)}, or the '
            f"path of an {KINDS})"
        )
    suffix = path.suffix.lower()
    if path.is_file() and suffix in TABLES:
        return _table(path, reading)
    if path.is_file() and suffix == ".npy":
        return held_out(_npy(path, reading), reading)
    require_no_columns(reading, str(path))
    if path.is_dir():
        return held_out(_folder(path), reading)
    if path.is_file() and suffix == ".npz":
        return held_out(_dataset(path, "arrays", read_npz(path)), reading)
    raise ValueError(f"{path}: expected an {KINDS}")


def require_no_columns(reading: Reading, where: str) -> None:
    """ValueError if `reading` says what the columns are of a table, for data that are none."""
    for name in ("target", "drop", "categorical", "impute"):
        if getattr(reading, name):
            raise ValueError(f"--{name} is for tables, .csv or .parquet files; {where} is none")


def held_out(dataset: Dataset, reading: Reading) -> Dataset:
    """`dataset` with a random part of its cases as test cases, if `reading` asks for that.

    ValueError if it has test cases already, or too few cases.
    """
    if reading.validation is None:
        return dataset
    if dataset.X_test is not None:
        raise ValueError(f'"{dataset.name}" has test cases already, which --validation would leave unused')
    train, held = split(len(dataset.X), reading, dataset.name)
    X, Y = dataset.X, dataset.Y
    parts = {"X": X[train], "X_test": X[held]}
    parts |= {} if Y is None else {"Y": Y[train], "Y_test": Y[held]}
    return replace(dataset, **parts)


def split(cases: int, reading: Reading, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Which cases are for training and which are held out, (N,) and (N′,), each in the order in which they came.
    ValueError where there are too few to hold any out."""
    if reading.validation is None:
        return np.arange(cases), np.arange(0)
    count = max(1, round(reading.validation * cases))
    if count >= cases:
        raise ValueError(f'"{where}" has {cases} cases, too few to hold out a part of {reading.validation:g}')
    order = np.random.default_rng([reading.seed, HELD_OUT]).permutation(cases)
    return np.sort(order[count:]), np.sort(order[:count])


HELD_OUT = 3
"""Purpose of a random key; see `optimizer.SAMPLED_TARGETS`."""


def _dataset(
    path: Path,
    kind: str,
    arrays: Arrays,
    *,
    labels_only: bool = False,
    image_shape: tuple[int, int] | None = None,
    preparation: Preparation | None = None,
) -> Dataset:
    """Cases of more than one dimension become rows, and their shapes are kept."""
    shapes = {key: x.shape[1:] for key, x in arrays.items() if x.ndim > 2}
    arrays = {key: x.reshape(len(x), -1) for key, x in arrays.items()}
    channels, *pixels = shapes.get("X", (0,))
    if channels == 1 and len(pixels) == 2:
        image_shape = pixels[0], pixels[1]
    in_unit = all(arrays[key].min() >= 0 and arrays[key].max() <= 1 for key in ("X", "X_test") if key in arrays)
    return Dataset(
        name=path.absolute().stem,
        X=arrays["X"],
        Y=arrays.get("Y"),
        X_test=arrays.get("X_test"),
        Y_test=arrays.get("Y_test"),
        image_shape=image_shape,
        likelihood="bernoulli" if in_unit else "gaussian",
        targets_given="Y" in arrays and not labels_only,
        source=f"{kind} in {path}",
        preparation=preparation or Preparation(),
        case_shape=shapes.get("X"),
        target_shape=shapes.get("Y"),
    )


def _npy(path: Path, reading: Reading) -> Dataset:
    for name in ("drop", "categorical", "impute"):
        if getattr(reading, name):
            raise ValueError(f"--{name} is for tables, .csv or .parquet files; {path} is none")
    arrays = {"X": read_npy(path)}
    if reading.target is not None:
        other = Path(reading.target).expanduser()
        if other.suffix.lower() != ".npy":
            raise ValueError(f"--target with an .npy of inputs is the .npy of its targets; got {other}")
        arrays["Y"] = read_npy(other)
    return _dataset(path, "array", checked(path, arrays))


def _folder(path: Path) -> Dataset:
    has_idx = any((path / f"{name}{end}").is_file() for name in IDX_FILES.values() for end in ("", ".gz"))
    if has_idx or not holds_pictures(path):
        arrays, shape = read_idx_folder(path)
        return _dataset(path, "IDX files", arrays, labels_only=True, image_shape=shape)
    X, Y, classes, pictures_shape = read_pictures(path)
    arrays = {"X": X} if Y is None else {"X": X, "Y": Y}
    return _dataset(path, "images", arrays, image_shape=pictures_shape, preparation=Preparation(classes=classes))


def _table(path: Path, reading: Reading) -> Dataset:
    """Inputs and numbers to be predicted are standardised, by the training cases."""
    columns = read_table(path)
    train, held = split(len(next(iter(columns.values()))), reading, path.name)
    recipe = table.recipe(
        columns,
        train,
        str(path),
        target=reading.target,
        drop=reading.drop,
        categorical=reading.categorical,
        impute=reading.impute,
        classify=None if reading.likelihood is None else reading.likelihood == "categorical",
    )
    X, Y = recipe.encode(columns, str(path)), recipe.targets(columns, str(path))
    inputs = Scaling.of(X[train])
    outcomes = None
    if Y is not None and recipe.classes is None and reading.likelihood != "bernoulli":
        outcomes = Scaling.of(Y[train])
        Y = outcomes.apply(Y)
    arrays = {"X": inputs.apply(X[train])} | ({} if Y is None else {"Y": Y[train]})
    if len(held):
        arrays |= {"X_test": inputs.apply(X[held])} | ({} if Y is None else {"Y_test": Y[held]})
    return _dataset(path, "table", arrays, preparation=Preparation(recipe, inputs, outcomes, recipe.classes))
