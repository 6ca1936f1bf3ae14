"""Inputs and targets from an `.npz`, and what may be wrong with them.

Whatever is wrong with a file is a ValueError of one line that names the file, the key, and the shape or value, and what
was expected.
"""

import zipfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kfac_ref.data.files import write_whole

KEYS = ("X", "Y", "X_test", "Y_test")
# More classes than this are taken for a mistake, such as identifiers or seconds in place of labels.
MOST_CLASSES = 100_000
# Bytes from which on a member gets the ZIP64 header, which simple readers of .npz do not know.
LARGE = 2**30

Arrays = dict[str, np.ndarray]


def read_npz(path: Path) -> Arrays:
    """Inputs and targets from an `.npz`.

    Parameters
    ----------
    path : Path
        An archive with `X`, (N, d), sequences (N, T, d) or images (N, c, H, W), and optionally `Y`, `X_test` and
        `Y_test`. Targets are (N, K), or (N, T, K) for each position, or integer labels (N,), which become one-hot, or
        real numbers (N,), which become (N, 1). Other keys are ignored.

    Returns
    -------
    dict of str to ndarray
        Those of the four keys that are there, of two dimensions or more, float64 where the file has it, else float32.

    Raises
    ------
    ValueError
        If the archive is damaged or holds pickled objects, or an array is not as above, is empty, is complex, has a NaN
        or an infinity, or does not fit the others.
    """
    arrays, found = read_archive(path, KEYS)
    if "X" not in arrays:
        near = [key for key in found if key[:1] in "xX" or get_close_matches(key.lower(), ["x", "inputs", "x_test"])]
        hint = f"; {near[0]!r} is near, but names must be exactly X, Y, X_test, Y_test" if near else ""
        raise ValueError(f"{path}: key 'X' is missing, found {listed(found)}{hint}")
    return checked(path, arrays)


def checked(path: Path, arrays: Arrays) -> Arrays:
    """Inputs and targets as `read_npz` returns them, from arrays as they are in a file; ValueError as it raises."""
    result: Arrays = {key: _inputs(path, key, arrays[key]) for key in ("X", "X_test") if key in arrays}
    result |= _targets(path, {key: arrays[key] for key in ("Y", "Y_test") if key in arrays})
    check_fit(str(path), result)
    return result


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy`, of any shape; ValueError if it cannot be read, is damaged, or holds pickled objects."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    except Exception as error:
        raise ValueError(f"{path}: is not a whole .npy of plain numbers: {one_line(error)}") from None
    return array


def read_archive(path: Path, keys: Sequence[str] | None = None) -> tuple[Arrays, list[str]]:
    """The arrays of an `.npz` under `keys` (default: all) as they are in the file, and the names of all.

    Raises
    ------
    ValueError
        If it cannot be read, is no archive or a damaged one, or an array that is read holds pickled objects.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(2)
        if not zipfile.is_zipfile(path):
            if head[:1] == b"\x80":
                raise ValueError(f"{path}: is a pickle; pickles are not read, expected an .npz of plain arrays")
            raise ValueError(f"{path}: is not a whole .npz archive; expected one as numpy.savez writes it")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    key = ""
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = list(archive.files)
            for key in found if keys is None else keys:
                if key in found:
                    arrays[key] = np.asarray(archive[key])
    # NumPy and zipfile raise much besides their own errors at bytes that are not what they should be.
    except Exception as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: key {key!r} holds pickled objects; pickles are not read, expected an array of numbers"
            ) from None
        at = f" at key {key!r}" if key else ""
        raise ValueError(f"{path}: damaged archive{at}: {type(error).__name__}: {one_line(error)}") from None
    return arrays, found


def write_archive(path: Path, arrays: Arrays) -> None:
    """Write an `.npz` whole or not at all, in C order and not compressed; the same arrays give the same bytes.

    Unlike those of `numpy.savez`, members have no ZIP64 fields unless they are large, so that their sizes are where
    simple readers look for them, which go from one local header to the next.
    """

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for key, x in arrays.items():
                array = np.asarray(x, order="C")
                info = zipfile.ZipInfo(f"{key}.npy")
                info.create_system = 3  # or it would say on which system it was written
                with archive.open(info, "w", force_zip64=array.nbytes >= LARGE) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write_whole(path, write)


def finite(path: Path | str, key: str, array: np.ndarray, dtype: type) -> np.ndarray:
    """`array`, of any shape, as finite real numbers of `dtype`; ValueError naming the file, the key and the entry if it
    is not."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: key {key!r} has dtype {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):
        numbers: np.ndarray = np.asarray(array, dtype=dtype, order="C")
    bad = ~np.isfinite(numbers)
    if bad.any():
        place = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
        where = ", ".join(f"{axis} {i}" for axis, i in zip(("row", "column"), place, strict=False))
        if len(place) > 2:
            where = f"[{', '.join(map(str, place))}]"
        value = array[place]
        note = "" if not np.isfinite(value) else f", too large for {numbers.dtype}"
        raise ValueError(f"{path}: key {key!r} is {value} at {where or 'its one entry'}{note}, expected finite numbers")
    return numbers


def _numbers(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """As finite float64 if they are float64, else as finite float32; or ValueError."""
    if 0 in array.shape:
        raise ValueError(f"{path}: key {key!r} has shape {array.shape}, expected at least one case and one column")
    return finite(path, key, array, np.float64 if array.dtype == np.float64 else np.float32)


def _inputs(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim not in (2, 3, 4):
        raise ValueError(
            f"{path}: key {key!r} has shape {array.shape}, expected two dimensions (cases, inputs), or sequences "
            "(cases, positions, inputs) or images (cases, channels, rows, columns)"
        )
    return _numbers(path, key, array)


def _targets(path: Path, arrays: Arrays) -> Arrays:
    for key, array in arrays.items():
        if array.ndim not in (1, 2, 3):
            raise ValueError(
                f"{path}: key {key!r} has shape {array.shape}, expected (cases, targets), (cases, positions, targets), "
                "or one label or number per case"
            )
    numbers = {key: _numbers(path, key, array) for key, array in arrays.items()}
    labels = [key for key, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "biu"]
    if len(labels) == len(arrays):
        return one_hot(str(path), arrays)
    if labels:
        other = "Y" if labels == ["Y_test"] else "Y_test"
        raise ValueError(
            f"{path}: key {labels[0]!r} has integer labels but {other!r} has shape {arrays[other].shape} and dtype "
            f"{arrays[other].dtype}, expected the same kind of targets in both"
        )
    return {key: array if array.ndim > 1 else array[:, None] for key, array in numbers.items()}


def one_hot(path: str, labels: Arrays) -> Arrays:
    """One-hot rows for integer labels; as many classes as the largest label of all of them says.

    Parameters
    ----------
    path : str
        For messages.
    labels : dict of str to ndarray, (N,), integer

    Returns
    -------
    dict of str to ndarray, (N, K), float32

    Raises
    ------
    ValueError
        If a label is negative, or so large that it can hardly be a class.
    """
    if not labels:
        return {}
    for key, values in labels.items():
        if values.min() < 0:
            row = int(values.argmin())
            raise ValueError(f"{path}: key {key!r} is {values[row]} at row {row}, expected labels from 0 up")
        if values.max() >= MOST_CLASSES:
            row = int(values.argmax())
            raise ValueError(
                f"{path}: key {key!r} is {values[row]} at row {row}, expected labels below {MOST_CLASSES} (numbers to "
                "be predicted are given as float)"
            )
    classes = 1 + max(int(values.max()) for values in labels.values())
    # Not a row of an identity matrix, which would be large for many classes.
    return {
        key: (values.astype(np.int64)[:, None] == np.arange(classes)).astype(np.float32)
        for key, values in labels.items()
    }


def check_fit(path: str, arrays: Arrays, names: dict[str, str] | None = None) -> None:
    """ValueError if the arrays' row counts or widths do not fit each other, or one lacks the other that goes with it.

    Parameters
    ----------
    path : str
        For messages.
    arrays : dict of str to ndarray
        Under the four keys.
    names : dict of str to str, optional
        What messages call each key; the keys themselves by default.
    """
    called = names or {key: f"key {key!r}" for key in KEYS}
    if "Y_test" in arrays and "X_test" not in arrays:
        raise ValueError(f"{path}: {called['Y_test']} without {called['X_test']}, expected both or neither")
    if "X_test" in arrays and ("Y" in arrays) != ("Y_test" in arrays):
        there, missing = ("Y", "Y_test") if "Y" in arrays else ("Y_test", "Y")
        raise ValueError(f"{path}: {called[there]} without {called[missing]}, expected both or no {called['X_test']}")
    for other, one in (("X_test", "X"), ("Y_test", "Y")):
        if other in arrays and one in arrays and (n := arrays[other].shape[1:]) != (d := arrays[one].shape[1:]):
            has, expected = (f"{n[0]} columns", d[0]) if len(n) == len(d) == 1 else (f"cases of shape {n}", d)
            raise ValueError(f"{path}: {called[other]} has {has}, expected {expected} as in {called[one]}")
    for other, one in (("Y", "X"), ("Y_test", "X_test")):
        if other in arrays and one in arrays and (rows := len(arrays[other])) != len(arrays[one]):
            raise ValueError(
                f"{path}: {called[other]} has {rows} rows, expected {len(arrays[one])} as in {called[one]}"
            )


def listed(names: list[str]) -> str:
    """The first few names, for a message."""
    shown = ", ".join(repr(name) for name in names[:8])
    return (shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def one_line(error: Exception) -> str:
    """What an error says, short and without line breaks."""
    return " ".join(str(error).split())[:200]
