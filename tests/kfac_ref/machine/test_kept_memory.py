"""kfac_ref.machine.kept_memory: what the C library is told, and that nothing is told to another than glibc."""

from __future__ import annotations

import os

import numpy as np
import pytest

from kfac_ref.machine import kept_memory
from kfac_ref.machine.kept_memory import KEPT, ORDINARY


class Recorder:
    """In the place of glibc."""

    def __init__(self):
        self.told = []

    def mallopt(self, parameter, value):
        self.told.append((parameter, value))

    def malloc_trim(self, pad):
        self.told.append(("trim", pad))


def test_what_is_told(monkeypatch):
    libc = Recorder()
    monkeypatch.setattr(kept_memory, "_glibc", lambda: libc)
    with pytest.raises(KeyError), kept_memory.kept_memory():
        assert libc.told == list(KEPT.items())
        raise KeyError
    assert libc.told[len(KEPT) :] == [*ORDINARY.items(), ("trim", 0)]
    # the number of heaps cannot be set back
    assert KEPT.keys() - ORDINARY.keys() == {kept_memory.ARENA_MAX}


@pytest.mark.parametrize("says", [None, "", ValueError("unknown name"), OSError(22, "Invalid argument")])
def test_nothing_is_told_to_other_libraries(monkeypatch, says):
    def unknown(name):
        if isinstance(says, Exception):
            raise says
        return says

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    assert kept_memory._glibc() is None
    with kept_memory.kept_memory():
        pass


def test_glibc_accepts_each():
    libc = kept_memory._glibc()
    if libc is None:
        pytest.skip("the C library is not glibc")
    with kept_memory.kept_memory():
        assert all(libc.mallopt(*item) == 1 for item in KEPT.items())
        x = np.ones(10**6)
    assert all(libc.mallopt(*item) == 1 for item in ORDINARY.items())
    assert x.sum() == 10**6


def test_freed_memory_is_kept_and_then_given_back():
    """By the pages that the kernel has given to the process, as far as it says so."""
    status = "/proc/self/statm"
    if kept_memory._glibc() is None or not os.path.exists(status):
        pytest.skip("neither glibc nor /proc")

    def resident():
        with open(status) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    size = 50 * 2**20
    with kept_memory.kept_memory():
        before = resident()
        for _ in range(3):
            x = [np.ones(size // 8) for _ in range(4)]
            assert resident() > before + 3 * size
            del x
            assert resident() > before + 3 * size
    assert resident() < before + 2 * size
