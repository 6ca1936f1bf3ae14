"""Counts the subnormal operands of products, as training meets them: as they are, and at full speed, where they are 0.

Whether a number is subnormal is read from its bits, as comparisons with 0 do not tell where subnormals are 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar
from unittest import mock

import numpy as np

from autodiff import arrays
from kfac_ref.machine import at_full_speed
from kfac_ref.optimizer import KFAC, State
from kfac_ref.settings import INVERSES
from kfac_ref.training import loop
from validation.benchmark.problems import Problem, settings

CASES = 100
"""Of each mini-batch: it is not the number of cases that makes numbers small."""
AS_THEY_ARE = 5
"""The run whose subnormals are left as they are has this many times fewer iterations, as they can take much longer."""
MATRIX, ELEMENTWISE = ("matmul", "vecdot"), ("multiply", "divide")
"""NumPy's functions that are products. What is counted of others is of numpy.linalg, or of LAPACK."""
BITS: dict[Any, tuple[Any, int]] = {np.dtype("float32"): (np.uint32, 23), np.dtype("float64"): (np.uint64, 52)}
"""The unsigned integer of the same size, and how many of its bits are the fraction's."""
BLOCK = 2**16
"""Entries looked at together."""

Row = dict[str, Any]


def subnormals(x: np.ndarray) -> int:
    """How many entries are subnormal: their exponent's bits are all 0, those of the fraction are not."""
    unsigned, fraction = BITS[x.dtype]
    bits = np.ascontiguousarray(x).view(np.ndarray).view(unsigned).reshape(-1)
    # without the sign, and 1 less, 0 is the largest of all
    parts = (bits[start : start + BLOCK] << unsigned(1) for start in range(0, bits.size, BLOCK))
    return sum(int(np.count_nonzero(part - unsigned(1) < unsigned(2 ** (fraction + 1) - 1))) for part in parts)


class Watched(np.ndarray):
    """An array that counts the subnormal operands of products, and whose results do so, too."""

    met: ClassVar[Counter[str]] = Counter()
    """By the function's name."""
    seen: ClassVar[int] = 0
    """Operands in all."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [x.view(np.ndarray) if isinstance(x, Watched) else x for x in inputs]
        if ufunc.__name__ in MATRIX + ELEMENTWISE:
            self.note(ufunc.__name__, plain)
        if out is not None:
            options["out"] = tuple(x.view(np.ndarray) if isinstance(x, Watched) else x for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if out is not None:
            return out[0] if len(out) == 1 else out
        return result.view(Watched) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function.__module__ == "numpy.linalg":
            self.note(function.__name__, arguments)
        result = super().__array_function__(function, types, arguments, options)
        return result.view(Watched) if type(result) is np.ndarray else result

    @classmethod
    def note(cls, name: str, operands: Sequence[Any]) -> None:
        """Count the subnormal ones among the operands of the function called so."""
        for x in operands:
            if isinstance(x, np.ndarray) and x.dtype in BITS:
                cls.met[name] += subnormals(x)
                cls.seen += x.size


def watched(optimizer: KFAC, state: State, data: loop.Data) -> Iterator[tuple[loop.AnyState, loop.AnyRecord, float]]:
    """What `loop.iterate` gives, with arrays of `Watched`, which has met nothing when it begins and sees what
    LAPACK is given."""
    X = data.X.view(Watched)
    data = replace(data, X=X, Y=X if data.Y is data.X else data.Y.view(Watched))
    parameters = [W.view(Watched) for W in state.parameters]
    Watched.met.clear()
    Watched.seen = 0
    with mock.patch.object(arrays, "_lapack", partial(_watched_lapack, arrays._lapack)):
        yield from loop.iterate(optimizer, replace(state, parameters=parameters, averaged=parameters), data)


def _watched_lapack(lapack: Callable[..., Any], name: str, like: np.ndarray) -> Callable[..., Any]:
    """LAPACK's function called so, of the matrix that is its first argument and becomes its first result."""

    def function(x: np.ndarray, **options: Any) -> tuple[Any, ...]:
        Watched.note(name, [x])
        found, *rest = lapack(name, like)(x, **options)
        return found.view(Watched), *rest

    return function


def measure(problem: Problem, iterations: int, advance: Callable[[], object]) -> list[Row]:
    """A row for each inverse and for subnormals as they are and taken as 0, of `paper` on mini-batches of CASES;
    `advance` is called after each iteration."""
    rows = []
    for inverse in INVERSES:
        optimizer = KFAC(problem.network, settings("paper", inverse, CASES))
        for fast in (False, True):
            number = iterations if fast else max(iterations // AS_THEY_ARE, 1)
            with at_full_speed(problem.network.widest) if fast else nullcontext():
                steps = watched(optimizer, optimizer.init(problem.parameters), problem.data)
                for _, record, _ in islice(steps, number):
                    error = record.error
                    advance()
            met = Watched.met.copy()
            rows.append(
                {
                    "network": problem.name,
                    "inverse": inverse,
                    "subnormals are": "0" if fast else "as they are",
                    "iterations": number,
                    "error at last": error,
                    "operands": f"{Watched.seen:.3g}",
                    "subnormal": met.total(),
                    "of matrix products": sum(met[name] for name in MATRIX),
                    "elementwise": sum(met[name] for name in ELEMENTWISE),
                    "of linear algebra": sum(n for name, n in met.items() if name not in MATRIX + ELEMENTWISE),
                }
            )
    return rows
