"""The stopwatch: what it times, and that it leaves everything as it was."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from autodiff import Network
from kfac_ref import KFAC, Batch, Settings, optimizer
from tests.conftest import random_parameters
from validation.benchmark import stages
from validation.benchmark.stages import PLACES, REST, STAGES, Stopwatch


@pytest.fixture
def training(rng):
    """An optimizer, its state before an iteration in which everything is due, and a mini-batch."""
    network = Network([6, 5, 4], "tanh", "gaussian")
    kfac = KFAC(network, Settings(tau1=0.5))
    batch = Batch(rng.standard_normal((20, 6)), rng.standard_normal((20, 4)))
    return kfac, replace(kfac.init(random_parameters(rng, network)), k=19), batch


def functions():
    return [vars(owner)[name] for owner, name, _ in PLACES]


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
def test_every_stage_is_found_in_a_step(training, inverse):
    kfac, state, batch = training
    kfac = KFAC(kfac.network, replace(kfac.settings, inverse=inverse))
    stopwatch = Stopwatch(batch.X)
    begun = time.perf_counter()
    with stopwatch.watching():
        row = stopwatch.lap(lambda: kfac.step(state, batch))
    elapsed = time.perf_counter() - begun
    assert list(row) == ["seconds", *STAGES] and all(row[stage] > 0 for stage in STAGES)
    assert row["seconds"] == pytest.approx(sum(row[stage] for stage in STAGES)) and row["seconds"] <= elapsed


def test_a_step_is_the_same_when_watched(training):
    kfac, state, batch = training
    plain, _ = kfac.step(state, batch)
    watched = []
    stopwatch = Stopwatch(batch.X)
    with stopwatch.watching():
        stopwatch.lap(lambda: watched.append(kfac.step(state, batch)[0]))
    for W, V in zip(plain.parameters, watched[0].parameters, strict=True):
        np.testing.assert_array_equal(W, V)


def test_functions_are_put_back_even_after_an_error(training):
    kfac, state, _ = training
    before = functions()
    stopwatch = Stopwatch(np.zeros(1))
    with pytest.raises(ValueError, match="expected"), stopwatch.watching():
        assert all(now is not then for now, then in zip(functions(), before, strict=True))
        stopwatch.lap(lambda: kfac.step(state, Batch(np.zeros((3, 1)), np.zeros((3, 4)))))
    assert all(now is then for now, then in zip(functions(), before, strict=True))
    # and the next lap begins anew
    with stopwatch.watching():
        assert stopwatch.lap(lambda: None)[REST] == pytest.approx(0, abs=0.1)


def test_a_stage_within_another_counts_alone(monkeypatch):
    """A clock that goes on by what each function says."""
    now = [0.0]

    def goes_on(seconds, then=lambda: None):
        now[0] += seconds
        then()

    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(optimizer, "loss_and_gradient", lambda: goes_on(1))
    monkeypatch.setattr(optimizer, "measured_ratio", lambda: goes_on(10, lambda: optimizer.loss_and_gradient()))
    stopwatch = Stopwatch(np.zeros(1))
    with stopwatch.watching():
        row = stopwatch.lap(lambda: goes_on(100, lambda: (optimizer.measured_ratio(), optimizer.loss_and_gradient())))
    assert (row["gradient"], row["ρ"], row[REST], row["seconds"]) == (2, 10, 100, 112)
