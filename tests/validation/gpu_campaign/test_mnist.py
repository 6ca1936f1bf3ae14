"""MNIST's run, on a tiny problem."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment
from validation import reference_run
from validation.gpu_campaign import mnist, part


@pytest.fixture
def small(monkeypatch, tmp_path):
    """In the place of MNIST, cases of two patterns, an evaluation every 10 iterations."""
    rng = np.random.default_rng(0)
    X = np.clip(rng.random((200, 2)) @ rng.random((2, 8)), 0, 1)
    path = tmp_path / "small.npz"
    np.savez(path, X=X, X_test=X[:50])

    def experiment(name, backend, constants):
        assert name == "mnist" and constants == {"inverse": "block-tridiagonal"}
        constants = constants | {"m1": 50, "lambda0": 1.0}
        described = {"data": str(path), "network": (8, 4, 8), "likelihood": "bernoulli", "preset": "authors"}
        return Experiment(**described, backend=backend, constants=constants)

    monkeypatch.setattr(reference_run, "experiment", experiment)
    monkeypatch.setattr(mnist, "EVERY", 10)
    monkeypatch.setattr(mnist, "ITERATIONS", 50)


def test_errors_and_the_target(small, monkeypatch, capsys):
    monkeypatch.setattr(mnist, "TARGET", 0.3)
    assert mnist.main(["--backend", "numpy"]) == part.DONE
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if re.match(r" +\d+  ", line)]
    assert [int(row[0]) for row in rows if int(row[0]) % 10 == 0] == [10, 20, 30, 40, 50]
    # beside what the authors printed and what was measured on a CPU, at the iterations where they were
    assert rows[-1][3:5] == ["49.0800", "47.082–48.425"] and rows[0][3:5] == ["–", "–"]
    (reached,) = re.findall(r"target reached: [\d.]+ s, iteration (\d+)", out)
    crossed = next(row for row in rows if row[0] == reached)
    assert float(crossed[2]) <= 0.3 and "was not reached" not in out
    assert "50 of 50 iterations" in out and f"mini-batches of {loop.minibatch_size(50, 50, 200, 500)} cases" in out


def test_without_time_it_says_how_far_it_came(small, capsys):
    assert mnist.main(["--backend", "numpy", "--until", "0"]) == part.DONE
    out = capsys.readouterr().out
    assert "0 of 50 iterations in 0.00 s" in out and "was not reached" in out


def test_what_was_measured_on_a_cpu_is_read():
    assert Path(mnist.ON_A_CPU).is_file()
    text = """
seed 0
                             training error                test error         training, averaged
       50      16.6    47.7838    49.0800      0.974    47.8003     49.1153    47.7838     49.0800
       51      16.7    47.0000          –          –    46.0000           –    47.7838           –
seed 1
       50      16.6    48.0000    49.0800      0.974    48.5000     49.1153    47.7838     49.0800
"""
    assert mnist.on_a_cpu(text) == {50: [(47.7838, 47.8003), (48.0, 48.5)], 51: [(47.0, 46.0)]}
    assert mnist.on_a_cpu(mnist.ON_A_CPU.read_text(encoding="utf-8"))[100]
