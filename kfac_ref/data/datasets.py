"""Data to train on, by name or from the user's own files (§13 uses autoencoders of MNIST, CURVES and FACES).

`load("fashion16")` needs nothing but the package. The other names are fetched or generated once and kept in the cache
directory (see `fetching`). A path is that of a file or folder of the user's own (see `user_files`).
"""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np

from kfac_ref.data import fetching, images, user_files
from kfac_ref.data.dataset import Dataset, Reading
from kfac_ref.data.image_files import IDX_FILES, parse_idx, parse_pgm, scaled
from kfac_ref.data.npz_file import one_hot

DEFAULT = "fashion16"
# Training and test cases of the generated curves.
CURVES_CASES = (20_000, 10_000)
# Patches of each picture, ten pictures a person: 30 people to train on and 10 to test on.
FACES_TRAINING_PEOPLE = 30
FACES_COPIES = (345, 414)
IMAGES = {
    "fashion16": (16, 16),
    "fashion": (28, 28),
    "mnist": (28, 28),
    "mnist16": (16, 16),
    "curves": (28, 28),
    "faces": (25, 25),
}
"""Rows and columns of the images of the data sets by name, as they are known before these are fetched."""


def load(name_or_path: str | Path = DEFAULT, reading: Reading | None = None) -> Dataset:
    """The data set of that name, or in that file or folder (§13).

    Parameters
    ----------
    name_or_path : str or Path
        One of `NAMES`; or the path of an `.npz` with `X` and optionally `Y`, `X_test`, `Y_test`, or of an `.npy`, taken
        as they are (see `npz_file.read_npz`); or of a `.csv` or `.parquet` table, whose columns are standardised; or of
        a folder of IDX files in MNIST's naming, or of PNG or JPEG images, in a folder for each class or in none, which
        are scaled to [0, 1]. A folder that is called like a data set is given with its path, as in `./mnist`.
    reading : Reading, optional
        What the columns of a table are, and how many cases are held out.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no such name or path, or something is wrong with what is in the file.
    FetchError
        If a named set is in no cache and cannot be fetched. It is an OSError.
    """
    make = _MAKERS.get(name_or_path) if isinstance(name_or_path, str) else None
    reading = reading or Reading()
    if make is None:
        return user_files.load(name_or_path, reading, NAMES)
    dataset = make()
    user_files.require_no_columns(reading, f'"{dataset.name}"')
    return user_files.held_out(dataset, reading)


def _labelled(name: str, raw: dict[str, np.ndarray], source: str) -> Dataset:
    """From images (N, rows, columns) of unsigned bytes and their labels, under the keys of `IDX_FILES`."""
    targets = one_hot(name, {key: raw[key] for key in ("Y", "Y_test")})
    return Dataset(
        name=name,
        X=scaled(raw["X"]),
        Y=targets["Y"],
        X_test=scaled(raw["X_test"]),
        Y_test=targets["Y_test"],
        image_shape=raw["X"].shape[1:],
        likelihood="bernoulli",
        targets_given=False,
        source=source,
    )


def _fashion16() -> Dataset:
    with (files("kfac_ref.data") / "fashion16.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        raw = {"X": archive["X"], "Y": archive["labels"], "X_test": archive["X_test"], "Y_test": archive["labels_test"]}
    source = "5,000 of the Fashion-MNIST images (Zalando SE, MIT licence), averaged to 16 x 16; in the package"
    return _labelled("fashion16", raw, source)


def fetched_images(name: str) -> dict[str, np.ndarray]:
    """The images and labels of MNIST or Fashion-MNIST as they are in its files.

    Parameters
    ----------
    name : str
        "mnist" or "fashion".

    Returns
    -------
    dict of str to ndarray, uint8
        `X` and `X_test`, (N, 28, 28); `Y` and `Y_test`, (N,).

    Raises
    ------
    FetchError
    """
    contents = fetching.read(name)
    return {key: parse_idx(contents[file], 3 if key[0] == "X" else 1, file) for key, file in IDX_FILES.items()}


def _fashion() -> Dataset:
    source = "Fashion-MNIST (Zalando SE, MIT licence): 28 x 28 images of clothes"
    return _labelled("fashion", fetched_images("fashion"), source)


def _mnist() -> Dataset:
    return _labelled("mnist", fetched_images("mnist"), "MNIST (LeCun, Cortes, Burges): 28 x 28 handwritten digits")


def _mnist16() -> Dataset:
    raw = fetched_images("mnist")
    for key in ("X", "X_test"):
        raw[key] = averaged_bytes(raw[key], 16, 16)
    return _labelled("mnist16", raw, "MNIST (LeCun, Cortes, Burges): handwritten digits, averaged to 16 x 16")


def averaged_bytes(pictures: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """`images.area_average` of `pictures`, images of unsigned bytes (N, r, c), rounded to unsigned bytes: (N, rows,
    columns)."""
    return np.rint(images.area_average(pictures, rows, columns)).astype(np.uint8)


def _curves() -> Dataset:
    train, test = CURVES_CASES

    def make() -> dict[str, np.ndarray]:
        rng = np.random.default_rng(1)
        ink = images.draw_curves(images.random_points(train + test, rng))
        return {"images": np.rint(ink * 255).astype(np.uint8)}

    X = scaled(fetching.generated(f"curves-1-{train}-{test}", make)["images"])
    return Dataset(
        name="curves",
        X=X[:train],
        Y=None,
        X_test=X[train:],
        Y_test=None,
        image_shape=(28, 28),
        likelihood="bernoulli",
        targets_given=False,
        source="generated curves through three random points, 28 x 28; like the paper's CURVES, not the same images",
    )


def _faces() -> Dataset:
    def make() -> dict[str, np.ndarray]:
        ((file, content),) = fetching.read("orl").items()
        pictures = parse_pgm(content, file)
        rng = np.random.default_rng(1)
        people = np.split(pictures, [10 * FACES_TRAINING_PEOPLE])
        patches = [images.face_patches(part, copies, rng) for part, copies in zip(people, FACES_COPIES, strict=True)]
        # Cases in a random order, so that the first thousand are not all of one person.
        return dict(zip(("X", "X_test"), map(rng.permutation, patches), strict=True))

    patches = fetching.generated("faces-1-{}-{}".format(*FACES_COPIES), make)
    # One mean and one standard deviation over all training pixels, exact from the counts of the 256 values.
    value = np.arange(256)
    share = np.bincount(patches["X"].ravel(), minlength=256) / patches["X"].size
    mean = share @ value
    standard = ((value - mean) / np.sqrt(share @ (value - mean) ** 2)).astype(np.float32)
    X, X_test = (standard[patches[key]].reshape(len(patches[key]), -1) for key in ("X", "X_test"))
    return Dataset(
        name="faces",
        X=X,
        Y=None,
        X_test=X_test,
        Y_test=None,
        image_shape=(25, 25),
        likelihood="gaussian",
        targets_given=False,
        source="patches of the ORL faces (AT&T Laboratories Cambridge) at random angles and scales, 25 x 25, "
        "standardised, other people to test on; like the paper's FACES, not the same images",
    )


_MAKERS: dict[str, Callable[[], Dataset]] = {
    "fashion16": _fashion16,
    "fashion": _fashion,
    "mnist": _mnist,
    "mnist16": _mnist16,
    "curves": _curves,
    "faces": _faces,
}
NAMES = tuple(_MAKERS)
