"""Influence scores beside retraining, and beside kronfluence's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from autodiff.network import Parameters
from validation import influence
from validation.peers.influence_cases import BOUND, CASES, DAMPINGS, KINDS, Setting, distance, made, ours

RECORDED = Path(__file__).parent / "recorded" / "kronfluence_scores.npz"
"""By `python -m validation.peers.kronfluence_scores --record FILE` with kronfluence 1.0.1."""


@pytest.fixture(scope="module")
def problem() -> tuple:
    return influence.problem(25, 6)


def test_the_minimum_is_that_of_another_method(problem: tuple) -> None:
    """L-BFGS on the sum over the cases that are left, divided by N, with η."""
    network, X, Y, *_ = problem
    start = [np.zeros(shape) for shape in network.shapes]
    kept = np.arange(len(X)) != 3

    def objective(theta: np.ndarray) -> float:
        W = theta.reshape(network.shapes[0])
        z = X @ W[:, :-1].T + W[:, -1]
        losses = np.log(np.exp(z).sum(axis=1)) - np.sum(Y * z, axis=1)
        return float(losses[kept].sum() / len(X) + influence.ETA / 2 * np.sum(theta**2))

    found = influence.minimum(network, X, Y, start, without=3)[0]
    other = minimize(objective, np.zeros(found.size), method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    np.testing.assert_allclose(found.ravel(), other.x, atol=2e-5)
    assert objective(found.ravel()) <= other.fun + 1e-14


def test_scores_rank_cases_as_leaving_them_out_does(problem: tuple) -> None:
    """The exact Hessian nearly as retraining does, EKFAC and K-FAC nearly as it; gradients alone much worse."""
    rows = {row["matrix"]: row["median"] for row in influence.table(*problem)}
    assert rows["F itself"] > 0.97
    assert min(rows["EKFAC"], rows["K-FAC"]) > 0.85 > rows["I, gradients alone"]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert influence.main(["--cases", "12", "--queries", "3"]) == 0
    assert "rank correlation" in capsys.readouterr().out


def recorded(case: str) -> tuple[Parameters, tuple[np.ndarray, ...]]:
    """Its parameters and its data, as they were."""
    with np.load(RECORDED) as archive:
        W = [archive[f"{case}/W{i}"] for i in range(1, len(made(case)[1]) + 1)]
        return W, tuple(archive[f"{case}/{name}"] for name in ("X", "Y", "sampled"))


@pytest.mark.parametrize("case", CASES)
def test_kronfluence_as_it_was_recorded(case: str) -> None:
    """Its scores are ours, in its conventions: see `influence_cases.ours`."""
    for kind in KINDS:
        for setting in (Setting(*kind, damping) for damping in DAMPINGS):
            with np.load(RECORDED) as archive:
                theirs = archive[f"{case}/{setting}"]
            assert distance(theirs, ours(case, setting, recorded(case))) < BOUND, setting


def test_kronfluence_as_it_is() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("kronfluence")
    from validation.peers.kronfluence_scores import scores

    for (case, setting), theirs in scores("convolution", "ekfac", "sampled").items():
        assert distance(theirs, ours(case, setting)) < BOUND
