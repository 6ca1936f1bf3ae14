"""What a process of its own shows: how much memory training takes, and how soon it begins."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kfac_ref.training import runs
from validation.benchmark import methods
from validation.benchmark.peer import Peer
from validation.benchmark.problems import Problem

ALONE = Path(__file__).with_name("trained_alone.py")
ITERATIONS = 25
"""Of those whose memory is asked for: candidates for γ and inverses are then among them."""
POLL = 0.005
"""Seconds between looks at a run's metrics."""


def memory(data: str, inverse: str, m: int) -> int:
    """Bytes that a process holds at most which loads a data set and trains on mini-batches of m cases."""
    command = [sys.executable, "-P", str(ALONE), data, inverse, str(m), str(ITERATIONS)]
    return int(_finished(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))


def peer_memory(python: str, problem: Problem, m: int) -> int:
    """The same of kfac-jax, which is handed all cases, too."""
    with Peer(python) as peer:
        methods.prepare(peer, problem, problem.data.X)
        peer.begin({}, [(1, m)])
        peer.kfac(ITERATIONS)
        return peer.peak_memory()


def start(data: str) -> float:
    """Seconds from the command `kfac-ref train` to the end of its first iteration, as its metrics tell."""
    with tempfile.TemporaryDirectory() as folder:
        # with 2, as the last iteration is evaluated on all cases before it is told of
        words = ["train", "--data", data, "--iterations", "2", "--out", folder]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "kfac_ref.command.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        metrics = Path(folder, runs.METRICS)
        while process.poll() is None and not (metrics.is_file() and metrics.stat().st_size):
            time.sleep(POLL)
        seconds = time.perf_counter() - began
        _finished(process)
        return seconds


def _finished(process: subprocess.Popen[str]) -> str:
    """What a process printed in all; ArithmeticError with its last words if it failed."""
    printed, said = process.communicate()
    if process.returncode:
        raise ArithmeticError(f"{process.args}: {(said.strip().splitlines() or ['it died'])[-1]}")  # type: ignore[str-bytes-safe]
    return printed
