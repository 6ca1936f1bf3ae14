"""How many BLAS threads are fastest just now, as other programs come and go.

The threads of one matrix product wait for each other. If another program takes the core of one of them, all wait, and
the product can take many times longer than with one thread fewer. So now and then a product of matrices is measured
with the present number of threads and with others. In most attempts that take 20 ms the scheduler lets the other
program run, and it shows. What an iteration itself takes would be no better a measure: iterations differ, with the
mini-batch and with the inverses, and one with too many threads can take a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

SPAN = 0.02
"""Seconds of products, at least, with each number of threads."""
SHAPE = (256, 512, 512)
"""Of the product: one thread needs about a millisecond."""
GAIN = 0.9
"""What another number of threads must need at most, relative to the present one, to take its place."""
CONFIRMATIONS = 2
"""How often more threads must be faster again before there are more, as they may have been lucky."""
PATIENCE = (5, 100)
"""How much longer than the measurement is the time to the next, at first and after a change, and at most. It doubles
while nothing changes, so that in the end measuring takes a hundredth of the time."""


def seconds_of_a_product() -> float:
    """Seconds of a product with the present number of threads, as the mean over SPAN."""
    m, n, p = SHAPE
    A, B = np.ones((m, n), dtype=np.float32), np.ones((n, p), dtype=np.float32)
    A @ B  # threads that have slept are awake for the next
    done, start = 0, time.perf_counter()
    while (gone := time.perf_counter() - start) < SPAN:
        A @ B
        done += 1
    return gone / done


class SuitedThreads:
    """The number of BLAS threads of a run, which `suit` keeps at what is fastest.

    Parameters
    ----------
    most : int
        Threads at first, and at most.
    set_threads : function
        Gives the BLAS so many threads.
    measure, clock : functions
        Seconds of a piece of work with the threads that the BLAS has; seconds since some moment.
    """

    def __init__(
        self,
        most: int,
        set_threads: Callable[[int], object],
        measure: Callable[[], float] = seconds_of_a_product,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.most = most
        self.count = most
        self._set_threads = set_threads
        self._measure = measure
        self._clock = clock
        self._due = -np.inf
        self._patience = PATIENCE[0]

    def suit(self) -> None:
        """To be called between iterations: if it is time to, measure, and take the number that was fastest."""
        if self.most == 1 or (start := self._clock()) < self._due:
            return
        n = self.count
        tried = sorted({min(max(k, 1), self.most) for k in (1, n // 2, n - 1, n, n + 1, 2 * n)})
        seconds = {k: self._seconds(k) for k in tried}
        best = min(tried, key=lambda k: seconds[k])
        if seconds[best] > GAIN * seconds[n]:
            best = n
        if best > n and not all(self._seconds(best) < GAIN * self._seconds(n) for _ in range(CONFIRMATIONS)):
            best = n
        self._patience = min(2 * self._patience, PATIENCE[1]) if best == n else PATIENCE[0]
        self.count = best
        self._set_threads(best)
        now = self._clock()
        self._due = now + self._patience * (now - start)

    def _seconds(self, threads: int) -> float:
        self._set_threads(threads)
        return self._measure()
