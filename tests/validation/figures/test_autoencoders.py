"""The runs of figures 10 and 11, and what is drawn of them, on a small stand-in for MNIST."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.data.fetching import FetchError
from kfac_ref.training import experiment
from validation import figures, reference_run, work
from validation.figures import autoencoders, figure_10
from validation.figures.autoencoders import KFAC, Budget
from validation.figures.palette import CONSTANT_M, PRESET_QUICK, SGD
from validation.figures.tuning import Grid, Setting
from validation.work import Trained, Work

GRID = Grid((-5, -4, -3), short=4, long=8, kept=1, more=2)


@pytest.fixture(scope="module")
def small():
    """A small MNIST, no other data, small networks, and few iterations."""
    X = np.random.default_rng(0).random((120, 784), dtype=np.float32)
    data = Dataset("mnist", X[:100], None, X[100:], None, (28, 28), "bernoulli", False, "made up")

    def load(name, reading=None):
        if name != "mnist":
            raise FetchError(f"{name} is not to be had")
        return data

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "load", load)
        patched.setitem(experiment.AUTOENCODERS, "mnist", (784, 12, 3, 12, 784))
        patched.setattr(autoencoders, "FULL", {"mnist": Budget(50, 25, 5, GRID)})
        yield


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """Where all was trained."""
    folder = tmp_path_factory.mktemp("figures")
    autoencoders.compared(Work(folder))
    return folder


def test_runs_as_the_authors_and_sgd_as_long(folder):
    (one,) = autoencoders.compared(Work(folder))
    assert one.name == "mnist" and list(one.runs) == [*KFAC.values(), PRESET_QUICK, CONSTANT_M, SGD]
    for inverse in KFAC:
        described, _ = json.loads((folder / f"runs/mnist-kfac-{inverse}-50/request.json").read_text())
        expected = reference_run.experiment("mnist", constants={"inverse": inverse}).asdict()
        assert described == json.loads(json.dumps(expected))
    again = reference_run.train("mnist", 50, seed=0, constants={"inverse": "block-diagonal"})
    lines = one.runs[KFAC["block-diagonal"]].lines
    assert [x["k"] for x in lines if "train_error" in x] == [25, 50]
    assert again.rows[0]["train_error"] == pytest.approx(lines[49]["train_error"], rel=1e-4)
    given = max(one.runs[label].lines[-1]["seconds"] for label in KFAC.values())
    for label in (PRESET_QUICK, CONSTANT_M, SGD):
        assert one.runs[label].lines[-1]["seconds"] >= given > one.runs[label].lines[-2]["seconds"]
    assert {line["m"] for line in one.runs[CONSTANT_M].lines} == {100}


def test_what_is_there_is_not_trained_again(folder, monkeypatch):
    monkeypatch.setattr(work, "prepare", lambda _: pytest.fail("trained again"))
    assert autoencoders.compared(Work(folder)) == autoencoders.compared(Work(folder))


def test_no_checkpoints_are_left(folder):
    assert not list(folder.rglob("checkpoint.npz"))


def test_a_run_that_diverges_has_no_error(small, tmp_path):
    error = autoencoders.short_run(Work(tmp_path), "mnist", Setting(80, 0.9), 5)
    assert error == math.inf
    assert autoencoders.short_run(Work(tmp_path), "mnist", Setting(80, 0.9), 5) == math.inf


def test_without_mnist_another_set_is_trained(monkeypatch, tmp_path):
    def load(name, reading=None):
        raise FetchError(f"{name} is not to be had")

    monkeypatch.setattr(datasets, "load", load)
    monkeypatch.setattr(autoencoders, "_compared", lambda work, name, budget: name)
    assert autoencoders.compared(Work(tmp_path, quick=True)) == autoencoders.compared(Work(tmp_path)) == ["fashion16"]


def test_cases_and_what_was_before_the_step():
    lines = [{"k": 1, "m": 10, "seconds": 0.5}, {"k": 2, "m": 12, "seconds": 0.9}]
    first, second = autoencoders.with_sums(Trained(lines, False))
    assert (first["k_before"], first["seconds_before"], first["cases_before"], first["cases"]) == (0, 0, 0, 10)
    assert (second["k_before"], second["seconds_before"], second["cases_before"], second["cases"]) == (1, 0.5, 10, 22)


def test_errors_at_equal_seconds():
    curve = ([1.0, 3.0, 4.0], [100.0, 1.0, 0.5])
    assert figure_10.error_at(curve, 2.0) == pytest.approx(10)
    assert figure_10.seconds_to(curve, 1.0) == 3.0 and figure_10.seconds_to(curve, 0.1) is None


def test_both_figures(folder):
    ten, eleven = (figures.make(name, Work(folder)) for name in ("10", "11"))
    by_label = {row["optimizer"].split(",")[0]: row for row in ten["table"]}
    assert by_label["SGD"]["ratio to SGD's"] == 1 and len(ten["table"]) == 5
    ours = {(row["optimizer"], row["iteration"]): row for row in eleven["table"]}
    assert set(ours) == {(label, 50) for label in KFAC.values()}
    row = ours[KFAC["block-diagonal"], 50]
    assert row["authors"] == pytest.approx(49.08) and row["ratio"] == pytest.approx(row["ours"] / row["authors"])
    with open(folder / "figure_10-sgd-grid.csv", encoding="utf-8") as file:
        grid = list(csv.DictReader(file))
    (winner,) = [x for x in grid if x["winner"] == "True"]
    assert float(winner["train_error"]) == min(float(x["train_error"]) for x in grid if x["iterations"] == "8")
    assert "made up" in ten["caption"] and (folder / "figure_11-points.csv").is_file()
