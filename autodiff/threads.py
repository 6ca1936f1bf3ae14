"""The threads of the BLAS, and work done side by side by threads of our own in their place."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from autodiff.arrays import Array, is_numpy

T = TypeVar("T")
Work = Callable[..., list[Any]]
"""`side_by_side`, or what stands for it: pieces of work, wherever they are done."""


@functools.cache
def blas() -> ThreadpoolController:
    """The BLAS libraries that were loaded when this was first called, whose threads can be counted and limited."""
    return ThreadpoolController().select(user_api="blas")


def count(like: Array) -> int:
    """How many threads work on arrays of the library of `like` may have: of NumPy as many as any BLAS has, else 1."""
    if not is_numpy(like):
        return 1
    return max((pool.num_threads for pool in blas().lib_controllers), default=1)


def side_by_side(
    function: Callable[..., T], like: Array, *operands: Sequence[Any], costs: Sequence[float] | None = None
) -> list[T]:
    """[function(x, y, …) for x, y, … in zip(*operands)], for what BLAS threads do little for.

    That is LAPACK's factorisations, as measured with two threads. As many as `count` says are worked on at once,
    each by a thread with a BLAS of one; the costly ones first, if `costs` are given. Where another thread does so
    already, they are worked on one after another.
    """
    items, number = list(zip(*operands, strict=True)), count(like)
    if number == 1 or len(items) < 2 or not _side_by_side.acquire(blocking=False):
        return [function(*item) for item in items]
    try:
        return _at_once(function, items, number, costs)
    finally:
        _side_by_side.release()


# a limit that one thread sets, and takes back, holds for all
_side_by_side = threading.Lock()


def _at_once(
    function: Callable[..., T], items: Sequence[tuple[Any, ...]], number: int, costs: Sequence[float] | None
) -> list[T]:
    order = range(len(items)) if costs is None else sorted(range(len(items)), key=lambda i: -costs[i])
    # once for all threads, and in each, as in some libraries a limit is that of the thread that sets it
    limit = functools.partial(blas().limit, limits=1)
    with limit(), ThreadPoolExecutor(number, initializer=limit) as pool:
        # a context for each, so that np.errstate holds there too
        futures = {i: pool.submit(copy_context().run, function, *items[i]) for i in order}
        return [futures[i].result() for i in range(len(items))]
