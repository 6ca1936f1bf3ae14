"""Folders of PNG and JPEG images, in a folder for each class or in none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg")


def holds_pictures(folder: Path) -> bool:
    """Whether there are images in it, or in its folders."""
    return bool(_pictures(folder)) or any(_pictures(sub) for sub in _folders(folder))


def read_pictures(folder: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None, tuple[int, int] | None]:
    """The images of `folder`, and their classes.

    Returns
    -------
    X : ndarray (N, rows · columns), or (N, 3 · rows · columns) if any is in colour, channels first; float32 in [0, 1]
    Y : ndarray (N, K), one-hot, or None
        None where the images are not in folders of their own.
    classes : tuple of str, or None
        The names of the folders, in alphabetical order.
    image_shape : (rows, columns), or None for images in colour

    Raises
    ------
    ValueError
        Naming the file that cannot be read or has another size than the first, or if images are in folders and beside
        them.
    """
    loose, folders = _pictures(folder), [sub for sub in _folders(folder) if _pictures(sub)]
    if loose and folders:
        raise ValueError(
            f"{folder}: {loose[0].name} is beside folders of images; expected images in folders, or no folders"
        )
    if len(folders) == 1:
        raise ValueError(
            f"{folder}: images of one class, {folders[0].name}; expected a folder for each of several classes"
        )
    groups = [_pictures(sub) for sub in folders] if folders else [loose]
    files = [file for group in groups for file in group]
    opened = [_read(file) for file in files]
    colour = any(image.ndim == 3 for image in opened)
    if colour:
        opened = [image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in opened]
    for file, image in zip(files, opened, strict=True):
        if image.shape[:2] != opened[0].shape[:2]:
            rows, columns = image.shape[:2]
            expected = " x ".join(map(str, opened[0].shape[:2]))
            raise ValueError(f"{file}: is {rows} x {columns} pixels, expected {expected} as {files[0].name}")
    pixels = np.stack(opened)
    if colour:
        pixels = np.moveaxis(pixels, -1, 1)
    X = pixels.reshape(len(pixels), -1) / np.float32(255)
    shape = None if colour else (int(pixels.shape[1]), int(pixels.shape[2]))
    if not folders:
        return X, None, None, shape
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    Y = (labels[:, None] == np.arange(len(groups))).astype(np.float32)
    return X, Y, tuple(sub.name for sub in folders), shape


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _read(file: Path) -> np.ndarray:
    """(rows, columns) or, in colour, (rows, columns, 3), uint8."""
    from PIL import Image, UnidentifiedImageError  # only now, as all else works without it

    try:
        with Image.open(file) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            if image.mode in ("I", "I;16", "F"):
                raise ValueError(f"{file}: has pixels of mode {image.mode}, expected 8 bits")
            return np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{file}: cannot be read as an image: {error}") from None
