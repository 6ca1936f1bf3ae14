"""The command from end to end, on small networks and data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.image import imread

from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.data.fetching import FetchError
from kfac_ref.training import experiment
from validation import benchmark
from validation.benchmark import methods, problems, processes, rounds, scaling, stages
from validation.benchmark.stages import STAGES

SIZES = (20, 12, 3, 12, 20)


@pytest.fixture
def small(monkeypatch):
    """Small networks and data in place of those of §13, and small matrices."""
    X = np.random.default_rng(0).random((1200, SIZES[0]), dtype=np.float32)

    def load(name, reading=None):
        return Dataset(name, X, None, X[:100], None, (4, 5), "bernoulli", False, "made up")

    monkeypatch.setattr(datasets, "load", load)
    for name in problems.NETWORKS:
        monkeypatch.setitem(experiment.AUTOENCODERS, name, SIZES)
    monkeypatch.setattr(methods, "SIDE", 64)
    monkeypatch.setattr(processes, "memory", lambda data, inverse, m: 100_000_000)
    monkeypatch.setattr(processes, "start", lambda data: 2.5)
    axes = {axis: {n: ((8, n, n, 8), 2 * n) for n in (4, 8, 16)} for axis in scaling.AXES}
    monkeypatch.setattr(scaling, "AXES", axes)


@pytest.fixture
def peer(monkeypatch):
    """Another side that takes half a second for everything, and what it was asked with."""
    asked = []

    class Fake:
        compile_seconds = 7.5
        versions = {"jax": "0.9.1", "device": "cpu"}  # noqa: RUF012

        def __init__(self, python):
            asked.append(python)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def prepare(self, *arguments):
            asked.append(arguments)

        def begin(self, options, minibatches):
            asked.append((options, minibatches))

        def gradient(self, count):
            return [0.5] * count

        sgd = kfac = gradient

        def peak_memory(self):
            return 400_000_000

    for module in (benchmark, processes):
        monkeypatch.setattr(module, "Peer", Fake)
    return asked


def test_quick(small, peer, tmp_path, capsys):
    out = tmp_path / "all.json"
    assert benchmark.main(["--quick", "--peers", "python", "--out", str(tmp_path), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "beside: jax 0.9.1, device cpu" in printed
    assert printed.count("paper, block-diagonal") >= 4 and "kfac-jax" in printed and "7.5 s" in printed
    assert imread(tmp_path / "stages-mnist.png").shape[0] > 200
    found = json.loads(out.read_text())
    (group,) = found["measured"]["groups"]
    # 60 iterations of each method, after the first 20
    assert {len(measured["rows"]) for measured in group["measured"].values()} == {60}
    assert {name.split(",")[0] for name in group["measured"]} >= {"paper", "authors", "whole", "gradient", "SGD"}
    for row in group["measured"]["whole, block-tridiagonal"]["rows"]:
        assert sum(row[stage] for stage in STAGES) == pytest.approx(row["seconds"])
    assert [row["layer"].split(" ", 1)[0] for row in group["layers"]] == ["1", "2", "3", "4", stages.REST]
    assert "Milliseconds of the bare gradient by layer" in printed
    # inverses at iterations 40, 60 and 80 alone
    inverse = [row["inverse"] for row in group["measured"]["paper, block-tridiagonal"]["rows"]]
    assert set(np.argsort(inverse)[-3:]) == {19, 39, 59}
    ratios = {row["what"]: row for row in found["tables"]["Ratios"]}
    memory = next(row for what, row in ratios.items() if "peak memory" in what)
    assert memory["ratio"] == pytest.approx(0.25)
    # once with all cases, for the memory, and then with a mini-batch
    handed = [arguments for arguments in peer if len(arguments) == 5]
    assert [X.shape for _, _, _, X, _ in handed] == [(1200, SIZES[0]), (1000, SIZES[0])]
    assert peer[2] == ({}, [(1, 1000)])
    sizes, activations, likelihood, _, parameters = handed[1]
    assert (sizes, likelihood) == (SIZES, "bernoulli")
    assert activations == ["logistic", "identity", "logistic", "identity"] and len(parameters) == 4


def test_scaling_alone(small, tmp_path, capsys):
    assert benchmark.main(["--only", "scaling", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "How seconds an iteration grow" in printed and "Ratios" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["scaling.png"]


def test_without_data_random_cases_serve(small, monkeypatch, capsys):
    here = datasets.load

    def load(name, reading=None):
        if name == "faces":
            raise FetchError("no network")
        if name.endswith(".npz"):
            monkeypatch.undo()
            return datasets.load(name, reading)
        return here(name)

    monkeypatch.setattr(datasets, "load", load)
    monkeypatch.setitem(experiment.AUTOENCODERS, "faces", SIZES)
    problem = problems.load("faces", "numpy")
    assert problem.made_up and problem.network.likelihood.name == "gaussian"
    assert problem.data.X.shape == (8000, SIZES[0])


def test_the_sequence_of_rounds(small):
    """Methods take turns, and what comes before is not kept."""
    done = []

    def method(name):
        def run(count, split):
            done.append((name, count, split))
            return [{"seconds": 1.0}] * count

        return run

    rows = rounds._in_turn({"a": method("a"), "b": method("b")}, 2, False, lambda: None)
    assert done == [("a", 5, False), ("b", 5, False)] * 8 and {name: len(x) for name, x in rows.items()} == {
        "a": 40,
        "b": 40,
    }


def test_on_another_device_stages_are_told_apart_in_a_cycle_of_their_own(small, monkeypatch):
    problem = problems.load("curves", "numpy")
    monkeypatch.setattr(rounds, "is_numpy", lambda x: False)
    group = rounds.measure(problem, 50, ("paper",), None, 1, lambda: None)
    measured = group.measured["paper, block-diagonal"]
    assert [list(row) for row in measured.rows] == [["seconds"]] * 20
    assert [list(row) for row in measured.split] == [["seconds", *STAGES]] * 20


@pytest.mark.parametrize("wrong", [["--only", "cats"], ["--backend", "jax"], ["more"]])
def test_bad_input(wrong, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(wrong)
    assert "error" in capsys.readouterr().err


def test_subnormals(small, capsys):
    assert benchmark.main(["--subnormals", "5", "--only", "faces", "curves"]) == 0
    heading, table = capsys.readouterr().out.split("\n\n")
    assert heading.startswith("kfac-ref ")
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["faces"] * 4 + ["curves"] * 4
    with pytest.raises(ValueError, match=r"--subnormals must be ≥ 1; got 0"):
        benchmark.main(["--subnormals", "0"])
