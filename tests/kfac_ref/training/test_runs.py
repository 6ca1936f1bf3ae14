"""kfac_ref.training.runs: interrupted and resumed runs are as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kfac_ref import Diverged, refreshed
from kfac_ref.command import cli
from kfac_ref.training import checkpoints, loop, models, runs
from kfac_ref.training.experiment import Experiment, prepare
from kfac_ref.training.models import MODEL
from kfac_ref.training.runs import CHECKPOINT, METRICS, SETTINGS, Plan
from tests.kfac_ref.training.test_checkpoints import after, assert_same

CONSTANTS = {"m1": 20, "full_batch_at": 20, "eta": 1e-3}
KFAC_CONSTANTS = {"lambda0": 5.0, "T1": 2, "T2": 5, "T3": 7, "average_from": 10}


def save_data(path):
    """Inputs in [0, 1] with something to compress, and test cases."""
    rng = np.random.default_rng(3)
    codes = rng.standard_normal((80, 2))
    X = 1 / (1 + np.exp(-codes @ rng.standard_normal((2, 6))))
    np.savez(path, X=X[:60], X_test=X[60:])
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_data(tmp_path_factory.mktemp("data") / "mine.npz")


def make(data, **options):
    """A tiny autoencoder."""
    constants = CONSTANTS | ({} if options.get("optimizer") == "sgd" else KFAC_CONSTANTS) | options.pop("constants", {})
    return prepare(Experiment(data=data, network=(6, 4, 2, 4, 6), constants=constants, **options))


def go(folder, prepared, plan, report=lambda line: None):
    """A new run, to its end."""
    run = runs.start(folder, prepared, plan)
    run.train(plan, report)
    return run


def go_on(folder, plan=None, before=lambda run: None):
    """The run in `folder` resumed as the command does, from what is in its files alone."""
    experiment, old = runs.read_settings(folder)
    run = runs.resume(folder, prepare(experiment))
    before(run)
    run.train(plan or old, lambda line: None)
    return run


def without_times(lines):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_metrics(lines, expected, extra=()):
    """Equal but for seconds, and for the evaluations at the iterations `extra`."""
    lines, expected = without_times(lines), without_times(expected)
    for line, e in zip(lines, expected, strict=True):
        if line["k"] in extra:
            line = {name: value for name, value in line.items() if name in e}
        assert line == e


# --- resuming ------------------------------------------------------------------------------------------------------

CONFIGURATIONS = [
    {"dtype": dtype, **options}
    for dtype in ("float64", "float32")
    for options in (
        {},
        {"constants": {"inverse": "block-diagonal"}},
        {"constants": {"chunk_size": 9}},
        {"constants": {"chunk_size": 9, "inverse": "block-diagonal", "momentum": False}, "preset": "paper"},
        {"optimizer": "sgd", "constants": {"learning_rate": 0.5}},
        {"optimizer": "sgd", "constants": {"learning_rate": 0.5, "chunk_size": 9}},
    )
]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_resumed_runs_are_the_same_to_the_last_bit(tmp_path, data, options):
    """Interrupted at 7, before averaging begins, and at 13, between two inversions."""
    plan = Plan(iterations=26, evaluate_every=4)
    whole = go(tmp_path / "whole", make(data, **options), plan)
    go(tmp_path / "parts", make(data, **options), Plan(iterations=7, evaluate_every=4))
    go_on(tmp_path / "parts", replace(plan, iterations=13))
    parts = go_on(tmp_path / "parts", plan)
    like = np.zeros(0, dtype=options["dtype"])
    assert parts.state.k == 26
    assert_same(whole.state, parts.state, like)
    assert_same_metrics(runs.read_metrics(parts.folder), runs.read_metrics(whole.folder), extra=(7, 13))
    # what is in the files is what was in memory
    saved, seconds = checkpoints.load(parts.folder / CHECKPOINT, parts.prepared.network, like)
    assert_same(whole.state, saved, like)
    assert seconds == parts.seconds > 0
    assert parts.last == whole.last


def test_another_seed_or_constant_is_another_run(tmp_path, data):
    plan = Plan(iterations=3)
    first = go(tmp_path / "a", make(data), plan).state
    for number, options in enumerate(({"seed": 1}, {"constants": {"m1": 21}}, {"constants": {"eta": 0.1}})):
        other = go(tmp_path / str(number), make(data, **options), plan).state
        assert not np.array_equal(first.parameters[0], other.parameters[0])


def test_refreshed_runs(tmp_path, data):
    plan = Plan(iterations=20)
    go(tmp_path / "a", make(data), replace(plan, iterations=13))
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    def refresh(run):
        run.state = refreshed(run.state)

    plain = go_on(tmp_path / "a", plan).state
    run = go_on(tmp_path / "b", plan, refresh)
    p = make(data)
    begin = after(p.optimizer, p.first_state(), p.data, 13)
    expected = after(p.optimizer, replace(begin, inverse=None, restart=13), p.data, 7)
    assert_same(expected, run.state, p.data.X)
    assert not np.array_equal(plain.parameters[0], run.state.parameters[0])


# --- what is written -----------------------------------------------------------------------------------------------


def test_metrics_can_be_read_while_the_run_goes_on(tmp_path, data):
    folder = tmp_path / "run"
    seen = []

    def report(line):
        lines = runs.read_metrics(folder)
        assert lines[-1] == line and [x["k"] for x in lines] == list(range(1, len(lines) + 1))
        state, _ = checkpoints.load(folder / CHECKPOINT, prepared.network, prepared.data.X)
        seen.append((line["k"], state.k))

    prepared = make(data)
    go(folder, prepared, Plan(iterations=8, save_every=0), report)
    assert seen == [(k, k - 1) for k in range(1, 9)]
    assert sorted(p.name for p in folder.iterdir()) == sorted((CHECKPOINT, METRICS, MODEL, SETTINGS))


def test_metrics_are_json_and_times_rise(tmp_path, data):
    go(tmp_path / "run", make(data), Plan(iterations=9, evaluate_every=4))

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / "run" / METRICS).read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [line["k"] for line in lines] == list(range(1, 10))
    assert [line["k"] for line in lines if "train_error" in line] == [4, 8, 9]
    times = [line["seconds"] for line in lines]
    assert times == sorted(times) and times[0] > 0
    assert lines[-1] == runs.read_metrics(tmp_path / "run")[-1]


def test_evaluations_are_of_the_state_that_is_saved(tmp_path, data):
    prepared = make(data)
    run = go(tmp_path / "run", prepared, Plan(iterations=11, evaluate_every=100))
    state, _ = checkpoints.load(run.folder / CHECKPOINT, prepared.network, prepared.data.X)
    found = loop.evaluate_all(prepared.network, state, prepared.data, CONSTANTS["eta"], 1000)
    line = runs.read_metrics(run.folder)[-1]
    assert {name: line[name] for name in found} == pytest.approx(found, rel=1e-6)
    assert "train_error_averaged" in found


def test_what_is_written_stays_json_when_a_run_diverges(tmp_path, data):
    """An evaluation may overflow before the mini-batch's objective does."""
    prepared = make(data, optimizer="sgd", constants={"learning_rate": 1e25}, likelihood="gaussian")
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        go(tmp_path / "run", prepared, Plan(iterations=50, evaluate_every=1))

    def refuse(name):
        raise AssertionError(f"{name} in {METRICS}")

    for line in (tmp_path / "run" / METRICS).read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    state, _ = checkpoints.load(tmp_path / "run" / CHECKPOINT, prepared.network, prepared.data.X)
    assert all(np.all(np.isfinite(W)) for W in state.parameters)


def test_settings(tmp_path, data):
    prepared = make(data, dtype="float64", constants={"gamma_max": math.inf})
    plan = Plan(iterations=1, seconds=60.0, evaluate_every=3, save_every=0.5)
    go(tmp_path / "deep" / "run", prepared, plan)
    experiment, again = runs.read_settings(tmp_path / "deep" / "run")
    assert again == plan and experiment == prepared.experiment
    values = json.loads((tmp_path / "deep" / "run" / SETTINGS).read_text())
    assert (values["purpose"], values["format"], values["data"]) == ("autoencoder", 1, data)
    assert "mine.npz" in values["source"]


# --- when to stop --------------------------------------------------------------------------------------------------


def test_seconds_bound_a_run(tmp_path, data):
    run = go(tmp_path / "run", make(data), Plan(seconds=0.05))
    lines = runs.read_metrics(run.folder)
    assert lines[-1]["seconds"] >= 0.05 > lines[-2]["seconds"]
    assert "train_error" in lines[-1] and run.state.k == len(lines)


def test_only_training_counts_as_time(tmp_path, data, monkeypatch):
    evaluate_all = loop.evaluate_all

    def slow(*arguments):
        time.sleep(0.2)
        return evaluate_all(*arguments)

    monkeypatch.setattr(loop, "evaluate_all", slow)
    assert go(tmp_path / "run", make(data), Plan(iterations=4, evaluate_every=2)).seconds < 0.2


def test_whichever_comes_first(tmp_path, data):
    assert go(tmp_path / "a", make(data), Plan(iterations=3, seconds=1000.0)).state.k == 3
    assert 1 <= go(tmp_path / "b", make(data), Plan(iterations=10**9, seconds=0.02)).state.k < 10_000


def test_stop_ends_the_run_after_the_iteration_and_evaluates_it(tmp_path, data):
    run = runs.start(tmp_path / "run", make(data), Plan())

    def report(line):
        if line["k"] == 5:
            run.stop = True

    run.train(Plan(), report)
    assert run.state.k == 5
    assert checkpoints.load(run.folder / CHECKPOINT, run.prepared.network, np.zeros(0))[0].k == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"iterations": 0}, "iterations must be ≥ 1; got 0"),
        ({"iterations": -3}, "iterations must be ≥ 1; got -3"),
        *[({"seconds": s}, f"seconds must be finite and > 0; got {s}") for s in (0.0, -1.0, math.inf, math.nan)],
        ({"evaluate_every": 0}, "evaluate_every must be ≥ 1; got 0"),
        ({"threads": 0}, "threads must be ≥ 1; got 0"),
        *[({"save_every": s}, f"save_every must be finite and ≥ 0; got {s}") for s in (-1.0, math.inf, math.nan)],
    ],
    ids=str,
)
def test_plans_that_make_no_sense(options, said):
    with pytest.raises(ValueError) as caught:
        Plan(**options)
    assert str(caught.value) == said


# --- what may be left by a run that was killed ---------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path, data):
    """The folder of a run of 6 iterations."""
    go(tmp_path / "run", make(data), Plan(iterations=6, evaluate_every=4))
    return tmp_path / "run"


@pytest.mark.parametrize("half", ['{"k": 7, "m": 2', "{", '{"k": 7, "m": 20}', "\x00\x00"])
def test_half_a_last_line(finished, half):
    whole = runs.read_metrics(finished)
    with open(finished / METRICS, "a") as file:
        file.write(half)
    assert runs.read_metrics(finished) == whole
    run = go_on(finished, Plan(iterations=8))
    lines = runs.read_metrics(finished)
    assert [line["k"] for line in lines] == list(range(1, 9)) and lines[:6] == whole
    assert run.state.k == 8


def test_metrics_behind_the_checkpoint_are_dropped(tmp_path, finished, data):
    shutil.copy(finished / CHECKPOINT, tmp_path / "old.npz")
    go_on(finished, Plan(iterations=12))
    shutil.copy(tmp_path / "old.npz", finished / CHECKPOINT)
    go_on(finished, Plan(iterations=9))
    assert [line["k"] for line in runs.read_metrics(finished)] == list(range(1, 10))
    expected = go(tmp_path / "whole", make(data), Plan(iterations=9, evaluate_every=100))
    assert_same_metrics(runs.read_metrics(finished), runs.read_metrics(expected.folder), extra=(4, 6))


def test_temporary_files_of_a_killed_run_go(finished):
    for name in (CHECKPOINT, METRICS, SETTINGS):
        (finished / f".{name}.part").write_bytes(b"half")
    go_on(finished, Plan(iterations=7))
    left = {p.name for p in finished.iterdir() if p.name != ".lock"} - {CHECKPOINT, METRICS, MODEL, SETTINGS}
    assert left <= {f".{SETTINGS}.part"}


@pytest.mark.parametrize("written", range(5))
def test_a_run_that_was_killed_while_it_started(tmp_path, data, monkeypatch, written):
    """Whichever files were written, the same command starts it again, or it can be resumed."""
    folder = tmp_path / "run"

    class Killed(BaseException):
        pass

    def stop_after(function):
        def wrapped(*arguments, **options):
            if len(list(folder.iterdir() if folder.exists() else ())) >= written:
                raise Killed
            return function(*arguments, **options)

        return wrapped

    prepared, plan = make(data), Plan(iterations=3)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_text", stop_after(runs.write_text))
        patch.setattr(runs.checkpoints, "save", stop_after(runs.checkpoints.save))
        patch.setattr(models.Model, "save", stop_after(models.Model.save))
        try:
            runs.start(folder, prepared, plan)
        except Killed:
            assert written < 4
        else:
            assert written == 4
    run = go_on(folder) if (folder / SETTINGS).exists() else go(folder, prepared, plan)
    assert run.state.k == 3


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_not_written_to(finished, data):
    before = {p.name: p.read_bytes() for p in finished.iterdir() if p.name != ".lock"}
    with pytest.raises(ValueError, match=r"holds a run already; .*--resume"):
        runs.start(finished, make(data), Plan())
    assert {p.name: p.read_bytes() for p in finished.iterdir() if p.name != ".lock"} == before


def test_a_folder_with_other_files_may_be_used(tmp_path, data):
    (tmp_path / "notes").write_text("mine")
    assert go(tmp_path, make(data), Plan(iterations=1)).state.k == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"k": 1}\nnonsense\n', "line 2: not a record of an iteration ('nonsense')"),
        ("[1]\n", "line 1: not a record"),
        ('{"m": 1}\n', "line 1: not a record"),
        ('{"k": null}\n', "line 1: not a record"),
        ('{"k": Infinity}\n', "line 1: not a record"),
        ("3\n", "line 1: not a record"),
        ("\n", "line 1: not a record"),
        (b"\xff\xfe\x00\n", METRICS),
    ],
    ids=str,
)
def test_metrics_that_are_none(tmp_path, content, said):
    (tmp_path / METRICS).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        runs.read_metrics(tmp_path)
    assert said in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_of_another_optimizer(tmp_path, data):
    """As when files of two runs were mixed up."""
    go(tmp_path / "kfac", make(data), Plan(iterations=1))
    go(tmp_path / "sgd", make(data, optimizer="sgd"), Plan(iterations=1))
    shutil.copy(tmp_path / "kfac" / CHECKPOINT, tmp_path / "sgd" / CHECKPOINT)
    with pytest.raises(ValueError, match="checkpoint"):
        go_on(tmp_path / "sgd", Plan(iterations=3))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s | {"format": 2},
        lambda s: [],
        lambda s: {k: v for k, v in s.items() if k != "data"},
        lambda s: {k: v for k, v in s.items() if k != "plan"},
        lambda s: s | {"plan": {"iterations": "10"}},
        lambda s: s | {"plan": {"iterations": 10, "until": 3}},
        lambda s: s | {"plan": {"iterations": 0}},
        lambda s: s | {"network": 6},
        lambda s: s | {"constants": []},
    ],
    ids=range(9),
)
def test_settings_that_are_none(finished, change):
    path = finished / SETTINGS
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError) as caught:
        runs.read_settings(finished)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


# --- kill -9 -------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment(tmp_path, data):
    """Twenty times, from the first moment of the process until it saves, and each time gone on with."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "run"
    iterations = 100_000
    options = ["--network", "6-4-2-4-6", "--iterations", str(iterations), "--evaluate-every", "7", "--save-every", "0"]
    for name, value in (CONSTANTS | KFAC_CONSTANTS).items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    prepared = make(data)
    reached = [0]
    for number in range(20):
        if (folder / SETTINGS).exists():
            arguments = ["--resume", str(folder)]
        else:
            arguments = ["--data", data, "--out", str(folder), *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "kfac_ref.command.cli", "train", *arguments],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            if number % 4 == 0:  # any moment of loading and starting
                time.sleep(rng.uniform(0.0, 0.8))
            else:  # any moment of iterating and saving
                until = time.monotonic() + 20
                while time.monotonic() < until and process.poll() is None and not moved_on(folder, reached[-1]):
                    time.sleep(0.002)
                time.sleep(rng.uniform(0.0, 0.05))
        finally:
            process.kill()
            _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said.decode()
        if (folder / SETTINGS).exists():
            runs.read_settings(folder)
            state, seconds = checkpoints.load(folder / CHECKPOINT, prepared.network, prepared.data.X)
            lines = runs.read_metrics(folder)
            assert [line["k"] for line in lines[: state.k]] == list(range(1, state.k + 1))
            assert state.k >= reached[-1] and seconds >= 0
            reached.append(state.k)
    assert reached[-1] > 20
    state = go_on(folder, Plan(iterations=reached[-1] + 20)).state
    assert_same(after(prepared.optimizer, prepared.first_state(), prepared.data, state.k), state, prepared.data.X)


def moved_on(folder, k):
    """Whether metrics of an iteration after k are there."""
    try:
        return runs.read_metrics(folder)[-1]["k"] > k + 1
    except (IndexError, ValueError):
        return False


def test_two_at_once_in_one_folder(tmp_path):
    with (
        runs.at_work(tmp_path),
        pytest.raises(ValueError, match="another kfac-ref is at work in"),
        runs.at_work(tmp_path),
    ):
        pass
    with runs.at_work(tmp_path):  # free again
        pass


def test_new_folders_are_numbered(tmp_path):
    names = [runs.next_folder(tmp_path / "runs", "fashion16").name for _ in range(3)]
    assert names == ["fashion16-1", "fashion16-2", "fashion16-3"]


def test_a_finished_run_without_pictures_is_drawn(tmp_path, data):
    """As when it was killed after its last checkpoint and before its pictures."""
    go(tmp_path, make(data), Plan(iterations=2, evaluate_every=1))
    assert cli.main(["train", "--resume", str(tmp_path)]) == 0
    assert (tmp_path / "curve.png").is_file()
    assert cli.main(["train", "--resume", str(tmp_path)]) == 2


def test_data_that_moved_may_be_given_anew(tmp_path, data):
    go(tmp_path / "run", make(data), Plan(iterations=2))
    moved = Path(data).rename(tmp_path / "moved.npz")
    resume = ["train", "--resume", str(tmp_path / "run"), "--iterations", "3"]
    assert cli.main(resume) == 2
    assert cli.main([*resume, "--data", str(moved)]) == 0
    assert [line["k"] for line in runs.read_metrics(tmp_path / "run")] == [1, 2, 3]
    assert cli.main([*resume[:-1], "4"]) == 0  # the new place is remembered
