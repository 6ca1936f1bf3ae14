"""Images from files: folders of IDX files as MNIST has them, and PGM pictures; and what may be wrong with them.

Whatever is wrong with a file is a ValueError of one line that names the file and the shape or value, and what was
expected.
"""

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from kfac_ref.data.npz_file import Arrays, check_fit, listed, one_hot, one_line

# In MNIST's naming.
IDX_FILES = {
    "X": "train-images-idx3-ubyte",
    "Y": "train-labels-idx1-ubyte",
    "X_test": "t10k-images-idx3-ubyte",
    "Y_test": "t10k-labels-idx1-ubyte",
}


def parse_idx(content: bytes, dimensions: int, where: str) -> np.ndarray:
    """The array in an IDX file of unsigned bytes.

    Parameters
    ----------
    content : bytes
        Of the whole file, uncompressed.
    dimensions : int
        3 for images (cases, rows, columns), 1 for labels.
    where : str
        The file's name, for messages.

    Returns
    -------
    ndarray, uint8

    Raises
    ------
    ValueError
        If the file does not start as such a file does, or has not as many bytes as its header says.
    """
    start = 4 * (dimensions + 1)
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise ValueError(f"{where}: starts with bytes {content[:4].hex() or '(none)'}, expected {magic.hex()} (IDX)")
    if len(content) < start:
        raise ValueError(f"{where}: header cut short, {len(content)} bytes, expected {start}")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if 0 in shape:
        raise ValueError(f"{where}: shape {tuple(shape)}, expected at least one case")
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{where}: {len(content)} bytes, expected {expected} for shape {tuple(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_folder(folder: Path) -> tuple[Arrays, tuple[int, int]]:
    """Images, and labels if they are there, from IDX files in MNIST's naming, each plain or with `.gz`.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    arrays : dict of str to ndarray
        `X` and, if they are there, `X_test`, (N, rows * columns), in [0, 1]; `Y` and `Y_test`, one-hot. All float32.
    image_shape : (int, int)

    Raises
    ------
    ValueError
        If there is no file of training images, or one is damaged, or they do not fit each other.
    """
    contents = {}
    for key, name in IDX_FILES.items():
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                contents[key] = (path, _read_plain_or_gz(path))
                break
    if "X" not in contents:
        found = sorted(p.name for p in folder.iterdir())
        raise ValueError(f"{folder}: no {IDX_FILES['X']} or {IDX_FILES['X']}.gz in this folder, found {listed(found)}")
    raw = {
        key: parse_idx(content, 3 if key.startswith("X") else 1, str(path)) for key, (path, content) in contents.items()
    }
    if "X_test" in raw and raw["X_test"].shape[1:] != raw["X"].shape[1:]:
        raise ValueError(
            f"{contents['X_test'][0]}: images are {raw['X_test'].shape[1:]}, expected {raw['X'].shape[1:]} as in "
            f"{contents['X'][0].name}"
        )
    arrays = {key: scaled(raw[key]) for key in raw if key.startswith("X")}
    arrays |= one_hot(str(folder), {key: raw[key] for key in raw if key.startswith("Y")})
    check_fit(str(folder), arrays, IDX_FILES)
    return arrays, raw["X"].shape[1:]


def _read_plain_or_gz(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged or cut short: {one_line(error)}") from None


def scaled(images: np.ndarray) -> np.ndarray:
    """Images of unsigned bytes, `images` (N, rows, columns), as rows of float32 in [0, 1], (N, rows·columns)."""
    return images.reshape(len(images), -1) / np.float32(255)


def parse_pgm(content: bytes, where: str) -> np.ndarray:
    """The images in a binary PGM file of several, all of one size.

    Parameters
    ----------
    content : bytes
    where : str
        The file's name, for messages.

    Returns
    -------
    ndarray, (N, rows, columns), uint8

    Raises
    ------
    ValueError
        If there is something else in the file, or an image is cut short.
    """
    images: list[np.ndarray] = []
    at = 0
    while at < len(content):
        header = re.compile(rb"P5\s+(\d+)\s+(\d+)\s+255(?:\r\n|\s)").match(content, at)
        if header is None:
            raise ValueError(f"{where}: no PGM header at byte {at}, expected 'P5', columns, rows, 255")
        columns, rows = int(header[1]), int(header[2])
        at = header.end() + rows * columns
        if at > len(content):
            raise ValueError(f"{where}: image {len(images)} is cut short, expected {rows} x {columns} bytes")
        images.append(np.frombuffer(content, np.uint8, rows * columns, header.end()).reshape(rows, columns))
    if not images:
        raise ValueError(f"{where}: no image in it, expected at least one")
    return np.stack(images)
