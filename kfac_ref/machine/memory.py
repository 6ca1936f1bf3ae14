"""How much memory a process may have."""

from __future__ import annotations

import os
from contextlib import suppress

from kfac_ref.machine import cores

UNLIMITED = 2**62
"""From which on a number of bytes stands for no limit."""


def limit() -> int | None:
    """Bytes: the least of the machine's physical memory, what control groups allow, and the process's own limit of its
    address space. None where the system tells none of them."""
    limits: list[int] = []
    # names that not every system knows
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in cores.control_groups(controller):
            # no file, or "max", is no limit
            with suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    with suppress(ImportError, OSError, ValueError):
        import resource

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    return min((n for n in limits if 0 < n < UNLIMITED), default=None)


def readable(size: float) -> str:
    """A number of bytes for people, in units of 1024."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1000 or unit == "PiB":
            return f"{size:.3g} {unit}"
        size /= 1024
    raise AssertionError
