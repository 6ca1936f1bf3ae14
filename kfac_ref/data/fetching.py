"""The user's cache of data sets that are not in the package: fetching into it, and checking what is in it.

The package's client first, the download second (see `sources`). Whatever the route, and each time that a file is read
from the cache, the SHA-256 of the uncompressed file is checked before use.
"""

import hashlib
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs

from kfac_ref.data.files import write_whole
from kfac_ref.data.sources import COLLECTIONS, FetchError, Route, download

__all__ = ["FetchError", "cache_directory", "generated", "read"]

# What damaged archives raise.
DAMAGED = (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


def cache_directory() -> Path:
    """Where fetched and generated data are kept: `KFAC_REF_CACHE` if it is set, else the user's cache directory."""
    chosen = os.environ.get("KFAC_REF_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("kfac-ref"))


def _put(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _is_right(content: bytes, sha256: str) -> bool:
    return hashlib.sha256(content).hexdigest() == sha256


def _fetch(name: str, missing: dict[str, str]) -> dict[str, bytes]:
    """The files in `missing`, from the first route that gives all of them with the right hash."""
    collection = COLLECTIONS[name]
    routes: list[tuple[str, Route]] = [collection.client]
    if (mirror := collection.mirror) is not None:
        routes.append(("download", lambda work, names: download(mirror, work, names)))
    failures = []
    for label, route in routes:
        try:
            with tempfile.TemporaryDirectory(prefix="kfac-ref-") as work:
                contents = route(Path(work), missing)
        except FetchError as error:
            failures.append(str(error))
            continue
        except DAMAGED as error:
            failures.append(f"{label} failed or gave a damaged file ({type(error).__name__})")
            continue
        wrong = [file for file, sha256 in missing.items() if not _is_right(contents.get(file, b""), sha256)]
        if not wrong:
            return contents
        failures.append(f"{label} gave a {wrong[0]} whose SHA-256 is not the expected one")
    raise FetchError(f"data set {name!r} could not be fetched ({'; '.join(failures)}); {collection.instead}")


def read(name: str) -> dict[str, bytes]:
    """The files of a collection, from the cache where they are there and whole, else fetched into it.

    Parameters
    ----------
    name : str
        A key of `COLLECTIONS`.

    Returns
    -------
    dict of str to bytes
        Each file's uncompressed content, its SHA-256 checked.

    Raises
    ------
    FetchError
        If a file is in no cache and no route gives it, or the cache cannot be written.
    """
    folder = cache_directory() / name
    contents = {}
    for file, sha256 in COLLECTIONS[name].sha256.items():
        with suppress(OSError):
            content = (folder / file).read_bytes()
            if _is_right(content, sha256):
                contents[file] = content
    missing = {file: sha256 for file, sha256 in COLLECTIONS[name].sha256.items() if file not in contents}
    if missing:
        fetched = _fetch(name, missing)
        try:
            for file in missing:
                write_whole(folder / file, partial(_put, content=fetched[file]), shared=True)
        except OSError as error:
            raise FetchError(
                f"cache directory {folder} cannot be written ({error.strerror}); set KFAC_REF_CACHE to one that can"
            ) from None
        contents |= fetched
    return contents


def generated(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that take a while to make, from the cache if they are there and whole, else made and kept there.

    Parameters
    ----------
    name : str
        Of the file, without suffix. It must change when what `make` returns does.
    make : callable
        Returns the arrays by name.

    Returns
    -------
    dict of str to ndarray, of the shapes that `make` gives them
    """
    path = cache_directory() / f"{name}.npz"
    # Zip files carry a checksum of each member, which reading checks.
    with suppress(*DAMAGED), np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}
    arrays = make()
    # The cache only saves time here, so that one that cannot be written does no harm.
    with suppress(OSError):
        write_whole(path, lambda out: np.savez(out, allow_pickle=False, **dict[str, Any](arrays)), shared=True)
    return arrays
