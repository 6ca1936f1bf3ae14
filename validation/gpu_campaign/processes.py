"""Python processes that are stopped in time, and the hardware they run on."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from validation.work import machine

CLONE = Path(__file__).parents[2]
GRACE = 30.0
"""Seconds that a process has to end after it was told to."""


class Unfinished(RuntimeError):
    """A process failed, or was stopped."""


def run_python(arguments: Sequence[str], log: Path, seconds: float) -> None:
    """Run Python in the clone, what it prints going to `log`.

    Raises
    ------
    Unfinished
        If it fails, or has to be stopped after so many seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # in a session of its own, so that Ctrl-C reaches it through here alone, and once
    with (
        open(log, "w", encoding="utf-8") as file,
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=CLONE,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(None if seconds == math.inf else seconds)
        except subprocess.TimeoutExpired:
            raise Unfinished(f"stopped after {seconds:.0f} s, as the time was up") from None
        finally:
            _stop(process)
    if code:
        raise Unfinished(f"failed with exit code {code}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does, upon which a training run saves itself; if that does not help, at once."""
    if process.poll() is not None:
        return
    # Windows knows no such signal
    process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def hardware(backend: str) -> str:
    """The machine, and its GPU if that is used."""
    return machine() if backend == "numpy" else f"{gpu()}; {machine()}"


def gpu() -> str:
    """The GPU in use, and the versions of what drives it."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    name, memory = properties["name"].decode(), properties["totalGlobalMem"] / 2**30
    driver, toolkit = (
        f"{v // 1000}.{v % 1000 // 10}" for v in (runtime.driverGetVersion(), runtime.runtimeGetVersion())
    )
    capability = f"compute capability {properties['major']}.{properties['minor']}"
    return (
        f"{name}, {memory:.0f} GiB, {capability}; driver for CUDA {driver}, CUDA runtime {toolkit}, "
        f"CuPy {cupy.__version__}"
    )
