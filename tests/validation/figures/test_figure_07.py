"""Figure 7, on a network small enough for dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from kfac_ref import Batch
from kfac_ref.curvature import ekfac
from kfac_ref.curvature.factors import Factors
from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.data.fetching import FetchError
from kfac_ref.optimizer import Diverged
from kfac_ref.training import checkpoints
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
from validation.figures.autoencoder_state import Origin
from validation.figures.figure_07 import DAMPINGS, LENGTHS, Size
from validation.reference_run import experiment
from validation.work import Work

SIZE = Size(cases=25, gammas=(-1.0, 1.0, 3))


def small_origin(monkeypatch, figure, size) -> Origin:
    """A small MNIST with a small network, in float64; `figure` is then drawn on it, of this `size`."""
    X = np.random.default_rng(0).random((60, 6))
    data = Dataset("mnist", X[:50], None, X[50:], None, (2, 3), "bernoulli", False, "made up")
    monkeypatch.setattr(datasets, "load", lambda name, reading=None: data)
    constants = {"m1": 20, "full_batch_at": 30, "tau2": 0.5, "lambda0": 1.0}
    origin = Origin(experiment("mnist", network=(6, 4, 2, 4, 6), constants=constants, dtype="float64"), 8)
    monkeypatch.setattr(autoencoder_state, "origin", lambda work: origin)
    monkeypatch.setattr(figure, "SIZES", {"quick": size, "full": size})
    return origin


@pytest.fixture
def origin(monkeypatch):
    return small_origin(monkeypatch, figure_07, SIZE)


def test_updates_and_improvements_are_those_of_dense_algebra(origin, tmp_path):
    end = autoencoder_state.trained(Work(tmp_path), origin)
    prepared, state = end.prepared, end.state
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


def test_the_state_is_that_of_so_many_iterations(origin, tmp_path):
    end = autoencoder_state.trained(Work(tmp_path), origin)
    prepared = end.prepared
    state = prepared.first_state()
    for k in range(1, 9):
        m = int(20 * 2 ** ((k - 1) * np.log2(50 / 20) / 29))
        X = prepared.data.X[np.random.default_rng([0, 1, k]).choice(50, m, replace=False)]
        state, _ = prepared.optimizer.step(state, Batch(X, X))
    assert end.state.k == 8 and end.state.lam == state.lam
    np.testing.assert_allclose(flatten(end.state.parameters), flatten(state.parameters), rtol=1e-12)
    assert "after 8 iterations" in f"after {end.described()}" and f"{end.error:.4g}" in end.described()


def test_a_run_that_diverges_is_no_state(origin, tmp_path, monkeypatch):
    def diverge(*arguments):
        raise Diverged("h is nan")

    monkeypatch.setattr("kfac_ref.optimizer.KFAC.step", diverge)
    with pytest.raises(Diverged, match="mnist-8"):
        autoencoder_state.trained(Work(tmp_path), origin)


@pytest.mark.parametrize("had", [True, False])
def test_without_mnist_it_is_fashion16(had, monkeypatch, tmp_path):
    def load(name, reading=None):
        if name == "mnist" and not had:
            raise FetchError("no network")
        return Dataset(name, np.zeros((1, 784)), None, None, None, (28, 28), "bernoulli", False, "made up")

    monkeypatch.setattr(datasets, "load", load)
    for quick in (True, False):
        origin = autoencoder_state.origin(Work(tmp_path, quick))
        assert origin.experiment.data == ("mnist" if had else "fashion16")
        assert origin.experiment.constants == ({"lambda0": 1.0} if quick else {})


def test_eigenvalues_below_zero_are_zero():
    basis = ekfac.Eigenbasis([np.array([-1e-9, 2.0])], [np.eye(2)], [np.array([-0.5, 0.0, 1.0])], [np.eye(3)])
    fixed = figure_07.nonnegative(basis)
    assert fixed.s_A[0].tolist() == [0, 2] and fixed.s_G[0].tolist() == [0, 0, 1] and fixed.U_A is basis.U_A


def test_a_checkpoint_of_another_iteration_is_refused(origin, tmp_path):
    work = Work(tmp_path)
    end = autoencoder_state.trained(work, origin)
    path = tmp_path / "runs" / "mnist-8" / "checkpoint.npz"
    checkpoints.save(path, end.prepared.network, replace(end.state, k=7))
    with pytest.raises(ValueError, match=r"checkpoint\.npz is of iteration 7, expected 8"):
        autoencoder_state.trained(work, origin)


def test_what_is_not_positive_definite_or_not_finite_is_left_out(origin, tmp_path):
    end = autoencoder_state.trained(Work(tmp_path), origin)
    A, G = dict(end.state.factors.A), dict(end.state.factors.G)
    A[0, 0] = A[0, 0] - 1.01 * np.linalg.eigvalsh(A[0, 0])[0] * np.eye(len(A[0, 0]))
    state = replace(end.state, factors=Factors(A, G))
    found = figure_07.measure(end.prepared, state, [1e-8, 1.0], cases=25) | {"about": "8 iterations"}
    assert np.isnan(found["improvement"][:2, :, 0]).all() and np.isnan(found["alpha"][:2, :, 0]).all()
    assert np.isfinite(found["improvement"][:, :, 1]).all() and np.isfinite(found["improvement"][2]).all()
    found["improvement"][2, 0, 0] = -np.inf  # as where h overflows
    for line in figure_07.summary(figure_07.table(found)):
        assert np.isfinite(line["best improvement of h"]) and np.isfinite(line["worst"])
    for ax in figure_07.picture(found).axes:
        assert np.isfinite(ax.get_ylim()).all()
    assert "5 of 12 points are left out" in figure_07._caption(found)


def test_draw(origin, tmp_path, monkeypatch):
    drawn = figure_07.draw(Work(tmp_path))
    rows = drawn.tables["improvements"]
    assert len(rows) == len(DAMPINGS) * len(LENGTHS) * 3 and len(drawn.summary) == len(DAMPINGS) * len(LENGTHS)
    for line in drawn.summary:
        curve = [r for r in rows if (r["damping"], r["update"]) == (line["damping"], line["update"])]
        best = max(curve, key=lambda r: r["improvement"])
        assert line["best improvement of h"] == best["improvement"]
        assert line["at γ"] == {0.1: "≤ 0.1", 1: "1", 10: "≥ 10"}[best["gamma"]]
    assert "8 iterations (the paper: 500) on mnist" in drawn.caption and "first 25 training cases" in drawn.caption

    def again(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr(figure_07, "measure", again)
    assert figure_07.draw(Work(tmp_path)).tables["improvements"] == rows
    constants = origin.experiment.constants | {"T3": 19}
    for other in (
        replace(origin, iterations=9),
        replace(origin, experiment=replace(origin.experiment, constants=constants)),
    ):
        monkeypatch.setattr(autoencoder_state, "origin", lambda work, other=other: other)
        with pytest.raises(AssertionError, match="computed again"):
            figure_07.draw(Work(tmp_path))
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"figure_07.npz"}


def test_other_data_or_another_default_is_another_run(origin, monkeypatch):
    before = origin.asdict()
    assert before["experiment"]["constants"]["tau1"] == origin.prepared.optimizer.settings.tau1
    data = datasets.load("mnist")
    monkeypatch.setattr(datasets, "load", lambda name, reading=None: replace(data, X=data.X + 1e-3))
    assert replace(origin).asdict() == before | {"data": replace(origin).asdict()["data"]} != before


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
