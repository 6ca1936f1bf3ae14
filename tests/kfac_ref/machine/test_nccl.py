"""Sums on devices: asked of CuPy's NCCL, which stands here for itself."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import array_api_compat
import numpy as np
import pytest

from kfac_ref.machine.nccl import device_sum


@pytest.fixture
def groups(monkeypatch):
    """CuPy with NCCL, and how its groups were made."""
    made = []

    class Group:
        def all_reduce(self, into, out, operation):
            assert into is out and operation == "sum"
            out *= 3

    def init_process_group(*options, **named):
        made.append((options, named))
        return Group()

    for name in ("cupy", "cupy.cuda", "cupyx", "cupyx.distributed"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["cupy.cuda"].nccl = SimpleNamespace(available=True)
    sys.modules["cupyx.distributed"].init_process_group = init_process_group
    monkeypatch.setattr(array_api_compat, "is_cupy_array", lambda x: isinstance(x, np.ndarray))
    return made


def test_summed_in_place(groups):
    add, x = device_sum(np.ones(2), 1, 4), np.ones(2)
    add(x)
    assert x.tolist() == [3.0, 3.0] and groups == [((4, 1), {"backend": "nccl", "use_mpi": True})]


def test_where_there_is_no_nccl(groups, monkeypatch):
    sys.modules["cupy.cuda"].nccl.available = False
    assert device_sum(np.ones(2), 0, 2) is None
    monkeypatch.setitem(sys.modules, "cupyx.distributed", None)
    assert device_sum(np.ones(2), 0, 2) is None and groups == []


def test_other_arrays_go_by_the_host():
    assert device_sum(np.ones(2), 0, 2) is None
