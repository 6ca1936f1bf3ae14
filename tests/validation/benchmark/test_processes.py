"""Processes of their own, on the data in the package."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from kfac_ref.data import datasets
from validation.benchmark import processes


def test_memory_is_that_of_the_process_alone():
    held = np.ones(50_000_000).nbytes  # 400 MB that this process has held must not be found in the other
    assert datasets.load("fashion16").X.nbytes < processes.memory("fashion16", "block-diagonal", 50) < held


def test_memory_grows_with_what_is_held(tmp_path):
    found = []
    for cases in (100, 60_000):
        path = tmp_path / f"{cases}.npz"
        np.savez(path, X=np.random.default_rng(0).random((cases, 400), dtype=np.float32))
        found.append(processes.memory(str(path), "block-diagonal", 20))
    assert found[1] - found[0] > 0.9 * 60_000 * 400 * 4


def test_start_is_within_the_time_of_the_whole_command():
    begun = time.perf_counter()
    seconds = processes.start("fashion16")
    assert 0.1 < seconds < time.perf_counter() - begun


@pytest.mark.parametrize(("ask", "rest"), [(processes.memory, ("block-diagonal", 10)), (processes.start, ())])
def test_what_failed_says_why(ask, rest):
    with pytest.raises(ArithmeticError, match='no data set or path "nowhere"'):
        ask("nowhere", *rest)


def test_the_program_can_be_run_by_hand():
    command = [sys.executable, processes.ALONE, "fashion16", "block-tridiagonal", "20", "1"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(printed) > 10_000_000
