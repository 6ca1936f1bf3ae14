"""Many processes as threads of one, for tests where there is no MPI: each does the same, but for the messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from autodiff import trees
from autodiff.arrays import from_numpy, to_numpy
from kfac_ref.machine.processes import Processes


class Threaded(Processes):
    """One of `number` threads, which write what they have to say on a common board."""

    def __init__(self, index: int, number: int, board: list[Any], barrier: threading.Barrier) -> None:
        super().__init__()
        self.index, self.number = index, number
        self._board, self._barrier = board, barrier

    def gather(self, value, what="", like=None):
        self._board[self.index] = value
        self._barrier.wait()
        values = list(self._board)
        self._barrier.wait()
        return values

    def sum(self, tree, what=""):
        emptied, own = trees.apart(tree)
        added = []
        parts = self.gather([x if isinstance(x, np.generic) else to_numpy(x) for x in own])
        for i, x in enumerate(own):
            total = np.asarray(parts[0][i]) + 0
            for part in parts[1:]:
                total = total + part[i]
            is_host = isinstance(x, (np.ndarray, np.generic))
            added.append(np.asarray(total) if is_host else from_numpy(np.asarray(total), x))
        return trees.together(emptied, added)

    def tell(self, value, what=""):
        return self.gather(value)[0]

    def deal(self, x):
        x = self.gather(x)[0]
        return None if x is None else x[self.index :: self.number]


def together(number: int, function: Callable[[Processes], Any]) -> list[Any]:
    """What `function` returns in each of so many threads. If one raises what the others do not, all end."""
    board, barrier = [None] * number, threading.Barrier(number, timeout=60)

    def one(index: int) -> Any:
        try:
            return function(Threaded(index, number, board, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(number) as pool:
        return [f.result() for f in [pool.submit(one, index) for index in range(number)]]
