"""Work side by side."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from autodiff import arrays, threads
from tests.conftest import to


def test_side_by_side(like, rng):
    """Results are in order, whatever is worked on first."""
    matrices = [rng.standard_normal((n, n)) for n in (2, 5, 3, 4)]
    there = [to(like, A) for A in matrices]
    for costs in (None, [2, 5, 3, 4]):
        found = threads.side_by_side(lambda x, y: (x @ y, x.shape[0]), like, there, there, costs=costs)
        for ours, A in zip(found, matrices, strict=True):
            np.testing.assert_allclose(arrays.to_numpy(ours[0]), A @ A, rtol=1e-4, atol=1e-6)
            assert ours[1] == A.shape[0]


class Limits:
    """A BLAS of so many threads, and the limits that were set: what, and by which thread."""

    def __init__(self, threads: int) -> None:
        self.lib_controllers = [SimpleNamespace(num_threads=threads)]
        self.told: list[tuple[int | None, int]] = []

    def limit(self, limits: int):
        # set at once, as threadpoolctl does, and taken back where it is a context that ends
        self.told.append((limits, threading.get_ident()))
        return closing(SimpleNamespace(close=lambda: self.told.append((None, threading.get_ident()))))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_it_takes_as_many_threads_as_blas(monkeypatch, number):
    """Each sets a limit of one thread, as the caller does for all, who takes it back."""
    limits, busy, most, lock = Limits(number), 0, 0, threading.Lock()
    workers = set()

    def work(x):
        nonlocal busy, most
        with lock:
            workers.add(threading.get_ident())
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return x.size

    monkeypatch.setattr(threads, "blas", lambda: limits)
    items = [np.zeros(n) for n in range(1, 11)]
    assert threads.side_by_side(work, items[0], items) == list(range(1, 11))
    assert most <= number and (most > 1 or number == 1)
    if number > 1:
        assert limits.told[0] == (1, threading.get_ident()) and limits.told[-1] == (None, threading.get_ident())
        assert {(1, worker) for worker in workers} <= set(limits.told)
    else:
        assert not limits.told


def test_one_thread_at_a_time_works_side_by_side(monkeypatch):
    """What one limits, another must not take back: while one is at it, others work on one item after another."""
    limits = Limits(2)
    monkeypatch.setattr(threads, "blas", lambda: limits)

    def inner(x):
        return threading.get_ident()

    def outer(x):
        return set(threads.side_by_side(inner, x, [x, x, x])) == {threading.get_ident()}

    assert threads.side_by_side(outer, np.zeros(1), [np.zeros(1)] * 3) == [True] * 3
    assert sum(limit is None for limit, _ in limits.told) == 1


def test_the_costly_are_worked_on_first(monkeypatch):
    """With two threads the first two to be begun are the two that cost most."""
    begun, limits = [], Limits(2)
    monkeypatch.setattr(threads, "blas", lambda: limits)

    def work(n):
        begun.append(n)
        time.sleep(0.02)

    threads.side_by_side(work, np.zeros(1), [1, 4, 2, 3], costs=[1, 4, 2, 3])
    assert set(begun[:2]) == {3, 4} and begun[-1] == 1


def test_side_by_side_passes_on_errors_and_the_error_state():
    def work(x):
        if x.size == 2:
            raise ValueError("two")
        return np.geterr()["invalid"]

    with np.errstate(invalid="ignore"):
        assert threads.side_by_side(work, np.zeros(1), [np.zeros(1), np.zeros(3)]) == ["ignore", "ignore"]
    with np.errstate(invalid="raise"):
        assert threads.side_by_side(work, np.zeros(1), [np.zeros(1), np.zeros(3)]) == ["raise", "raise"]
    with pytest.raises(ValueError, match="two"):
        threads.side_by_side(work, np.zeros(1), [np.zeros(1), np.zeros(2)])
    assert threads.side_by_side(work, np.zeros(1), []) == []
