"""kfac_ref.training.loop: the schedule against the authors' columns, mini-batches, evaluation against plain NumPy."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import validation
from autodiff import Network
from autodiff.arrays import to_numpy
from kfac_ref import KFAC, Batch, Settings, glorot_initialisation, preset
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.training import loop
from kfac_ref.training.loop import Data, evaluate_all, iterate, minibatch, minibatch_size, scalars
from tests.conftest import assert_home, random_parameters, random_targets, to
from tests.dense import case_forward, case_mean, dense_h

AUTHORS = Path(validation.__file__).parent / "authors"

# --- the schedule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cases"), [("mnist", 60_000), ("curves", 20_000), ("faces", 103_500)])
def test_the_authors_schedule(name, cases):
    rows = np.genfromtxt(AUTHORS / f"{name}_iterations.csv", delimiter=",", names=True)
    assert len(rows) == 1500
    sizes = [minibatch_size(int(k), 1000, cases, 500) for k in rows["iteration"]]
    np.testing.assert_array_equal(sizes, rows["minibatch"])


def test_schedule_by_hand():
    # doubles with each iteration from 3 on, all 48 cases at the fifth
    assert [minibatch_size(k, 3, 48, 5) for k in range(1, 8)] == [3, 6, 12, 24, 48, 48, 48]
    assert [minibatch_size(k, 3, 48, None) for k in (1, 5, 1000)] == [3, 3, 3]
    assert [minibatch_size(k, 48, 48, 5) for k in (1, 5, 9)] == [48, 48, 48]
    assert [minibatch_size(k, 1000, 48, full) for k in (1, 9) for full in (5, None)] == [48] * 4
    assert [minibatch_size(k, 1, 7, 2) for k in (1, 2, 3)] == [1, 7, 7]


def test_schedule_never_shrinks_nor_leaves_its_bounds():
    for m1, cases, full in [(1, 2, 2), (1, 1, 2), (7, 103, 30), (999, 1000, 500), (1, 60_000, 1000)]:
        sizes = [minibatch_size(k, m1, cases, full) for k in range(1, full + 3)]
        assert sizes == sorted(sizes) and sizes[0] == m1 and sizes[full - 1 :] == [cases] * 3


# --- mini-batches --------------------------------------------------------------------------------------------------


def make_data(like, rng, cases=30, with_test=True, likelihood="gaussian"):
    """Inputs whose first column is the case's number."""
    X = np.c_[np.arange(cases), rng.standard_normal((cases, 2))]
    Y = random_targets(rng, likelihood, cases, 2)
    test = to(like, rng.standard_normal((7, 3)), random_targets(rng, likelihood, 7, 2)) if with_test else []
    return Data(*to(like, X, Y), *test)


def test_minibatches_are_rows_without_replacement(like, rng):
    data = make_data(like, rng)
    batch = minibatch(data, 1, 2, 20)
    for x in batch[:2]:
        assert_home(x, like)
    X, Y = map(to_numpy, batch[:2])
    rows = X[:, 0].astype(int)
    assert len(set(rows)) == 20 and list(rows) != sorted(rows)
    np.testing.assert_array_equal(X, to_numpy(data.X)[rows])
    np.testing.assert_array_equal(Y, to_numpy(data.Y)[rows])
    everything = to_numpy(minibatch(data, 1, 2, 30).X)[:, 0]
    assert sorted(everything) == list(range(30)) and list(everything) != list(range(30))


def test_minibatches_follow_from_seed_and_iteration_alone(rng):
    like = np.zeros(0)
    data = make_data(like, rng)
    rows = {(seed, k): tuple(minibatch(data, seed, k, 9).X[:, 0]) for seed in (0, 1, 2**63 - 1) for k in (1, 2, 10_000)}
    assert len(set(rows.values())) == len(rows)
    for (seed, k), drawn in rows.items():
        assert tuple(minibatch(data, seed, k, 9).X[:, 0]) == drawn


def test_every_case_is_as_likely():
    data = Data(np.arange(10.0)[:, None], np.zeros((10, 1)))
    counts = np.zeros(10)
    first = np.zeros(10)
    for k in range(3000):
        rows = minibatch(data, 5, k, 4).X[:, 0].astype(int)
        counts[rows] += 1
        first[rows[0]] += 1
    # binomial: five standard deviations
    assert np.all(np.abs(counts - 1200) < 5 * math.sqrt(3000 * 0.4 * 0.6))
    assert np.all(np.abs(first - 300) < 5 * math.sqrt(3000 * 0.1 * 0.9))


def test_an_autoencoders_targets_are_its_inputs(like, rng):
    data = make_data(like, rng)
    batch = minibatch(Data(data.X, data.X), 0, 1, 5)
    assert batch.Y is batch.X
    batch = minibatch(data, 0, 1, 5)
    assert batch.Y is not batch.X


# --- the loop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kfac", "sgd"])
def test_iterate_is_step_after_step(like, rng, kind):
    network = Network([3, 3, 2], "tanh", "gaussian")
    data = make_data(like, rng)
    constants = {"m1": 4, "full_batch_at": 4, "eta": 0.01}
    optimizer = (
        KFAC(network, Settings(**constants, lambda0=2.0))
        if kind == "kfac"
        else SGD(network, SGDSettings(**constants, learning_rate=1e-4))
    )
    first = optimizer.init(to(like, random_parameters(rng, network)), 9)
    by_hand = first
    for k, (state, record, seconds) in enumerate(islice(iterate(optimizer, first, data), 6), start=1):
        m = [4, 7, 15, 30, 30, 30][k - 1]  # 4·(30/4)^((k−1)/3)
        rows = np.random.default_rng([9, loop.MINIBATCHES, k]).choice(30, m, replace=False)
        batch = Batch(*to(like, to_numpy(data.X)[rows], to_numpy(data.Y)[rows]))
        by_hand, expected = optimizer.step(by_hand, batch)
        assert (state.k, record.k, record.m) == (k, k, m) and 0 < seconds < 60
        for a, b in zip(state.parameters, by_hand.parameters, strict=True):
            np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
        np.testing.assert_equal(scalars(record), scalars(expected))
    assert first.k == 0


# --- evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("with_test", [False, True])
def test_evaluate_all(like, rng, likelihood, averaged, with_test):
    network = Network([3, 4, 2], "tanh", likelihood)
    data = make_data(like, rng, 17, with_test, likelihood)
    W = random_parameters(rng, network, 0.3)
    state = KFAC(network).init(to(like, W))
    state = replace(state, averaged=state.parameters)
    both = {"": W}
    if averaged:
        both["_averaged"] = random_parameters(rng, network)
        state = replace(state, averaged=to(like, both["_averaged"]))
    expected = {}
    for suffix, parameters in both.items():
        for part in ("train", "test") if with_test else ("train",):
            X, Y = (data.X, data.Y) if part == "train" else (data.X_test, data.Y_test)
            X, Y = to_numpy(X).astype(float), to_numpy(Y).astype(float)
            z = np.array([case_forward(network, parameters, x)[2] for x in X])
            means = np.array([case_mean(likelihood, row) for row in z])
            constant = math.log(2 * math.pi) if likelihood == "gaussian" else 0.0  # ½ d ln 2π, d = 2
            expected[f"{part}_h{suffix}"] = dense_h(network, parameters, X, Y, 0.1) + constant
            expected[f"{part}_error{suffix}"] = np.mean(np.sum((means - Y) ** 2, axis=1))
            if likelihood == "categorical":
                expected[f"{part}_misclassified{suffix}"] = np.mean(z.argmax(1) != Y.argmax(1))
    for chunk_size in (4, 5000):
        found = evaluate_all(network, state, data, 0.1, chunk_size)
        assert found == pytest.approx(expected, rel=1e-4 if "32" in str(like.dtype) else 1e-11)
        assert all(type(value) is float for value in found.values())


def test_of_averaged_iterates_that_are_the_iterates_nothing_is_said_twice(rng):
    network = Network([3, 2], "tanh", "gaussian")
    data = make_data(np.zeros(0), rng)
    parameters = random_parameters(rng, network)
    for optimizer in (KFAC(network), SGD(network)):
        found = evaluate_all(network, optimizer.init(parameters), data, 0.0, 100)
        assert sorted(found) == ["test_error", "test_h", "train_error", "train_h"]


# --- what is written of an iteration -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KFAC, SGD])
def test_scalars_can_be_written_as_json(like, rng, kind):
    network = Network([3, 3, 2], "tanh", "gaussian")
    optimizer = kind(network)
    state = optimizer.init(to(like, random_parameters(rng, network)))
    for _, record, _ in islice(iterate(optimizer, state, make_data(like, rng)), 6):
        numbers = scalars(record)
        assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
        assert {"k", "m", "h", "error", "mu", "norm_delta"} <= set(numbers)
        assert not {"gradient", "direction"} & set(numbers)
        assert (numbers["k"], numbers["m"]) == (record.k, 30) and type(numbers["k"]) is int
        assert numbers["h"] == record.h
        if kind is KFAC:
            # ρ is computed at each fifth iteration
            assert (numbers["rho"] is None) == (record.k % 5 != 0)
            assert {"alpha", "lam", "gamma", "model_change"} <= set(numbers)
    for bad in (math.nan, math.inf, -math.inf):
        assert scalars(replace(record, h=bad))["h"] is None


def test_memory_does_not_grow_with_the_minibatch_beyond_the_chunk():
    """Twice the mini-batch takes more memory only for the mini-batch itself and the noise of its τ₁ part."""
    network = Network([32, 300, 300, 32], "tanh", "bernoulli")
    kfac = KFAC(network, preset("authors", chunk_size=500))
    parameters = [W.astype(np.float32) for W in glorot_initialisation(network, 0)]

    def peak(cases: int) -> int:
        X = np.random.default_rng(0).random((cases, 32), dtype=np.float32)
        state = kfac.init(parameters)
        tracemalloc.start()
        kfac.step(state, Batch(X, X))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(4000), peak(8000)
    activities = 4 * 4000 * (32 + 300 + 300 + 32)
    assert large - small < 4 * 4000 * 32 + 0.02 * activities
