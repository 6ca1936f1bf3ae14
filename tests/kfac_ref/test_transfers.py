"""What goes from device to host and from host to device in a whole cycle of T₁, T₂ and T₃, counted at every door.

array-api-strict stands in for a GPU: its arrays are on a device that is not the host's. An iteration's numbers are read
in one transfer, and in a second where T₁ divides k, for ρ needs h at the new parameters (§6.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import wraps
from itertools import islice

import array_api_strict
import numpy as np
import pytest

from autodiff import Network, glorot_initialisation
from autodiff.arrays import from_numpy, to_numpy
from kfac_ref import KFAC, preset
from kfac_ref.training import loop
from tests.conftest import OTHER_DEVICE, make_like

CASES, FIRST, WIDTH = 48, 16, 5
CYCLE = 20
DEVICES = [f"{library}-{dtype}" for library in ("strict", "cupy") for dtype in ("float64", "float32")]

CONVERSIONS = ("__float__", "__int__", "__bool__", "__complex__", "__index__", "__array__", "__buffer__", "__dlpack__")
"""By which Python and NumPy read an array-api-strict array without being told to."""


@dataclass
class Doors:
    """What has gone through since the last `clear`."""

    reads: list[str] = field(default_factory=list)
    """To the host: the door's name, for each transfer."""
    uploads: list[np.ndarray] = field(default_factory=list)
    """To the device: what was sent."""
    inside: bool = False
    """Whether a door is open already: what it does itself is not counted again."""

    def clear(self) -> None:
        self.reads, self.uploads = [], []

    def guard(self, function, count):
        """`function`, with `count` told its arguments first, unless it is called from within another door."""

        @wraps(function)
        def guarded(*args, **kwargs):
            if self.inside:
                return function(*args, **kwargs)
            count(*args, **kwargs)
            self.inside = True
            try:
                return function(*args, **kwargs)
            finally:
                self.inside = False

        return guarded

    def upload(self, x, *args, **kwargs) -> None:
        if isinstance(x, (np.ndarray, list, tuple)):
            self.uploads.append(np.asarray(x))


def watch_strict(doors: Doors, monkeypatch) -> None:
    array = type(array_api_strict.zeros(0))

    def read(name):
        def count(x, *args, **kwargs):
            # what has been brought to the host already is free
            if x.device == OTHER_DEVICE:
                doors.reads.append(name)

        return count

    for name in ("to_device", *CONVERSIONS):
        if hasattr(array, name):
            monkeypatch.setattr(array, name, doors.guard(getattr(array, name), read(name)))
    monkeypatch.setattr(array_api_strict, "asarray", doors.guard(array_api_strict.asarray, doors.upload))


def watch_cupy(doors: Doors, monkeypatch) -> None:
    import cupy

    # float(x), if x, x.item(), print(x) and all the others come by `get`: see tests/autodiff/test_cupy_names.py
    get = doors.guard(cupy.ndarray.get, lambda x, *args, **kwargs: doors.reads.append("get"))
    monkeypatch.setattr(cupy.ndarray, "get", get)
    for name in ("array", "asarray"):
        monkeypatch.setattr(cupy, name, doors.guard(getattr(cupy, name), doors.upload))
    put = doors.guard(cupy.ndarray.set, lambda x, sent, *args, **kwargs: doors.uploads.append(sent))
    monkeypatch.setattr(cupy.ndarray, "set", put)


@pytest.fixture(params=DEVICES)
def far(request):
    """An empty array that is not on the host, of each library and dtype."""
    return make_like(request.param)


@pytest.fixture
def doors(far, monkeypatch) -> Doors:
    found = Doors()
    (watch_strict if isinstance(far, type(array_api_strict.zeros(0))) else watch_cupy)(found, monkeypatch)
    return found


def problem(far, inverse: str):
    """An autoencoder of noisy combinations of two patterns; its mini-batches grow, in chunks from the middle on."""
    rng = np.random.default_rng(7)
    X = np.clip(rng.random((CASES, 2)) @ rng.random((2, WIDTH)) + 0.1 * rng.standard_normal((CASES, WIDTH)), 0, 1)
    network = Network([WIDTH, 4, 2, 4, WIDTH], ["tanh", "identity", "tanh"], "bernoulli")
    settings = preset("paper", lambda0=30.0, m1=FIRST, full_batch_at=CYCLE - 2, chunk_size=30, inverse=inverse)
    assert (settings.T1, settings.T2, settings.T3) == (5, CYCLE, CYCLE)
    kfac = KFAC(network, settings)
    state = kfac.init([from_numpy(W, far) for W in glorot_initialisation(network, 0)], seed=3)
    x = from_numpy(X, far)
    return kfac, state, loop.Data(x, x, x[:8, :], x[:8, :])


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
def test_a_cycle_reads_once_an_iteration(far, doors, inverse):
    kfac, state, data = problem(far, inverse)
    doors.clear()
    counted, chosen = [], []
    for _, record, _ in islice(loop.iterate(kfac, state, data), CYCLE):
        counted.append(len(doors.reads))
        chosen.append((record.lam, record.gamma))
        assert set(doors.reads) <= {"to_device", "get"}
        assert math.isnan(record.rho) == (record.k % kfac.settings.T1 != 0)
        doors.clear()
    assert counted == [2 if k % 5 == 0 else 1 for k in range(1, CYCLE + 1)]
    # the cycle did all that an iteration can do: λ was adjusted, and another γ was chosen from new inverses
    assert all(last != first for last, first in zip(chosen[-1], chosen[0], strict=True))


def test_a_cycle_uploads_the_rows_of_its_mini_batches_and_nothing_else(far, doors):
    """But for random numbers, which come from NumPy where the library has no generator of its own."""
    kfac, state, data = problem(far, "block-tridiagonal")
    s, drawn_here = kfac.settings, isinstance(far, type(array_api_strict.zeros(0)))
    doors.clear()
    for _, record, _ in islice(loop.iterate(kfac, state, data), CYCLE):
        rows, *noise = sorted(doors.uploads, key=lambda sent: sent.dtype.kind != "i")
        assert rows.dtype.kind == "i" and rows.shape == (record.m,)
        assert [x.shape for x in noise] == ([(math.ceil(s.tau1 * record.m), WIDTH)] if drawn_here else [])
        doors.clear()
    assert record.m == CASES


def test_an_evaluation_reads_once_for_each_data_set_and_parameters(far, doors):
    kfac, state, data = problem(far, "block-diagonal")
    *_, (state, _, _) = islice(loop.iterate(kfac, state, data), 2)
    doors.clear()
    values = loop.evaluate_all(kfac.network, state, data, kfac.settings.eta, kfac.settings.chunk_size)
    assert len(values) == 8 and len(doors.reads) == 4 and doors.uploads == []


def test_every_door_is_watched(far, doors):
    """What would be a silent transfer is seen: this is about the test itself."""
    x = from_numpy(np.asarray([1.5]), far)[0]
    for n, ask in enumerate((float, int, bool, complex, to_numpy), start=1):
        ask(x)
        assert len(doors.reads) == n
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(x)  # refused by both libraries
    assert len(doors.uploads) == 1
