"""Processor cores: which a process may use, and slots, one a core, by which a user's runs share them.

A slot is a file that is locked. The operating system releases it however the process ends, so that none is left taken.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable() -> list[int]:
    """The numbers of the cores that this process may use: its affinity, cut to its cgroup's quota; at least one."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
    else:
        cores = list(range(os.cpu_count() or 1))
    return cores[: max(1, math.floor(min(_quota(), len(cores))))]


def _quota() -> float:
    """Cores' worth of time that Linux's control groups, of either version, allow; infinite where none says."""
    limits = [math.inf]
    for folder in control_groups():
        # "max 100000" is no limit
        with suppress(OSError, ValueError):
            allowed, period = map(int, (folder / "cpu.max").read_text().split())
            limits.append(allowed / period)
    with suppress(OSError, ValueError):
        allowed, period = (int((CGROUPS / "cpu" / f"cpu.cfs_{x}_us").read_text()) for x in ("quota", "period"))
        if allowed > 0:
            limits.append(allowed / period)
    return min(limits)


def control_groups(controller: str = "") -> Iterator[Path]:
    """The folders of Linux's control group (version 2) that this process is in, and of those around it, whether or not
    they are there; with a controller's name its own of version 1."""
    top, own = CGROUPS / controller, "/"
    with suppress(OSError, ValueError):
        lines = (line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines())
        own = next((path for _, controllers, path in lines if controller in controllers.split(",")), own)
    folder = top / own.lstrip("/")
    while folder.is_relative_to(top):
        yield folder
        folder = folder.parent


def slots_folder() -> Path:
    """Where the slots are: in the machine's temporary directory, as a cache may be shared between machines."""
    user = os.getuid() if sys.platform != "win32" else ""
    return Path(tempfile.gettempdir()) / f"kfac-ref-cores-{user}"


@contextmanager
def taken(wish: int) -> Iterator[int]:
    """Take the slots of up to `wish` usable cores that no other run has, and give them back at the end.

    Yields
    ------
    int
        How many were taken, from 0 up; `wish`, or as many as there are usable cores, where slots cannot be made.
    """
    cores = usable()
    with ExitStack() as stack:
        count = 0
        try:
            folder = slots_folder()
            folder.mkdir(mode=0o700, exist_ok=True)
            # in a directory that all can write, a folder of that name may be somebody else's
            if sys.platform != "win32" and folder.lstat().st_uid != os.getuid():
                raise PermissionError(f"{folder} is another user's")
            for core in cores:
                if count < wish:
                    with suppress(Timeout):
                        stack.enter_context(FileLock(folder / f"{core}.lock", timeout=0))
                        count += 1
        except (OSError, NotImplementedError):
            count = min(wish, len(cores))
        yield count
