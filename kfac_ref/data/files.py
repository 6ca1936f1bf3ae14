"""Writing files so that they are either wholly there under their name or not there at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], object], shared: bool = False) -> None:
    """Let `write` fill a temporary file beside `path`, and rename it.

    Parameters
    ----------
    path : Path
        Its folder is made if it is not there.
    write : callable
        Gets the open file.
    shared : bool
        Whether several processes may write the same file at once; then the temporary name is a new one each time.
        Otherwise it is always the same, so that what a killed process left is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex if shared else 'part'}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))
