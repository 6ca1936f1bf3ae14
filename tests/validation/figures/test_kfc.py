"""validation.figures.kfc: the figure in little, and what its table says of made-up runs."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from autodiff.objective import evaluate
from kfac_ref.training import networks
from kfac_ref.training.experiment import prepare
from kfac_ref.training.loop import minibatch
from validation import figures
from validation.figures import classifier, kfc
from validation.figures.palette import DIAGONAL_BLOCKS, EXPAND, FULL_BLOCKS, REDUCE, SGD
from validation.figures.tuning import Grid, Setting
from validation.work import Work


def made_up(seconds, errors):
    k = 10 * np.asarray(seconds)
    return {"k": k, "seconds": np.asarray(seconds), "train": np.asarray(errors), "test": np.asarray(errors)}


def test_what_a_level_takes_is_interpolated():
    run = made_up([1.0, 3.0, 5.0, 7.0], [0.3, 0.1, 0.15, 0.05])
    assert kfc.reached(run, "seconds", "test", 0.2) == pytest.approx(2.0)
    assert kfc.reached(run, "k", "test", 0.2) == pytest.approx(20)
    assert kfc.reached(run, "seconds", "test", 0.1) == pytest.approx(3.0)  # the first time
    assert kfc.reached(run, "seconds", "test", 0.06) == pytest.approx(6.8)
    assert kfc.reached(run, "seconds", "test", 0.4) == 1.0  # no later than the first evaluation
    assert kfc.reached(run, "seconds", "test", 0.01) is None


def test_ratios_are_sgds_over_k_facs():
    runs = {EXPAND: made_up([1.0, 2.0], [0.16, 0.05]), SGD: made_up([4.0, 8.0], [0.16, 0.1])}
    rows = {(row["error"], row["level"], row["optimizer"]): row for row in kfc.ratios(runs)}
    seconds = 1 + (0.16 - 0.13) / (0.16 - 0.05)
    row = rows["test error", 0.13, EXPAND]
    assert row["seconds"] == pytest.approx(seconds) and row["SGD's seconds over these"] == pytest.approx(6 / seconds)
    assert row["SGD's iterations over these"] == pytest.approx(6 / seconds)
    assert row["KFC's claim"] == "3.4 to 4.8"
    # SGD does not get there
    assert ("training error", 0.05, SGD) not in rows
    assert rows["training error", 0.05, EXPAND]["SGD's seconds over these"] is None


def test_layer_norms_stand_before_the_activations():
    network = networks.provisional(kfc._with_layer_norm("fashion16"))
    kinds = [(layer.kind, layer.description().get("activation", "identity")) for layer in network.stages]
    assert kinds[:3] == [("conv", "identity"), ("layer-norm", "relu"), ("average-pool", "identity")]
    assert [kind for kind, _ in kinds].count("layer-norm") == 2
    assert network.likelihood.name == "categorical"


def test_sgds_iterates_are_averaged(tmp_path):
    """θ̄ of few iterations is their mean; errors are of θ̄ and of θ."""
    experiment = kfc._sgd("fashion16", Setting(-2, 0.9))
    found = classifier.run(Work(tmp_path), "sgd", experiment, np.inf, 3)
    p = prepare(experiment)
    state, iterates = p.first_state(), []
    for k in (1, 2, 3):
        state, _ = p.optimizer.step(state, minibatch(p.data, state.seed, k, kfc.SGD_CASES))
        iterates.append(state.parameters)
    mean = [sum(layer) / 3 for layer in zip(*iterates, strict=True)]
    for key, parameters in (("test", mean), ("test_last", state.parameters)):
        error = evaluate(p.network, parameters, p.data.X_test, p.data.Y_test, 0, 1000).misclassified
        assert found[key].tolist() == [pytest.approx(error, abs=0.0021)]  # two of 1000 cases: float32
    assert found["k"].tolist() == [3] and not found["diverged"] and found["seconds"][0] > 0


def test_a_run_that_diverges_is_said_to(tmp_path):
    found = classifier.run(Work(tmp_path), "sgd", kfc._sgd("fashion16", Setting(80, 0.9)), np.inf, 5)
    assert found["diverged"] and len(found["k"]) == 0


def test_the_figure(tmp_path, monkeypatch):
    budget = kfc.Budget(0.3, 0.3, 0.2, Grid((-3, -2), short=2, long=4, kept=1, more=0))
    monkeypatch.setattr(kfc, "QUICK", budget)
    monkeypatch.setattr(classifier, "FIRST", 0.1)
    monkeypatch.setattr(kfc, "LEVELS", {"test": (1.0,), "train": (1.0,)})
    made = figures.make("kfc", Work(tmp_path, quick=True))
    assert [row["optimizer"] for row in made["table"]] == 2 * [EXPAND, REDUCE, SGD]
    assert [row["SGD's seconds over these"] for row in made["table"] if row["optimizer"] == SGD] == [1, 1]
    with open(tmp_path / "kfc-points.csv", encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert {row["optimizer"] for row in points} == {EXPAND, REDUCE, SGD, FULL_BLOCKS, DIAGONAL_BLOCKS}
    assert all(0 <= float(row["test error"]) <= 1 for row in points)
    with open(tmp_path / "kfc-sgd-grid.csv", encoding="utf-8") as file:
        grid = list(csv.DictReader(file))
    (winner,) = [row for row in grid if row["winner"] == "True"]
    assert float(winner["training error"]) == min(float(x["training error"]) for x in grid if x["iterations"] == "4")
    assert f"ε = {float(winner['learning_rate']):g}" in made["caption"]


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch):
    experiment = kfc._sgd("fashion16", Setting(-2, 0.9))
    first = classifier.run(Work(tmp_path), "sgd", experiment, np.inf, 1)
    monkeypatch.setattr(classifier, "prepare", lambda _: pytest.fail("trained again"))
    again = classifier.run(Work(tmp_path), "sgd", experiment, np.inf, 1)
    assert {key: again[key].tolist() for key in again} == {key: np.asarray(first[key]).tolist() for key in again}
    with pytest.raises(pytest.fail.Exception):
        classifier.run(Work(tmp_path), "sgd", dataclasses.replace(experiment, seed=1), np.inf, 1)
