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
"""All arrays are on the heap, where what is freed is used again, and which does not shrink; threads that have none of
their own yet share it."""
ORDINARY = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 64 * MIB, TOP_PAD: 128 * 1024}
"""Afterwards: glibc's defaults; for the two thresholds what glibc's own adjusting of them comes to once an array of
32 MiB has been freed, as mallopt switches that off for good. Of the number of heaps, too, there is no way back."""


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
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, ValueError):
        return None
    return ctypes.CDLL(None) if found else None
