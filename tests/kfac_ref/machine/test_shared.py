"""BLAS threads for fits that may be in progress at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from kfac_ref import machine
from kfac_ref.machine import shared
from kfac_ref.machine.blas import libraries


def threads() -> int:
    return max(library.num_threads for library in libraries()[0].lib_controllers)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch, tmp_path):
    """A machine with two free cores and a BLAS of two threads."""
    monkeypatch.setattr(shared.cores, "slots_folder", lambda: tmp_path / "slots")
    monkeypatch.setattr(shared.cores, "usable", lambda: [0, 1])
    np.ones((2, 2)) @ np.ones((2, 2))
    with libraries()[0].limit(limits=2):
        if threads() != 2:
            pytest.skip("the BLAS cannot have two threads")
        yield


@pytest.mark.parametrize(("widest", "expected"), [(machine.NARROW, 1), (machine.NARROW + 1, 2)])
def test_alone(widest, expected):
    with machine.at_shared_speed(widest):
        assert threads() == expected
    assert threads() == 2


def test_together_each_has_one_and_the_last_puts_back():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with machine.at_shared_speed(1000):
            entered.set()
            leave.wait(10)
            seen.append(threads())

    thread = threading.Thread(target=other)
    with machine.at_shared_speed(1000):
        assert threads() == 2
        thread.start()
        assert entered.wait(10)
        assert threads() == 1
    assert threads() == 1  # the other is still at work
    leave.set()
    thread.join()
    assert seen == [1] and threads() == 2


def test_what_fails_leaves_nothing_behind():
    with pytest.raises(KeyError), machine.at_shared_speed(1000):
        raise KeyError
    assert threads() == 2
