"""The preset `quick` beside `authors`: by counted work on real data, and what the figure says of made-up runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, prepare
from validation import figures
from validation.benchmark import flops
from validation.figures import presets
from validation.figures.presets import TASKS
from validation.work import Work


def test_quick_needs_a_third_of_the_work_to_an_error_of_the_authors():
    """On the packaged images, until the test error is that which the authors' constants have after 120 iterations."""

    def after(preset, done):
        p = prepare(Experiment(preset=preset, constants={}))
        work = 0.0
        for state, record, _ in loop.iterate(p.optimizer, p.first_state(), p.data):
            work += sum(flops.iteration(p.network.sizes, record.m, p.optimizer.settings, state.k).values())
            if state.k % 10 == 0:
                error = loop.evaluate_all(p.network, state, p.data, 0.0, 5000)["test_error"]
                if done(state.k, error):
                    return work, error

    authors, level = after("authors", lambda k, error: k == 120)
    quick, error = after("quick", lambda k, error: error <= level or k == 120)
    assert error <= level and quick < authors / 3


def made_up(errors):
    return {"k": np.array([10, 20, 30]), "seconds": np.array([1.0, 2.0, 3.0])} | errors


def test_rows_ask_when_each_first_has_the_authors_last_error():
    authors = made_up({"last": np.array([0.5, 0.2, 0.3]), "averaged": np.array([0.6, 0.5, 0.4])})
    quick = made_up({"last": np.array([0.4, 0.3, 0.1]), "averaged": np.array([0.9, 0.8, 0.7])})
    quick["seconds"] = quick["seconds"] / 2
    last, averaged = presets.rows(TASKS[0], {"authors": authors, "quick": quick})
    assert (last["authors: at the end"], last["quick: at the end"]) == (0.3, 0.1)
    assert (last["authors: seconds"], last["quick: seconds"], last["iterations"]) == (3.0, 1.5, 30)
    # theirs is there at 0.2 already
    assert last["authors: seconds to the authors' last"] == 2.0 and last["quick: seconds to the authors' last"] == 1.0
    assert last["ratio"] == 0.5 and averaged["ratio"] is None
    assert averaged["authors: seconds to the authors' last"] == 3.0


def test_the_figure(tmp_path, monkeypatch):
    """The errors at the end are those of the run that the command makes; data of scikit-learn are standardised."""
    small = [replace(task, quick=3) for task in TASKS if task.data in ("fashion16", "friedman1")]
    monkeypatch.setattr(presets, "TASKS", small)
    monkeypatch.setattr(presets, "EVALUATIONS", 2)
    made = figures.make("presets", Work(tmp_path, quick=True))
    assert [(row["data"], row["test error of"]) for row in made["table"]] == [
        (task.name, of) for task in small for of in ("θ", "θ̄")
    ]
    p = prepare(Experiment(preset="quick", constants={}))
    steps = loop.iterate(p.optimizer, p.first_state(), p.data)
    for _ in range(3):
        state, _, _ = next(steps)
    found = loop.evaluate_all(p.network, state, p.data, 0.0, 5000)
    assert made["table"][0]["quick: at the end"] == pytest.approx(found["test_error"], rel=1e-5)
    with np.load(tmp_path / "data" / "friedman1.npz") as data:
        np.testing.assert_allclose(data["X"].std(0), 1)
        assert abs(data["Y"].mean()) < 1e-12 and len(data["X_test"]) == 250
    again = presets.draw(Work(tmp_path, quick=True))  # from what was kept
    assert [dict(row) for row in again.summary] == made["table"]
