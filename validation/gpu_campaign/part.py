"""What the parts of the campaign have in common: options, the clock, and how they end.

Each is a process of its own, `python -m validation.gpu_campaign.NAME`, and can be run alone. It prints what it finds as
it finds it, as it may be stopped at any time.
"""

from __future__ import annotations

import argparse
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autodiff import arrays
from autodiff.arrays import Array

DONE, FAILED, CUT = 0, 1, 3
"""Exit codes: all was done and well; something went wrong; time was up before all was done, and what was is well."""


class TimeIsUp(Exception):
    """A part has to end."""


@dataclass(frozen=True)
class Clock:
    """When a part has to end."""

    until: float = math.inf
    """Seconds since 1970, so that what starting a process takes is counted."""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - time.time()

    def check(self, needed: float = 0.0) -> None:
        """TimeIsUp unless more than so many seconds are left."""
        if self.left <= needed:
            raise TimeIsUp


@dataclass(frozen=True)
class Options:
    """What a part is told."""

    backend: str
    clock: Clock

    def like(self, dtype: str) -> Array:
        """An empty array of the backend."""
        xp = arrays.backend(self.backend)
        return xp.zeros(0, dtype=getattr(xp, dtype))


def options(description: str | None, arguments: Sequence[str] | None) -> Options:
    """The options that every part takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--backend", choices=("cupy", "numpy"), default="cupy")
    parser.add_argument(
        "--until",
        type=float,
        default=math.inf,
        metavar="T",
        help="end before T, in seconds since 1970 (default: never)",
    )
    given = parser.parse_args(arguments)
    return Options(given.backend, Clock(given.until))


def one_by_one(
    clock: Clock, todo: Sequence[tuple[str, Callable[[], bool]]], still_there: Callable[[], object] = lambda: None
) -> int:
    """Do one thing after the other, whatever becomes of those before; an exit code.

    Parameters
    ----------
    clock : Clock
    todo : sequence of (str, callable)
        Each is a name and what is to be done: it prints what it finds, and returns whether that is as it should be.
    still_there : callable
        Raises if the device does not answer any more; then nothing else is begun.
    """
    failed = 0
    for number, (name, do) in enumerate(todo):
        try:
            clock.check()
            failed += not do()
        except TimeIsUp:
            print(f"cut, as time was up: {', '.join(name for name, _ in todo[number:])}", flush=True)
            return FAILED if failed else CUT
        except Exception:
            failed += 1
            print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)
            try:
                still_there()
            except Exception as error:
                rest = ", ".join(name for name, _ in todo[number + 1 :])
                print(f"the device does not answer in this process any more ({error}); not tried: {rest}", flush=True)
                return FAILED
    return FAILED if failed else DONE
