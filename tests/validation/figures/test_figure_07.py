"""Figure 7, on a network small enough for dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from kfac_ref import Batch, datasets, ekfac
from kfac_ref.datasets import Dataset
from kfac_ref.fetching import FetchError
from kfac_ref.optimizer import Diverged
from tests.dense import (
    assemble,
    dense_diagonal_inverse,
    dense_fisher,
    dense_gradient,
    dense_h,
    dense_tridiagonal_inverse,
    flatten,
    kronecker_block,
    unflatten,
)
from validation.figures import autoencoder_state, figure_07
from validation.figures.autoencoder_state import Start
from validation.figures.figure_07 import DAMPINGS, LENGTHS, Size
from validation.reference_run import experiment
from validation.work import Work

SIZE = Size(cases=25, gammas=(-1.0, 1.0, 3))


def small_start(monkeypatch, figure, size) -> Start:
    """A small MNIST with a small network, in float64; `figure` is then drawn on it, of this `size`."""
    X = np.random.default_rng(0).random((60, 6))
    data = Dataset("mnist", X[:50], None, X[50:], None, (2, 3), "bernoulli", False, "made up")
    monkeypatch.setattr(datasets, "load", lambda name: data)
    constants = {"m1": 20, "full_batch_at": 30, "tau2": 0.5, "lambda0": 1.0}
    start = Start(experiment("mnist", network=(6, 4, 2, 4, 6), constants=constants, dtype="float64"), 8)
    monkeypatch.setattr(autoencoder_state, "start", lambda work: start)
    monkeypatch.setattr(figure, "SIZES", {"quick": size, "full": size})
    return start


@pytest.fixture
def start(monkeypatch):
    return small_start(monkeypatch, figure_07, SIZE)


def test_updates_and_improvements_are_those_of_dense_algebra(start, tmp_path):
    trained = autoencoder_state.trained(Work(tmp_path), start)
    prepared, state = trained.prepared, trained.state
    gammas = [0.1, 1.0]
    found = figure_07.measure(prepared, state, gammas, cases=25)

    network, eta, W = prepared.network, prepared.optimizer.settings.eta, state.parameters
    m = int(found["m"])
    assert m == int(20 * 2 ** (8 * np.log2(50 / 20) / 29))
    X = prepared.data.X[np.random.default_rng([0, 1, 9]).choice(50, m, replace=False)]
    g = dense_gradient(network, W, X, X, eta)
    F = dense_fisher(network, W, X[: -(-m // 2)])
    A, G = state.factors.A, state.factors.G
    blocks = {(i, i): kronecker_block(A, G, i, i) for i in range(1, 5)}
    first = prepared.data.X[:25]
    before = dense_h(network, W, first, first, eta)
    assert found["cases"] == 25 and found["gamma"] == state.gamma
    for c, gamma in enumerate(gammas):
        inverses = (
            dense_tridiagonal_inverse(A, G, gamma),
            dense_diagonal_inverse(A, G, gamma),
            np.linalg.inv(assemble(blocks, 4) + gamma**2 * np.eye(len(g))),
        )
        for d, inverse in enumerate(inverses):
            u = -inverse @ g
            alpha = -(g @ u) / (u @ F @ u + (state.lam + eta) * (u @ u))
            np.testing.assert_allclose(found["alpha"][d, :, c], [1, alpha], rtol=1e-8)
            for r, length in enumerate((1, alpha)):
                after = dense_h(network, unflatten(flatten(W) + length * u, network), first, first, eta)
                assert found["improvement"][d, r, c] == pytest.approx(before - after, rel=1e-7, abs=1e-10)


def test_the_state_is_that_of_so_many_iterations(start, tmp_path):
    trained = autoencoder_state.trained(Work(tmp_path), start)
    prepared = trained.prepared
    state = prepared.first_state()
    for k in range(1, 9):
        m = int(20 * 2 ** ((k - 1) * np.log2(50 / 20) / 29))
        X = prepared.data.X[np.random.default_rng([0, 1, k]).choice(50, m, replace=False)]
        state, _ = prepared.optimizer.step(state, Batch(X, X))
    assert trained.state.k == 8 and trained.state.lam == state.lam
    np.testing.assert_allclose(flatten(trained.state.parameters), flatten(state.parameters), rtol=1e-12)
    assert "after 8 iterations" in f"after {trained.described()}" and f"{trained.error:.4g}" in trained.described()


def test_a_run_that_diverges_is_no_state(start, tmp_path, monkeypatch):
    def diverge(*arguments):
        raise Diverged("h is nan")

    monkeypatch.setattr("kfac_ref.optimizer.KFAC.step", diverge)
    with pytest.raises(Diverged, match="mnist-8"):
        autoencoder_state.trained(Work(tmp_path), start)


@pytest.mark.parametrize("had", [True, False])
def test_without_mnist_it_is_fashion16(had, monkeypatch, tmp_path):
    def load(name):
        if name == "mnist" and not had:
            raise FetchError("no network")
        return Dataset(name, np.zeros((1, 784)), None, None, None, (28, 28), "bernoulli", False, "made up")

    monkeypatch.setattr(datasets, "load", load)
    for quick in (True, False):
        start = autoencoder_state.start(Work(tmp_path, quick))
        assert start.experiment.data == ("mnist" if had else "fashion16")
        assert start.experiment.constants == ({"lambda0": 1.0} if quick else {})


def test_eigenvalues_below_zero_are_zero():
    basis = ekfac.Eigenbasis([np.array([-1e-9, 2.0])], [np.eye(2)], [np.array([-0.5, 0.0, 1.0])], [np.eye(3)])
    fixed = figure_07.nonnegative(basis)
    assert fixed.s_A[0].tolist() == [0, 2] and fixed.s_G[0].tolist() == [0, 0, 1] and fixed.U_A is basis.U_A


def test_draw(start, tmp_path, monkeypatch):
    drawn = figure_07.draw(Work(tmp_path))
    rows = drawn.tables["improvements"]
    assert len(rows) == len(DAMPINGS) * len(LENGTHS) * 3 and len(drawn.summary) == len(DAMPINGS) * len(LENGTHS)
    for line in drawn.summary:
        curve = [r for r in rows if (r["damping"], r["update"]) == (line["damping"], line["update"])]
        best = max(curve, key=lambda r: r["improvement"])
        assert (line["best improvement of h"], line["at γ"]) == (best["improvement"], best["gamma"])
    assert "8 iterations (the paper: 500) on mnist" in drawn.caption and "first 25 training cases" in drawn.caption

    def again(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr(figure_07, "measure", again)
    assert figure_07.draw(Work(tmp_path)).tables["improvements"] == rows
    monkeypatch.setattr(autoencoder_state, "start", lambda work: replace(start, iterations=9))
    with pytest.raises(AssertionError, match="computed again"):
        figure_07.draw(Work(tmp_path))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_picture_shows_what_is_better_above_and_what_is_worse_below(sign):
    improvement = sign * np.full((len(DAMPINGS), len(LENGTHS), 3), 0.5)
    found = {"improvement": improvement, "gammas": np.array([0.1, 1, 10]), "gamma": np.array(0.3)}
    figure = figure_07.picture(found)
    assert isinstance(figure, Figure)
    better, worse = figure.axes
    assert better.get_ylim()[0] == 0 and worse.yaxis_inverted()
    below = [line.get_ydata() for line in worse.lines[: len(DAMPINGS) * len(LENGTHS)]]
    assert np.array_equal(np.isnan(below), np.full((6, 3), sign > 0))


def test_summary_of_curves_that_only_make_h_worse():
    improvement = -np.ones((len(DAMPINGS), len(LENGTHS), 2))
    found = {"improvement": improvement, "alpha": -improvement, "gammas": np.array([0.1, 1])}
    lines = figure_07.summary(figure_07.table(found))
    assert all(line["γ with half of it or more"] == "none" and line["worst"] == -1 for line in lines)
