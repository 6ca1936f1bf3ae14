"""Subnormal numbers taken as 0, by all threads that compute.

Numbers nearer to 0 than 1.2e-38 in float32, or 2.2e-308 in float64, are subnormal. Many processors stop to handle each
one, so that a matrix product that meets a few takes 10 to 100 times longer. They come from pixels that are always 0,
from units that are saturated or dead, and from probabilities of almost 0: in the end nearly every array of an iteration
can hold some. What they add to a result is far below its rounding.

The processor has two switches for this, and each thread its own copy of them, which a new thread takes over from the
one that starts it. OpenBLAS's threads start when NumPy is imported, so they are ended here, and OpenBLAS starts new
ones at the next product.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from autodiff.threads import blas

MXCSR, WORDS = 7, 8
"""Where x86-64's control register is in C's fenv_t, and the length of that, in words of 32 bits."""
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
"""Subnormal results, and subnormal operands, are 0."""


@contextmanager
def flush_to_zero() -> Iterator[None]:
    """Within it, subnormal numbers are 0 for the calling thread, for those that it starts, and for OpenBLAS's.

    Nothing changes where it is not known how to do this: outside Linux, and on processors other than x86-64, of which
    many need no help. OpenBLAS's threads are left alone where another thread of the process may be at work with them:
    if this is not the main thread, or others are alive that are no daemons.
    """
    switches = _switches()
    if switches is None:
        yield
        return
    # older versions of NumPy look for the smallest number when they are first asked, and warn if it is 0
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)
    before = switches.read()
    switches.write(before | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO)
    _restart_blas_threads()
    try:
        yield
    finally:
        switches.write(before)
        _restart_blas_threads()


class _Switches:
    """The calling thread's control register, by way of C's floating-point environment."""

    def __init__(self, libm: ctypes.CDLL) -> None:
        self.libm = libm

    def read(self) -> int:
        return self._environment()[MXCSR]

    def write(self, value: int) -> None:
        environment = self._environment()
        environment[MXCSR] = value
        self.libm.fesetenv(environment)

    def _environment(self) -> Any:
        environment = (ctypes.c_uint32 * WORDS)()
        self.libm.fegetenv(environment)
        return environment


def _switches() -> _Switches | None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    for library in (None, "libm.so.6"):
        with suppress(OSError):
            libm = ctypes.CDLL(library)
            if hasattr(libm, "fegetenv"):
                return _Switches(libm)
    return None


def _restart_blas_threads() -> None:
    others = [t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]
    if threading.current_thread() is not threading.main_thread() or others:
        return
    for library in blas().lib_controllers:
        if library.internal_api == "openblas":
            # what OpenBLAS itself does before a process forks
            end_threads = getattr(library.dynlib, "blas_thread_shutdown_", None)
            if end_threads is not None:
                end_threads()
