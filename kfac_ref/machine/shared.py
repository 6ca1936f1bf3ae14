"""The BLAS of a process in which several fits may be in progress at once, as with joblib's threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kfac_ref.machine import cores
from kfac_ref.machine.blas import NARROW, libraries
from kfac_ref.machine.kept_memory import kept_memory

_guard = threading.Lock()
_entered = 0
_first = ExitStack()
_present = 1


@contextmanager
def at_shared_speed(widest: int) -> Iterator[None]:
    """`at_full_speed` for one of several threads that may be within it at once.

    The number of BLAS threads is one of the process, not of who sets it, so the first that enters sets it and the last
    that leaves puts it back, whichever they are. Alone and with layers wider than `NARROW` (`widest`), a fit takes the
    cores that are free; otherwise, and from the moment that a second one enters, there is one BLAS thread.
    """
    global _entered, _present
    numpys, scipys = libraries()
    with _guard:
        if _entered == 0:
            _present = max((library.num_threads for library in numpys.lib_controllers), default=1)
            _first.enter_context(kept_memory())
            _first.enter_context(scipys.limit(limits=1))
            _first.enter_context(numpys.limit(limits=1))
        elif _entered == 1:
            numpys.limit(limits=1)
        _entered += 1
    try:
        wish = 1 if widest <= NARROW else _present
        with cores.taken(wish) as free:
            with _guard:
                if _entered == 1 and free > 1:
                    numpys.limit(limits=free)
            yield
    finally:
        with _guard:
            _entered -= 1
            if _entered == 0:
                _first.close()
