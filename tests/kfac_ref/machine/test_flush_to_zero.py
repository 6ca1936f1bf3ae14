"""kfac_ref.machine.flush_to_zero: subnormal numbers are 0 in every thread that computes, and after it they are not."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from autodiff.threads import blas, side_by_side
from kfac_ref.machine import at_full_speed, flush_to_zero
from kfac_ref.machine.blas import libraries
from kfac_ref.training.experiment import Experiment, prepare
from validation.benchmark.subnormals import Watched, subnormals, watched

needs_switches = pytest.mark.skipif(flush_to_zero._switches() is None, reason="no way to flush subnormals here")


def tiny_product(size: int, dtype: str = "float32") -> int:
    root = {"float32": 1e-20, "float64": 1e-155}[dtype]
    A, B = np.full((size, size), root, dtype), np.full((size, size), root / 1e3, dtype)
    return subnormals(A @ B)


@needs_switches
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_within_and_after(dtype):
    assert tiny_product(8, dtype) == 64
    with pytest.raises(KeyError), flush_to_zero.flush_to_zero():
        assert tiny_product(8, dtype) == 0
        assert np.full(3, 1e-310) @ np.full(3, 1e10) == 0
        raise KeyError
    assert tiny_product(8, dtype) == 64


def alone(check: Callable[[], None]) -> None:
    """Run it in a process of its own: where other tests have left threads, OpenBLAS's are not ended."""
    code = f"from {__name__} import {check.__name__} as check; check()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def check_every_thread_of_the_blas():
    size = 600  # that OpenBLAS divides among threads
    with libraries()[0].limit(limits=2):
        assert tiny_product(size) == size**2
        with flush_to_zero.flush_to_zero():
            assert tiny_product(size) == 0
            assert side_by_side(tiny_product, np.zeros(0), [8, 8, 8]) == [0, 0, 0]
        assert tiny_product(size) == size**2


def check_at_full_speed():
    with at_full_speed(1000, threads=2), at_full_speed(1000):
        assert tiny_product(600) == 0
    assert tiny_product(600) == 600**2


@needs_switches
@pytest.mark.parametrize("check", [check_every_thread_of_the_blas, check_at_full_speed])
def test_every_thread(check):
    alone(check)


@needs_switches
def test_another_thread_at_work_keeps_its_own(monkeypatch):
    """And OpenBLAS's threads are not ended under it."""
    ended = []
    for library in blas().lib_controllers:
        monkeypatch.setattr(library.dynlib, "blas_thread_shutdown_", lambda: ended.append(1), raising=False)
    found = []
    begin, end = threading.Event(), threading.Event()

    def work():
        begin.set()
        end.wait()
        found.append(tiny_product(8))

    other = threading.Thread(target=work)
    with blas().limit(limits=2):
        other.start()
        begin.wait()
        with flush_to_zero.flush_to_zero():
            end.set()
            other.join()
            assert tiny_product(8) == 0
    assert found == [64]
    assert len(ended) <= sum(x.internal_api == "openblas" for x in blas().lib_controllers)  # at the end alone


@needs_switches
def test_from_another_than_the_main_thread():
    found = []

    def work():
        with flush_to_zero.flush_to_zero():
            found.append(tiny_product(8))

    with flush_to_zero.flush_to_zero():
        pass
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
    assert tiny_product(8) == 64


@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64"), ("win32", "AMD64")])
def test_elsewhere_nothing_changes(monkeypatch, system, machine):
    monkeypatch.setattr(flush_to_zero.sys, "platform", system)
    monkeypatch.setattr(flush_to_zero.platform, "machine", lambda: machine)
    with flush_to_zero.flush_to_zero():
        assert np.float32(1e-20) * np.float32(1e-20) > 0


# --- real data: no product meets a subnormal number ----------------------------------------------------------------


def met(activation: str, inverse: str, likelihood: str | None, scale: float, iterations: int) -> Counter:
    """Subnormal operands by product, in the first iterations on the images of fashion16, whose corners are 0.

    The initial parameters are `scale` times the usual ones, and five units of the first layer are saturated or dead.
    """
    constants = {"inverse": inverse, "lambda0": 100.0, "m1": 300, "full_batch_at": None}
    prepared = prepare(Experiment(preset="paper", activation=activation, likelihood=likelihood, constants=constants))
    state = prepared.first_state()
    parameters = [scale * W for W in state.parameters]
    parameters[0][:5, -1] = -1000
    for reached, _, _ in islice(
        watched(prepared.optimizer, replace(state, parameters=parameters), prepared.data), iterations
    ):
        assert isinstance(reached.parameters[0], Watched)
    return Watched.met.copy()


@needs_switches
@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize(
    ("activation", "likelihood", "scale"), [("logistic", None, 20), ("relu", None, 1), ("relu", "categorical", 3)]
)
def test_no_product_meets_any(activation, likelihood, scale, inverse):
    # that there would be some, and that they would be found
    assert met(activation, inverse, likelihood, scale, iterations=2).total() > 0
    with at_full_speed(1000, threads=1):
        assert met(activation, inverse, likelihood, scale, iterations=5).total() == 0
