"""Many processes, or one: who they are, and the verbs sum, gather and tell by which they work as one (§14).

Each process has a share of the cases. What is a mean over cases is the sum over processes of their summands, and all
else is the same in all of them. `Processes` itself is one process alone, in which every verb hands on what it is given;
`kfac_ref.machine.mpi` has the same for many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from autodiff.arrays import Array, to_numpy
from autodiff.share import Share
from autodiff.threads import side_by_side

T = TypeVar("T")


@dataclass
class Traffic:
    """What has gone between processes for one purpose, as each process counts it."""

    messages: int = 0
    bytes: int = 0
    """Of what was summed, gathered from all or told: what one process has in hand afterwards."""
    seconds: float = 0.0
    """Waiting for others among them."""


class Processes:
    """One process: alone."""

    number = 1
    """P."""
    index = 0
    """0 … P−1."""
    on_machine = 0
    """Which of those on its machine this one is."""
    threads: int | None = None
    """BLAS threads for each, so that all on a machine share its cores; None: as many as serve."""

    def __init__(self) -> None:
        self.traffic: dict[str, Traffic] = {}
        """By purpose."""

    # --- the verbs -----------------------------------------------------------------------------------------------

    def sum(self, tree: T, what: str = "") -> T:
        """The sum over processes of each array in `tree` (see `autodiff.trees`), for all of them (§14)."""
        return tree

    def gather(self, value: T, what: str = "", like: Array | None = None) -> list[T]:
        """The values of all processes, in their order, for all of them; arrays in them are then of NumPy, or of the
        library of `like`."""
        return [value]

    def tell(self, value: T, what: str = "") -> T:
        """The first process's value."""
        return value

    def deal(self, x: np.ndarray | None) -> np.ndarray | None:
        """Of the first process's x (cases, …), a row a case, the rows `dealt` to this one, (here, …). The others give
        None."""
        return x

    # --- what follows from them ----------------------------------------------------------------------------------

    @property
    def first(self) -> bool:
        """Whether this is the one that prints, draws and writes."""
        return self.index == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.number == 1

    def dealt(self, cases: int) -> np.ndarray:
        """Which of so many cases are this process's, (here,): p, p + P, …. Consecutive ones belong to different
        processes, so that of the first ⌈τm⌉ of a mini-batch all have equally many, but for one."""
        return np.arange(self.index, cases, self.number)

    def once(self, x: float) -> float:
        """x in the first process, 0 in the others: what is to be counted once in a sum (§14)."""
        return x if self.first else 0.0

    def agree(self, function: Callable[[], T]) -> T:
        """function(), unless it raises in any process: then all raise that error, the first of several, with where it
        was unless all have the same (§14)."""
        return self._agree(function, said=True)

    def _agree(self, function: Callable[[], T], said: bool) -> T:
        if self.alone:
            return function()
        result: Any = None
        error: Exception | None = None
        try:
            result = function()
        except Exception as raised:
            error = raised
        if not self.sum(np.asarray(float(error is not None)), "agreement") > 0:
            return result
        errors = self.gather(None if error is None else (type(error), str(error)), "agreement")
        raise _of_all(errors, said) from error

    def by_first(self, function: Callable[[], T]) -> T:
        """function(), called by the first process, for all; what it raises all raise."""
        return self.tell(self._agree(lambda: function() if self.first else cast(T, None), said=False))

    def mean(self, values: Sequence[float], cases: int) -> list[float]:
        """The means over all cases of `values`, which are means over this process's."""
        if self.alone:
            return list(values)
        *sums, total = self.sum(np.asarray([*(cases * v if cases else 0.0 for v in values), cases], dtype=np.float64))
        return [float(s / total) for s in sums]

    def share(
        self,
        rows: np.ndarray | None,
        here: int,
        weights: Array | None,
        lengths: np.ndarray | None,
        parts: Sequence[float],
    ) -> Share:
        """The share that `here` cases are of a mini-batch of m: at its places `rows` (here,), or, if None, those
        `dealt`.

        Totals of `weights` (here,) of cases, and means of `lengths` (here,) of sequences, are those of all and of the
        first ⌈τm⌉ for each τ in `parts`. ValueError if places and cases do not fit each other, or if weights or lengths
        are in some processes alone.
        """
        given = [weights is not None, lengths is not None]
        cases, *have = map(int, self.sum(np.asarray([here, *given], dtype=np.float64), "agreement"))
        for name, number in zip(("weights", "lengths"), have, strict=True):
            if number not in (0, self.number):
                raise ValueError(f"{number} of {self.number} processes have {name} of cases, expected all or none")

        def placed() -> np.ndarray:
            places = self.dealt(cases) if rows is None else rows
            if len(places) != here:
                raise ValueError(f"{here} cases of a mini-batch of {cases} are here, expected {len(places)}")
            if np.any(np.diff(places) <= 0) or np.any((places < 0) | (places >= cases)):
                raise ValueError(f"places in a mini-batch of {cases} are ascending and below {cases}; got {places}")
            return places

        if not cases:
            raise ValueError("X has no cases")
        share = Share(self.agree(placed), cases, {})
        if not any(given):
            return share
        counts = sorted({cases, *(math.ceil(tau * cases) for tau in parts)})
        w = np.ones(here) if weights is None else to_numpy(weights).astype(np.float64)
        steps = w * (np.ones(here) if lengths is None else lengths)
        sums = np.asarray([[x[: share.here(n)].sum() for n in counts] for x in (w, steps)])
        totals, steps = self.sum(sums, "agreement")
        of_weights = {} if weights is None else dict(zip(counts, map(float, totals), strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            of_lengths = {} if lengths is None else dict(zip(counts, map(float, steps / totals), strict=True))
        return Share(share.rows, cases, of_weights, of_lengths)

    def divide(
        self, function: Callable[..., T], like: Array, *operands: Sequence[Any], costs: Sequence[float]
    ) -> list[T]:
        """`side_by_side`, each item by one process, for all of them, but for small ones, which all do; costs are sizes
        of matrices, of which the work is the third power (§8, §14)."""
        if self.alone:
            return side_by_side(function, like, *operands, costs=costs)
        large = [i for i, n in enumerate(costs) if n > SMALL]
        owners = dict(zip(large, divided([float(costs[i]) ** 3 for i in large], self.number), strict=True))
        own = [i for i in range(len(costs)) if owners.get(i, self.index) == self.index]
        done = side_by_side(function, like, *([x[i] for i in own] for x in operands), costs=[costs[i] for i in own])
        found = dict(zip(own, done, strict=True))
        if large:
            parts = self.gather([found[i] for i in own if i in owners], "inverses", like)
            of = [iter(part) for part in parts]
            found |= {i: next(of[owner]) for i, owner in owners.items()}
        return [found[i] for i in range(len(costs))]


SMALL = 256
"""Size of a matrix up to which work on it takes less time than to wait for it."""
ALONE = Processes()


def divided(work: Sequence[float], number: int) -> list[int]:
    """To which of `number` processes each piece of work goes: largest first, to the one that has least so far."""
    load, owners = [0.0] * number, [0] * len(work)
    for i in sorted(range(len(work)), key=lambda i: -work[i]):
        owners[i] = load.index(min(load))
        load[owners[i]] += work[i]
    return owners


def agreed(error: BaseException | None) -> bool:
    """Whether all processes raise the error, or what it was made of."""
    return error is not None and (hasattr(error, "agreed") or agreed(error.__cause__))


def _of_all(errors: Sequence[tuple[type[Exception], str] | None], said: bool) -> Exception:
    """The first of the errors of all processes; one of bad input before those that it makes of all numbers."""
    raised = [(i, *e) for i, e in enumerate(errors) if e is not None]
    index, kind, text = min(raised, key=lambda error: issubclass(error[1], ArithmeticError))
    if said and any(e != errors[0] for e in errors):
        text = f"process {index} of 0 … {len(errors) - 1}: {text}"
    try:
        error = kind(text)
    except Exception:
        error = ValueError(f"{kind.__name__}: {text}")
    error.agreed = True  # type: ignore[attr-defined]
    return error
