"""validation.figures.recurrent and recurrent_blocks: tasks, runs, and both figures in little."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref import KFAC
from kfac_ref.baselines import SGD as NesterovSGD
from kfac_ref.baselines import SGDSettings
from kfac_ref.settings import preset
from kfac_ref.training.loop import minibatch
from validation import figures
from validation.figures import recurrent, recurrent_blocks, recurrent_tasks
from validation.figures.palette import ADAM, INDEPENDENT, SGD, STATIONARY, SYMMETRIC
from validation.figures.tuning import Grid
from validation.work import Work


def test_the_adding_problem():
    X, Y = recurrent_tasks.sums(9, 50, seed=1)
    assert X.shape == (50, 9, 2) and Y.shape == (50, 1)
    for x, y in zip(X, Y, strict=True):
        first, second = np.flatnonzero(x[:, 1])
        assert first < 4 <= second and y == pytest.approx(x[first, 0] + x[second, 0])
    assert not np.array_equal(X, recurrent_tasks.sums(9, 50, seed=2)[0])


def test_a_run(tmp_path):
    """Errors of θ, or of the average of all optimizers' iterates; what is kept is not trained again."""
    task = recurrent_tasks.adding_problem(6, 40, 3)
    made = NesterovSGD(task.network, SGDSettings(learning_rate=0.01, m1=20))
    found = recurrent_tasks.run(Work(tmp_path), task, made, "sgd", [1, 3])
    state, iterates = made.init(task.start()), []
    for k in (1, 2, 3):
        state, _ = made.step(state, minibatch(task.data, 0, k, 20))
        iterates.append(state.parameters)
    assert found["k"].tolist() == [1, 3] and not found["diverged"] and 0 < found["seconds"][0] < found["seconds"][1]
    last = recurrent_tasks._errors(task, state.parameters)
    assert (found["train"][-1], found["test"][-1]) == pytest.approx(last)
    average = iterates[0]
    for k, iterate in enumerate(iterates[1:], start=2):
        state = type(state)(k, iterate, iterate, 0)
        average = recurrent_tasks._averaged(state, average)
    for mean, parts in zip(average, zip(*iterates, strict=True), strict=True):
        np.testing.assert_allclose(mean, sum(parts) / 3, rtol=1e-5, atol=1e-7)
    made.step = None  # type: ignore[method-assign]
    again = recurrent_tasks.run(Work(tmp_path), task, made, "sgd", [1, 3])
    assert again["train"].tolist() == found["train"].tolist()


def test_kfac_has_an_average_of_its_own():
    task = recurrent_tasks.adding_problem(6, 40, 3)
    kfac = KFAC(task.network, preset("authors", lambda0=1.0))
    state = kfac.init(task.start())
    assert recurrent_tasks._averaged(state, []) is state.averaged


def test_a_run_that_diverges_is_said_to(tmp_path):
    task = recurrent_tasks.adding_problem(6, 40, 3)
    made = NesterovSGD(task.network, SGDSettings(learning_rate=1e30, m1=20))
    found = recurrent_tasks.run(Work(tmp_path), task, made, "sgd", [1, 9])
    assert found["diverged"] and len(found["k"]) < 2
    assert recurrent._last(found) == np.inf


def test_the_figure(tmp_path, monkeypatch):
    budget = recurrent.Budget(3, 4, (-6, -5), Grid((-4, -3), short=2, long=4, kept=1, more=0))
    monkeypatch.setattr(recurrent, "QUICK", budget)
    tasks = (recurrent_tasks.adding_problem(6, 60, 3), recurrent_tasks.adding_problem(8, 60, 3))
    easy = [dataclasses.replace(task, levels=(5.0,), name=f"adding {i}") for i, task in enumerate(tasks)]
    monkeypatch.setattr(recurrent, "rows_of_images", lambda quick, units: easy[0])
    monkeypatch.setattr(recurrent, "adding_problem", lambda *size: easy[1])
    made = figures.make("recurrent", Work(tmp_path, quick=True))
    labels = [INDEPENDENT, SYMMETRIC, STATIONARY, ADAM, SGD]
    assert [row["optimizer"] for row in made["table"]] == 2 * labels
    assert all(row["Adam's iterations over these"] == 1 for row in made["table"])  # all begin below the level
    with open(tmp_path / "recurrent-points.csv", encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert {row["optimizer"] for row in points} == set(labels)
    with open(tmp_path / "recurrent-grids.csv", encoding="utf-8") as file:
        grid = list(csv.DictReader(file))
    for task in ("adding 0", "adding 1"):
        for optimizer in (ADAM, SGD):
            rows = [row for row in grid if (row["task"], row["optimizer"]) == (task, optimizer)]
            (winner,) = [row for row in rows if row["winner"] == "True"]
            longest = [float(row["training error"]) for row in rows if row["iterations"] == "4"]
            assert float(winner["training error"]) == min(longest)


def test_blocks_of_a_layer_without_memory_are_exact():
    """Linear, with outputs at each step, and no weights from the state: all three are the block but for the damping."""
    network = Network.of(
        [{"kind": "recurrent", "out": 2, "activation": "identity", "returns": "all", "bias": False}], (5, 3), "gaussian"
    )
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 5))
    W[:, 3:] = 0
    errors = recurrent_blocks.block_errors(ForwardPass(network, [W], rng.standard_normal((40, 5, 3))))
    assert max(errors.values()) < 0.01


def test_the_figure_of_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(recurrent_blocks, "LENGTHS", {True: (3,)})
    monkeypatch.setattr(recurrent_blocks, "TRAINED", {True: (0, 2)})
    monkeypatch.setattr(recurrent_blocks, "UNITS", 3)
    monkeypatch.setattr(recurrent_blocks, "CASES", 60)
    made = figures.make("recurrent-blocks", Work(tmp_path, quick=True))
    assert [(row["task"], row["T"], row["iterations"]) for row in made["table"]] == [
        *(("adding", 3, k) for k in (0, 2)),
        *(("rows", 16, k) for k in (0, 2)),
    ]
    for row in made["table"]:
        errors = {label: row[label] for label in recurrent_blocks.LABELS.values()}
        assert row["nearest"] == min(errors, key=lambda label: errors[label])
