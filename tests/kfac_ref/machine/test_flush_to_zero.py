"""kfac_ref.machine.flush_to_zero: subnormal numbers are 0 in every thread that computes, and after it they are not.

Whether a number is subnormal is read from its bits, as comparisons with 0 are under the switches, too.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from autodiff.threads import blas, side_by_side
from kfac_ref.machine import at_full_speed, flush_to_zero
from kfac_ref.machine.blas import libraries
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, prepare

needs_switches = pytest.mark.skipif(flush_to_zero._switches() is None, reason="no way to flush subnormals here")

BITS = {np.dtype("float32"): (np.uint32, 23), np.dtype("float64"): (np.uint64, 52)}


def subnormals(x: np.ndarray) -> int:
    """How many entries are subnormal: their exponent's bits are all 0, those of the fraction are not."""
    unsigned, fraction = BITS[x.dtype]
    bits = np.ascontiguousarray(x).view(np.ndarray).view(unsigned) << unsigned(1)
    return int(np.count_nonzero((bits != 0) & (bits >> unsigned(fraction + 1) == 0)))


def test_the_count():
    for dtype, tiny in (("float32", 1e-38), ("float64", 1e-308)):
        x = np.array([0, -0.0, tiny, -tiny, 1e-37, -1, np.inf, np.nan], dtype=dtype)
        assert subnormals(x) == 2


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

PRODUCTS = ("matmul", "vecdot", "multiply", "divide")


class Watched(np.ndarray):
    """An array that counts the subnormal operands of products, and whose results do so, too."""

    met: ClassVar[Counter] = Counter()

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [x.view(np.ndarray) if isinstance(x, Watched) else x for x in inputs]
        if ufunc.__name__ in PRODUCTS:
            self.note(ufunc.__name__, plain)
        if out is not None:
            options["out"] = tuple(x.view(np.ndarray) if isinstance(x, Watched) else x for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if out is not None:
            return out[0] if len(out) == 1 else out
        return result.view(Watched) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, arguments, options):
        if function.__module__ == "numpy.linalg":
            self.note(function.__name__, arguments)
        result = super().__array_function__(function, types, arguments, options)
        return result.view(Watched) if type(result) is np.ndarray else result

    @classmethod
    def note(cls, name, operands):
        for x in operands:
            if isinstance(x, np.ndarray) and x.dtype in BITS:
                cls.met[name] += subnormals(x)


def met(activation: str, inverse: str, likelihood: str | None, scale: float, iterations: int) -> Counter:
    """Subnormal operands by product, in the first iterations on the images of fashion16, whose corners are 0.

    The initial parameters are `scale` times the usual ones, and five units of the first layer are saturated or dead.
    """
    constants = {"inverse": inverse, "lambda0": 100.0, "m1": 300, "full_batch_at": None}
    prepared = prepare(Experiment(preset="paper", activation=activation, likelihood=likelihood, constants=constants))
    X = prepared.data.X.view(Watched)
    data = replace(prepared.data, X=X, Y=X if prepared.data.Y is prepared.data.X else prepared.data.Y.view(Watched))
    state = prepared.first_state()
    parameters = [(scale * W).view(Watched) for W in state.parameters]
    parameters[0][:5, -1] = -1000
    state = replace(state, parameters=parameters, averaged=parameters)
    Watched.met.clear()
    for reached, _, _ in islice(loop.iterate(prepared.optimizer, state, data), iterations):
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
