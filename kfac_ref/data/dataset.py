"""What a data set is, what was done to it before training, and how it is to be read."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from kfac_ref.data.scaling import Scaling
from kfac_ref.data.table import Recipe


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the user's own data are to be read: what the options of the command say.

    ValueError for a fraction that is not in (0, 1), or a way to fill that there is not.
    """

    target: str | None = None
    """Of a table, the column to be predicted; of an `.npy` of inputs, the path of that of targets."""
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    impute: str | None = None
    """"median"; see `table.recipe`."""
    validation: float | None = None
    """The fraction of the cases that is held out, as test cases."""
    likelihood: str | None = None
    """Of the targets of a table: "categorical" for classes, another for numbers; None: as they look."""
    seed: int = 0
    """Of which cases are held out."""

    def __post_init__(self) -> None:
        if self.impute not in (None, "median"):
            raise ValueError(f'impute must be "median"; got "{self.impute}"')
        if self.validation is not None and not 0 < self.validation < 1:
            raise ValueError(f"validation must be between 0 and 1, a fraction of the cases; got {self.validation}")


@dataclass(frozen=True)
class Preparation:
    """What was done to data as they came, and is done to new data too; None: nothing."""

    recipe: Recipe | None = None
    """From a table's columns to the network's inputs."""
    inputs: Scaling | None = None
    """How inputs were standardised then."""
    outcomes: Scaling | None = None
    """How the numbers to be predicted were standardised."""
    classes: tuple[str, ...] | None = None
    """What the classes are called."""


NOTHING = Preparation()


@dataclass(frozen=True)
class Dataset:
    """Training cases, and test cases if there are any.

    Attributes
    ----------
    name : str
    X : ndarray, (N, d), float32 or, from an `.npz` that has it, float64
        Training inputs.
    Y : ndarray, (N, K), of the same, or None
        Targets; one-hot for class labels.
    X_test, Y_test : ndarray or None
        The same for the test cases.
    image_shape : (int, int) or None
        Rows and columns of one row of `X` as an image, if it is one.
    likelihood : str
        What an autoencoder of the inputs uses by default: "bernoulli" if they lie in [0, 1], else "gaussian".
    targets_given : bool
        Whether `Y` is what to predict: True for an `.npz` with targets of its own; False for the named sets and folders
        of IDX files, which are for autoencoders and have class labels at most besides.
    source : str
        One line for people: what it is and where it came from.
    preparation : Preparation
        What was done to the data as they came.
    case_shape, target_shape : tuple of int, optional
        Of a row of `X` and of `Y` where a file has more than a vector for each case: a sequence (T, d), an image
        (c, H, W), targets for each position (T, K).
    """

    name: str
    X: np.ndarray
    Y: np.ndarray | None
    X_test: np.ndarray | None
    Y_test: np.ndarray | None
    image_shape: tuple[int, int] | None
    likelihood: str
    targets_given: bool
    source: str
    preparation: Preparation = NOTHING
    case_shape: tuple[int, ...] | None = None
    target_shape: tuple[int, ...] | None = None

    def crc32(self) -> int:
        """A checksum of all cases, by which a resumed run knows its data again."""
        parts = [part for part in (self.X, self.Y, self.X_test, self.Y_test) if part is not None]
        return functools.reduce(lambda crc, part: zlib.crc32(np.ascontiguousarray(part).data, crc), parts, 0)
