"""Reference runs, on a small stand-in for MNIST; the authors' figures are what spec and paper quote of them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from kfac_ref import Batch, Diverged
from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.training import experiment, runs
from validation import __main__, reference_run
from validation.work import Trained, Work


@pytest.fixture
def small(monkeypatch):
    """A small MNIST, and a small network in place of that of §13."""
    X = np.random.default_rng(0).random((120, 784), dtype=np.float32)
    data = Dataset("mnist", X[:100], None, X[100:], None, (28, 28), "bernoulli", False, "made up")
    monkeypatch.setattr(datasets, "load", lambda name, reading=None: data)
    monkeypatch.setitem(experiment.AUTOENCODERS, "mnist", (784, 12, 3, 12, 784))
    return data


def test_the_authors_training_errors():
    errors = {row["k"]: row["train_error"] for row in reference_run.authors_run("mnist").rows}
    quoted = {50: 49.08, 100: 23.58, 150: 8.23, 200: 4.35, 500: 0.987, 1500: 0.604}
    for k, error in quoted.items():
        assert errors[k] == pytest.approx(error, rel=2e-3)


@pytest.mark.parametrize("name", ["mnist", "curves", "faces"])
def test_the_authors_files_are_whole(name):
    run = reference_run.authors_run(name)
    rows = run.rows
    assert [row["k"] for row in run.minibatches] == list(range(1, 1501))
    assert [row["k"] for row in rows] == list(range(50, 50 * len(rows) + 1, 50)) and rows[-1]["k"] >= 1500
    assert all(0 < row[e] < 1e3 for row in rows for e in reference_run.ERRORS)


def test_a_run_is_what_the_authors_preset_and_network_make(small):
    run = reference_run.train("mnist", 60, seed=3, constants={"inverse": "block-diagonal"})
    rows = run.rows
    assert [row["k"] for row in rows] == [50, 60] and len(run.minibatches) == 60
    constants = {"inverse": "block-diagonal"}
    prepared = experiment.prepare(
        experiment.Experiment(data="mnist", preset="authors", seed=3, activation="logistic", constants=constants)
    )
    assert [a.name for a in prepared.network.activations] == ["logistic", "identity", "logistic", "identity"]
    s = prepared.optimizer.settings
    assert (s.tau1, s.tau2, s.lambda0, s.eta, s.gamma_max, s.average_from) == (1 / 8, 1, 150, 1e-5, 1, 200)
    state = prepared.first_state()
    for _ in range(50):
        rng = np.random.default_rng([3, 1, state.k + 1])
        X = small.X[rng.choice(100, 100, replace=False)]
        state, _ = prepared.optimizer.step(state, Batch(X, X))
    a = small.X
    for W, phi in zip(state.parameters, prepared.network.activations, strict=True):
        s = np.c_[a, np.ones(len(a))] @ W.T
        a = 1 / (1 + np.exp(-s)) if phi.name == "logistic" else s
    error = np.mean(np.sum((small.X - 1 / (1 + np.exp(-a))) ** 2, axis=1))
    assert rows[0]["train_error"] == pytest.approx(error, rel=1e-4)


def test_main_prints_and_draws(small, tmp_path, capsys):
    out = tmp_path / "a.png"
    arguments = ["reference-run", "mnist", "--iterations", "50", "--seeds", "1", "2", "--out", str(out)]
    assert __main__.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("49.0800") == 4 and "seed 1" in printed and "seed 2" in printed  # twice a seed: averaged too
    assert imread(out).shape[0] > 200


def test_a_stopped_run_in_a_folder_goes_on_and_a_finished_one_is_read(small, tmp_path, monkeypatch):
    options = {"seed": 3, "dtype": "float64", "constants": {"inverse": "block-diagonal"}}
    expected = reference_run.train("mnist", 60, **options)

    def stop(bar, plan, line):
        if line["k"] == 55:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("validation.work.reporting.advance", stop)
        reference_run.train_in(tmp_path, "mnist", 60, **options)
    so_far = reference_run.from_metrics(runs.read_metrics(tmp_path / "runs" / "mnist-3"))
    assert [row["k"] for row in so_far.rows] == [50]
    for _ in range(2):
        run = reference_run.train_in(tmp_path, "mnist", 60, **options)
        assert [line["k"] for line in run.minibatches] == list(range(1, 61))
        for row, other in zip(run.rows + run.minibatches, expected.rows + expected.minibatches, strict=True):
            # both may use another number of BLAS threads
            assert row == pytest.approx(other | ({"seconds": row["seconds"]} if "seconds" in row else {}), rel=1e-6)
        monkeypatch.setattr("validation.work.prepare", lambda experiment: pytest.fail("trained again"))


def test_a_run_in_a_folder_that_diverges_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Work, "train", lambda *arguments: Trained([{"k": 1}, {"k": 2}], diverged=True))
    with pytest.raises(Diverged, match="mnist, seed 0: the objective is not finite after iteration 2"):
        reference_run.train_in(tmp_path, "mnist", 60, seed=0)


def test_main_keeps_runs_in_the_folder(small, tmp_path, capsys):
    command = [
        "reference-run",
        "mnist",
        "--iterations",
        "50",
        "--folder",
        str(tmp_path),
        "--out",
        str(tmp_path / "a.png"),
    ]
    printed = []
    for _ in range(2):
        assert __main__.main(command) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "49.0800" in printed[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reference-rum"], 'did you mean "reference-run"'),
        (["reference-run", "mnist", "--iterations", "0"], "--iterations must be ≥ 1"),
        (["replay", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_input(arguments, said, capsys):
    assert __main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


def test_help(capsys):
    assert __main__.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(piece in printed for piece in __main__.PIECES)
