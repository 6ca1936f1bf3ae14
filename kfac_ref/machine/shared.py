"""The BLAS of a process in which several fits may be in progress at once, as with joblib's threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from kfac_ref.machine import cores
from kfac_ref.machine.blas import NARROW, libraries
from kfac_ref.machine.kept_memory import kept_memory

_guard = threading.Lock()
_entered = 0
_memory = ExitStack()
_before: list[tuple[Any, int]] = []
"""The BLAS libraries, and the number of threads of each before the first entered."""


@contextmanager
def at_shared_speed(widest: int) -> Iterator[None]:
    """`at_full_speed` for one of several threads that may be within it at once.

    The number of BLAS threads is one of the process, not of who sets it, so the first that enters sets it and the last
    that leaves puts it back, whichever they are. Alone and with layers wider than `NARROW` (`widest`), a fit takes the
    cores that are free; otherwise, and from the moment that a second one enters, there is one BLAS thread.
    """
    global _entered, _before
    numpys, scipys = (found.lib_controllers for found in libraries())
    with _guard:
        if _entered == 0:
            _before = [(library, library.num_threads) for library in (*numpys, *scipys)]
            _memory.enter_context(kept_memory())
        if _entered <= 1:
            _set([(library, 1) for library, _ in _before])
        _entered += 1
    try:
        present = max((count for library, count in _before if library in numpys), default=1)
        with cores.taken(1 if widest <= NARROW else present) as free:
            with _guard:
                if _entered == 1 and free > 1:
                    _set([(library, free) for library in numpys])
            yield
    finally:
        with _guard:
            _entered -= 1
            if _entered == 0:
                _set(_before)
                _memory.close()


def _set(counts: list[tuple[Any, int]]) -> None:
    for library, count in counts:
        # threadpoolctl 3.8 lets one thread set numbers and ignores all others until that gives it up, which is right
        # for those that know nothing of each other
        give_up = getattr(library, "clear_controlling_thread", lambda force: None)
        give_up(force=True)
        library.set_num_threads(count)
        give_up(force=True)
