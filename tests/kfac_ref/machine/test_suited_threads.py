"""kfac_ref.machine.suited_threads: how many threads are taken, on a machine whose speeds are made up."""

from __future__ import annotations

from itertools import islice

import pytest

from kfac_ref.machine import at_full_speed, blas, suit_threads
from kfac_ref.machine.suited_threads import CONFIRMATIONS, PATIENCE, SHAPE, SuitedThreads, seconds_of_a_product
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, prepare

COST = 0.02
"""Seconds of each measurement."""


class Machine:
    """Some cores, on which other programs keep so many busy: with more threads than are left, all is slow."""

    def __init__(self, cores: int, busy: int = 0):
        self.cores, self.busy = cores, busy
        self.threads = cores
        self.now = 0.0
        self.measured: list[int] = []
        self.lucky = 0
        """Measurements to come in which the other programs do not run."""

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def measure(self) -> float:
        self.now += COST
        self.measured.append(self.threads)
        free = self.cores - (0 if self.lucky > 0 else self.busy)
        self.lucky -= 1
        return 1 / self.threads if self.threads <= max(free, 1) else 5.0

    def suited(self) -> SuitedThreads:
        return SuitedThreads(self.threads, self.set_threads, self.measure, lambda: self.now)

    def train(self, suited: SuitedThreads, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            suited.suit()
            assert self.threads == suited.count
            self.now += 0.05


@pytest.mark.parametrize(
    ("cores", "busy", "expected"), [(2, 0, 2), (2, 1, 1), (2, 2, 1), (8, 1, 7), (8, 5, 3), (64, 63, 1)]
)
def test_what_is_fastest_is_taken(cores, busy, expected):
    machine = Machine(cores, busy)
    suited = machine.suited()
    suited.suit()
    assert machine.threads < cores or busy == 0  # at once
    machine.train(suited, 60)
    assert machine.threads == expected


def test_others_come_and_go():
    machine = Machine(2)
    suited = machine.suited()
    for busy, expected in [(0, 2), (1, 1), (0, 2), (1, 1)]:
        machine.busy = busy
        machine.train(suited, 20)
        assert machine.threads == expected


def test_more_threads_must_not_have_been_lucky():
    machine = Machine(2, busy=1)
    suited = machine.suited()
    suited.suit()
    assert machine.threads == 1
    machine.lucky = 2  # those of a comparison, and not of another
    machine.train(suited, 20)
    assert machine.lucky <= 0
    assert machine.threads == 1
    machine.lucky = 2 * (1 + CONFIRMATIONS)
    machine.train(suited, 5)
    assert max(machine.measured[-20:]) == 2


def test_measuring_takes_little_time():
    machine = Machine(2)
    machine.train(machine.suited(), 300)
    assert len(machine.measured) * COST < 300 * 1.5 / PATIENCE[1]
    assert set(machine.measured) == {1, 2}


def test_one_thread_is_never_measured():
    machine = Machine(1)
    machine.train(machine.suited(), 10)
    assert machine.measured == []


def test_seconds_of_a_product():
    m, n, p = SHAPE
    assert 2 * m * n * p / 1e13 < seconds_of_a_product() < 10


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """In the place of the real one, with a neighbour; networks of any width have two threads."""
    found = Machine(2, busy=1)
    monkeypatch.setattr(blas, "NARROW", 0)
    monkeypatch.setattr(blas.cores, "usable", lambda: [0, 1])
    monkeypatch.setattr(blas.cores, "slots_folder", lambda: tmp_path)
    monkeypatch.setattr(
        blas,
        "SuitedThreads",
        lambda most, set_threads: SuitedThreads(most, found.set_threads, found.measure, lambda: found.now),
    )
    return found


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_iterations_suit_the_threads_unless_told(machine, threads):
    with blas.blas().limit(limits=2):
        train(threads)
    assert machine.measured == ([1, 2] if threads is None else [])
    assert machine.threads == (1 if threads is None else 2)


def train(threads):
    prepared = prepare(Experiment(constants={"m1": 50}, network=(256, 10, 256)))
    with at_full_speed(256, threads):
        assert len(list(islice(loop.iterate(prepared.optimizer, prepared.first_state(), prepared.data), 2))) == 2
    suit_threads()  # outside, nothing


def test_one_within_another_that_was_told(machine):
    with blas.blas().limit(limits=2), at_full_speed(256, 2), at_full_speed(256):
        suit_threads()
    assert machine.measured == []
