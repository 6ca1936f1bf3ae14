"""Freed memory kept by the process.

Every iteration needs temporary arrays of several MB again. With its ordinary settings glibc gives such memory back to
the system as soon as it is freed, and gets it again page by page, each page cleared.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

MIB = 2**20
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
"""mallopt's names, without their M_."""
KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 16 * MIB, ARENA_MAX: 1}
"""All arrays, of all threads, are on the one heap, where what is freed is used again, and the heap does not shrink."""
ORDINARY = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 64 * MIB, TOP_PAD: 128 * 1024, ARENA_MAX: 0}
"""Afterwards: glibc's defaults; for the two thresholds what glibc's own adjusting of them comes to once an array of
32 MiB has been freed, as mallopt switches that off for good."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory within, and give it back at the end. Nothing changes where the C library is not glibc."""
    libc = _glibc()
    if libc is None:
        yield
        return
    for parameter, value in KEPT.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in ORDINARY.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    # others have functions of these names whose parameters mean something else
    names = getattr(os, "confstr_names", {})
    if "CS_GNU_LIBC_VERSION" not in names or not os.confstr("CS_GNU_LIBC_VERSION"):
        return None
    return ctypes.CDLL(None)
