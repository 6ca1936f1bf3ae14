"""Where the seconds of an iteration go: the functions that `KFAC.step` calls are timed from outside."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autodiff import arrays
from autodiff.arrays import Array
from kfac_ref import optimizer
from kfac_ref.curvature import quadratic
from kfac_ref.curvature.block_diagonal import BlockDiagonalInverse
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.optimizer import KFAC

PLACES: tuple[tuple[Any, str, str], ...] = (
    (optimizer, "loss_and_gradient", "gradient"),
    (KFAC, "update_factors", "factors"),
    (KFAC, "inverses", "inverse"),
    (BlockDiagonalInverse, "apply", "direction"),
    (BlockTridiagonalInverse, "apply", "direction"),
    (quadratic, "inner_products", "quadratic model"),
    (optimizer, "measured_ratio", "ρ"),
)
"""Where `KFAC.step` finds each function, its name there, and the stage it is."""
REST = "rest"
STAGES = (*dict.fromkeys(stage for _, _, stage in PLACES), REST)


class Stopwatch:
    """Seconds by stage, on the device of `like`. What a stage calls that is one itself counts as that alone."""

    def __init__(self, like: Array) -> None:
        self._like = like
        self._open: list[str] = []
        self._since = 0.0
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The functions in PLACES are timed; afterwards, and after an error too, they are what they were."""
        originals = [getattr(owner, name) for owner, name, _ in PLACES]
        try:
            for (owner, name, stage), function in zip(PLACES, originals, strict=True):
                setattr(owner, name, self._timed(function, stage))
            yield
        finally:
            for (owner, name, _), function in zip(PLACES, originals, strict=True):
                setattr(owner, name, function)

    def lap(self, step: Callable[[], Any]) -> dict[str, float]:
        """Call `step`, which is to be done while `watching`: its `seconds` in all, and those of each stage."""
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._during(REST, step)
        return {"seconds": sum(self._seconds.values())} | self._seconds

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            return self._during(stage, lambda: function(*arguments, **named))

        return timed

    def _during(self, stage: str, work: Callable[[], Any]) -> Any:
        self._turn()
        self._open.append(stage)
        try:
            return work()
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """The time since the last turn belongs to the stage that is open."""
        arrays.wait(self._like)
        now = time.perf_counter()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now
