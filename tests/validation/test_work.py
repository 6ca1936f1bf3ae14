"""The folder in which evidence is kept: nothing is computed twice, nothing stale is used."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kfac_ref.data.fetching import FetchError
from kfac_ref.training import checkpoints, runs
from kfac_ref.training.experiment import Experiment, prepare
from kfac_ref.training.runs import Plan
from validation.work import Work, first_to_be_had, machine

EXPERIMENT = Experiment(data="fashion16", network=(256, 8, 4, 8, 256), constants={"m1": 100, "full_batch_at": None})


def test_kept_computes_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"x": np.arange(3), "name": "a"}

    first = Work(tmp_path).kept("thing", {"n": 3, "gamma": 0.1}, compute)
    again = Work(tmp_path).kept("thing", {"gamma": 0.1, "n": 3}, compute)
    assert len(calls) == 1 and np.array_equal(again["x"], first["x"]) and str(again["name"]) == "a"


@pytest.mark.parametrize("spoil", ["settings", "damaged", "foreign"])
def test_kept_computes_again_what_is_not_the_same(tmp_path, spoil):
    work = Work(tmp_path)
    work.kept("thing", {"n": 3}, lambda: {"x": 1.0})
    path = tmp_path / "kept" / "thing.npz"
    if spoil == "damaged":
        path.write_bytes(path.read_bytes()[:50])
    if spoil == "foreign":
        np.savez(path, x=1.0)
    settings = {"n": 4 if spoil == "settings" else 3}
    assert work.kept("thing", settings, lambda: {"x": 2.0})["x"] == 2.0


def test_nothing_is_kept_of_what_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Work(tmp_path).kept("thing", {}, lambda: {"x": 1 // 0})
    assert Work(tmp_path).kept("thing", {}, lambda: {"x": 2.0})["x"] == 2.0


def test_a_finished_run_is_read_and_a_longer_one_begins_anew(tmp_path, monkeypatch):
    work, plan = Work(tmp_path), Plan(iterations=4, evaluate_every=2)
    first = work.train("a", EXPERIMENT, plan)
    assert [line["k"] for line in first.lines] == [1, 2, 3, 4] and not first.diverged
    assert [line["k"] for line in first.lines if "train_error" in line] == [2, 4]
    monkeypatch.setattr("validation.work.prepare", lambda experiment: pytest.fail("trained again"))
    assert work.train("a", EXPERIMENT, plan).lines == first.lines
    monkeypatch.undo()
    longer = work.train("a", EXPERIMENT, Plan(iterations=5, evaluate_every=2)).lines
    assert [line["h"] for line in longer[:4]] == [line["h"] for line in first.lines] and len(longer) == 5


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    plan = Plan(iterations=6, evaluate_every=2)
    whole = Work(tmp_path / "whole").train("a", EXPERIMENT, plan).lines
    advance, seen = "validation.work.reporting.advance", []

    def stop(bar, plan, line):
        seen.append(line["k"])
        if line["k"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(advance, stop)
    with pytest.raises(KeyboardInterrupt):
        Work(tmp_path / "stopped").train("a", EXPERIMENT, plan)
    monkeypatch.setattr(advance, lambda bar, plan, line: seen.append(line["k"]))
    lines = Work(tmp_path / "stopped").train("a", EXPERIMENT, plan).lines
    assert seen == [1, 2, 3, 4, 5, 6] and [line["h"] for line in lines] == [line["h"] for line in whole]


def test_a_run_killed_before_its_last_checkpoint_is_not_finished(tmp_path, monkeypatch):
    plan, folder = Plan(iterations=4, evaluate_every=2), tmp_path / "runs" / "a"
    save = runs.Run.save

    def killed(run):
        if run.state.k:
            raise KeyboardInterrupt
        save(run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs.Run, "save", killed)
        Work(tmp_path).train("a", EXPERIMENT, plan)
    first = runs.read_metrics(folder)
    again = Work(tmp_path).train("a", EXPERIMENT, plan)
    prepared = prepare(EXPERIMENT)
    state, _ = checkpoints.load(folder / runs.CHECKPOINT, prepared.network, prepared.data.X)
    assert state.k == 4 and [line["h"] for line in again.lines] == [line["h"] for line in first]


def test_a_run_that_diverges_says_so_both_times(tmp_path, monkeypatch):
    experiment = Experiment(
        data="fashion16",
        network=(256, 8, 256),
        likelihood="gaussian",
        optimizer="sgd",
        constants={"learning_rate": 1e6, "m1": 50},
    )
    for _ in range(2):
        trained = Work(tmp_path).train("wild", experiment, Plan(iterations=200))
        assert trained.diverged and len(trained.lines) < 200
        monkeypatch.setattr("validation.work.prepare", lambda experiment: pytest.fail("trained again"))


def test_a_part_says_how_it_was_made(tmp_path):
    work = Work(tmp_path, quick=True)
    made = work.part("thing", "figures 2 --quick", lambda: {"caption": "é"})
    assert work.made("thing") == made == json.loads((tmp_path / "thing.json").read_text(encoding="utf-8"))
    assert made["command"] == "python -m validation figures 2 --quick" and made["caption"] == "é"
    assert made["seconds"] >= 0 and made["machine"] == machine()


def test_a_part_of_the_other_kind_or_damaged_is_none(tmp_path):
    Work(tmp_path, quick=True).part("thing", "theorems", dict)
    assert Work(tmp_path).made("thing") is None and Work(tmp_path).made("other") is None
    (tmp_path / "thing.json").write_text("[", encoding="utf-8")
    assert Work(tmp_path, quick=True).made("thing") is None


def test_the_machine_names_the_blas():
    assert np.__version__ in machine() and "openblas" in machine().lower()


def test_the_folder_of_a_run_is_one_that_the_command_knows(tmp_path):
    Work(tmp_path).train("a", EXPERIMENT, Plan(iterations=2))
    experiment, plan = runs.read_settings(tmp_path / "runs" / "a")
    assert experiment.network == EXPERIMENT.network and plan.iterations == 2


def test_the_first_data_that_are_to_be_had(monkeypatch):
    def load(name, reading=None):
        if name == "far":
            raise FetchError("no network")
        return name

    monkeypatch.setattr("validation.work.datasets.load", load)
    assert first_to_be_had("near", "far") == first_to_be_had("far", "near") == "near"
    with pytest.raises(FetchError, match="no network"):
        first_to_be_had("far", "far")
