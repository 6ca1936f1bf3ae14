"""Where seconds go: the functions that `KFAC.step` calls, or the layers', are timed from outside."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autodiff import arrays
from autodiff.arrays import Array
from kfac_ref import optimizer
from kfac_ref.curvature import quadratic
from kfac_ref.curvature.block_diagonal import BlockDiagonalInverse
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.optimizer import KFAC

Place = tuple[Any, str, Any]
"""Where a function is found, its name there, and the stage it is: a name, or a function that makes it of the first
thing that the function is given."""
PLACES: tuple[Place, ...] = (
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

    def __init__(self, like: Array, places: Sequence[Place] = PLACES, stages: Sequence[Any] = STAGES) -> None:
        self._like, self._places, self._stages = like, places, stages
        self._open: list[Any] = []
        self._since = 0.0
        self._seconds: dict[Any, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The functions at these places are timed; afterwards, and after an error too, they are what they were."""
        originals = [getattr(owner, name) for owner, name, _ in self._places]
        try:
            for (owner, name, stage), function in zip(self._places, originals, strict=True):
                setattr(owner, name, self._timed(function, stage))
            yield
        finally:
            for (owner, name, _), function in zip(self._places, originals, strict=True):
                setattr(owner, name, function)

    def lap(self, step: Callable[[], Any]) -> dict[Any, float]:
        """Call `step`, which is to be done while `watching`: its `seconds` in all, and those of each stage."""
        self._seconds = dict.fromkeys(self._stages, 0.0)
        self._during(REST, step)
        return {"seconds": sum(self._seconds.values())} | self._seconds

    def _timed(self, function: Callable[..., Any], stage: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            known = stage(arguments[0]) if callable(stage) else stage
            return self._during(known, lambda: function(*arguments, **named))

        return timed

    def _during(self, stage: Any, work: Callable[[], Any]) -> Any:
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
