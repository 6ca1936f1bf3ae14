"""How a run uses the machine: threads of the BLAS, memory that is kept, and whether the BLAS suits the processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

from autodiff.threads import blas
from kfac_ref.machine import cores
from kfac_ref.machine.flush_to_zero import flush_to_zero
from kfac_ref.machine.kept_memory import kept_memory
from kfac_ref.machine.suited_threads import SuitedThreads

NARROW = 300
"""The width up to which one BLAS thread serves as well as two."""

VECTOR_UNITS = ("SSE", "AVX", "AVX2", "AVX-512")
"""Of x86 processors, each wider or more capable than that before it."""
KERNELS = {
    "SSE": "katmai coppermine northwood prescott banias atom core core2 penryn dunnington nehalem athlon opteron "
    "opteron_sse3 barcelona bobcat nano",
    "AVX": "sandybridge bulldozer piledriver steamroller",
    "AVX2": "haswell excavator zen",
    "AVX-512": "skylakex cooperlake sapphirerapids",
}
"""OpenBLAS's names of its kernels for x86, by the vector unit that they use."""

_in_use = threading.Lock()
_within = threading.local()
"""Of each thread: what adjusts the number of BLAS threads on each level of `at_full_speed`; None where it was told."""


@contextmanager
def at_full_speed(widest: int, threads: int | None = None) -> Iterator[int | None]:
    """Within it, the BLAS uses as many threads as serve, memory that is freed is kept for the next arrays, and
    subnormal numbers are 0.

    It is for one thread of a process that trains. Runs of one user on one machine, with the same temporary directory,
    each take the cores that no other has; one that finds none free has one thread. What a run has taken it keeps to its
    end. SciPy's own BLAS has one thread within, for two pools at once hamper each other. One inside another takes no
    core and no more threads than that has, unless it is told.

    Parameters
    ----------
    widest : int
        Of the network's layers: for up to `NARROW` one thread is used, as a second gains next to nothing there, and
        loses much where other programs run. Otherwise all free cores that the process may use (see `cores.usable`), but
        no more threads than the BLAS has at present (as `OPENBLAS_NUM_THREADS` and the like say); and from then on
        fewer, whenever `suit_threads` finds these faster.
    threads : int, optional
        That many instead, whatever is free, from beginning to end.

    Yields
    ------
    int or None
        The number of threads at first; None where it cannot be set, as of Apple's Accelerate.

    Raises
    ------
    ValueError
        If `threads` is less than 1.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be ≥ 1; got {threads}")
    numpys, scipys = libraries()
    present = max((library.num_threads for library in numpys.lib_controllers), default=1)
    wish = threads or (1 if widest <= NARROW else present)
    with ExitStack() as stack:
        count = wish
        if _in_use.acquire(blocking=False):
            stack.callback(_in_use.release)
            stack.enter_context(kept_memory())
            stack.enter_context(flush_to_zero())
            free = stack.enter_context(cores.taken(wish))
            count = threads or max(1, free)
        stack.enter_context(numpys.limit(limits=count))
        stack.enter_context(scipys.limit(limits=1))
        levels: list[SuitedThreads | None] = _within.__dict__.setdefault("levels", [])
        told = threads is not None or (bool(levels) and levels[-1] is None)
        levels.append(None if told else SuitedThreads(count, lambda k: numpys.limit(limits=k)))
        stack.callback(levels.pop)
        yield count if numpys.lib_controllers else None


def suit_threads() -> None:
    """To be called between iterations: within `at_full_speed`, unless it was told a number of threads, measure now and
    then how many are fastest beside what else the machine does, and go on with that many."""
    levels: list[SuitedThreads | None] = getattr(_within, "levels", [])
    if levels and levels[-1] is not None:
        levels[-1].suit()


def libraries() -> tuple[ThreadpoolController, ThreadpoolController]:
    """The BLAS in use, and apart from it, if it is loaded, that of SciPy's wheels, which NumPy does not use."""
    paths = [library.filepath for library in blas().lib_controllers]
    scipys = [path for path in paths if _is_scipys(path)]
    others = [path for path in paths if path not in scipys]
    return blas().select(filepath=others), blas().select(filepath=scipys)


def _is_scipys(library: str) -> bool:
    folder = Path(library).parent
    return folder.name == "scipy.libs" or (folder.name, folder.parent.name) == (".dylibs", "scipy")


def blas_warning() -> str | None:
    """A sentence if OpenBLAS uses a kernel for older vector units than the processor has.

    None if not, or where that cannot be known: for other libraries, other processors, and kernels not in `KERNELS`.
    """
    unit = {name: unit for unit, names in KERNELS.items() for name in names.split()}
    has = _processor()
    for kernel in _kernels():
        needs = unit.get(kernel.lower())
        if has is None or needs is None or VECTOR_UNITS.index(needs) >= VECTOR_UNITS.index(has):
            continue
        chosen = os.environ.get("OPENBLAS_CORETYPE")
        why = f"OPENBLAS_CORETYPE is set to {chosen}" if chosen else "a newer OpenBLAS may have a faster one"
        return f'OpenBLAS uses its kernel "{kernel}", which is for {needs}, but this processor has {has}; {why}'
    return None


def _kernels() -> list[str]:
    """Of each OpenBLAS in use but SciPy's own."""
    found: list[dict[str, Any]] = libraries()[0].info()
    return [library.get("architecture") or "" for library in found if library["internal_api"] == "openblas"]


def _processor() -> str | None:
    """The last of VECTOR_UNITS that NumPy finds in the processor; None if it finds none or keeps no record."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as found  # type: ignore[import-not-found]
    except ImportError:
        return None
    features: Mapping[str, bool] = found
    has = {
        "SSE": features.get("SSE"),
        "AVX": features.get("AVX"),
        "AVX2": features.get("AVX2") and features.get("FMA3"),
        "AVX-512": features.get("AVX512_SKX") or features.get("X86_V4"),
    }
    return next((unit for unit in reversed(VECTOR_UNITS) if has[unit]), None)
