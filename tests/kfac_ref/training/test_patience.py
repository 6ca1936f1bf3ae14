"""Early stopping of runs: the model that was best for held-out cases is kept, however often a run is interrupted."""

from __future__ import annotations

import numpy as np
import pytest

import kfac_ref
from autodiff import evaluate
from kfac_ref.training import runs
from kfac_ref.training.experiment import Experiment, prepare
from kfac_ref.training.models import MODEL
from kfac_ref.training.runs import Plan
from tests.kfac_ref.training.test_runs import go, go_on

PLAN = Plan(iterations=200, evaluate_every=1, patience=6)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Few cases and much noise, so that held-out cases are soon predicted worse."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    path = tmp_path_factory.mktemp("data") / "noisy.npz"
    np.savez(path, X=X, Y=X[:, :1] + rng.standard_normal((60, 1)))
    return str(path)


def make(data, **options):
    return prepare(Experiment(data=data, network=(4, 20, 1), constants={"average_from": 3}, dtype="float64", **options))


def test_the_best_model_is_kept(tmp_path, noisy):
    prepared = make(noisy, validation=0.3)
    run = go(tmp_path, prepared, PLAN)
    lines = runs.read_metrics(tmp_path)
    h = [line.get("test_h_averaged", line["test_h"]) for line in lines]
    best = int(np.argmin(h))
    assert run.exhausted and len(lines) == best + 1 + PLAN.patience < 200
    model = kfac_ref.load(tmp_path)
    assert model.about["iterations"] == lines[best]["k"] == run.best
    held = prepared.data.X_test, prepared.data.Y_test
    found = evaluate(prepared.network, model.parameters, *held, prepared.optimizer.settings.eta)
    assert found.h == pytest.approx(min(h), rel=1e-12)


@pytest.mark.parametrize("after", [1, 4, 9])
def test_an_interrupted_run_keeps_the_same_model(tmp_path, noisy, after):
    go(tmp_path / "whole", make(noisy, validation=0.3), PLAN)
    run = runs.start(tmp_path / "parts", make(noisy, validation=0.3), PLAN)

    def stop(line):
        run.stop = line["k"] == after

    run.train(PLAN, stop)
    go_on(tmp_path / "parts")
    ends = [runs.read_metrics(tmp_path / name) for name in ("whole", "parts")]
    assert [line["h"] for line in ends[0]] == [line["h"] for line in ends[1]]
    whole, parts = (kfac_ref.load(tmp_path / name) for name in ("whole", "parts"))
    for W, V in zip(whole.parameters, parts.parameters, strict=True):
        np.testing.assert_array_equal(W, V)


def test_without_patience_the_last_is_kept(tmp_path, noisy):
    run = go(tmp_path, make(noisy), Plan(iterations=5))
    for W, V in zip(kfac_ref.load(tmp_path).parameters, run.state.averaged, strict=True):
        np.testing.assert_array_equal(W, V)


def test_a_run_that_left_no_model_is_loaded_from_its_checkpoint(tmp_path, noisy):
    run = go(tmp_path, make(noisy), Plan(iterations=5))
    (tmp_path / MODEL).unlink()
    model = kfac_ref.load(tmp_path)
    assert model.network == run.prepared.network and model.purpose == "regression"
    for W, V in zip(model.parameters, run.state.averaged, strict=True):
        np.testing.assert_array_equal(W, V)


def test_patience_needs_held_out_cases(tmp_path, noisy):
    with pytest.raises(ValueError, match="patience needs held-out cases: give --validation"):
        go(tmp_path, make(noisy), PLAN)
    with pytest.raises(ValueError, match="patience must be ≥ 1; got 0"):
        Plan(patience=0)
