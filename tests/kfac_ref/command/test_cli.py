"""The command: its options, what it leaves in a run's folder, and interruptions."""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from threadpoolctl import threadpool_info

import kfac_ref
from kfac_ref import machine, preset, refreshed
from kfac_ref.baselines import SGDSettings
from kfac_ref.command import cli, plots, reporting
from kfac_ref.settings import Settings
from kfac_ref.training import loop, runs
from kfac_ref.training.experiment import Experiment, prepare
from kfac_ref.training.models import MODEL
from kfac_ref.training.runs import CHECKPOINT, METRICS, SETTINGS
from tests.kfac_ref.command.conftest import PICTURES, TINY, kfac, settings_of, state_of
from tests.kfac_ref.command.test_plots import check_picture
from tests.kfac_ref.training.test_checkpoints import after, assert_same
from tests.kfac_ref.training.test_runs import assert_same_metrics

PARTS = cli.whole_parser().parts

# --- what a run leaves ---------------------------------------------------------------------------------------------


def test_a_run(here, data, capfd):
    assert kfac("train", "--data", data, *TINY, "--iterations", 9, "--out", "run") == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert sorted(p.name for p in (here / "run").iterdir()) == sorted(
        [".lock", CHECKPOINT, METRICS, MODEL, SETTINGS, *PICTURES]
    )
    for name in PICTURES:
        check_picture(here / "run" / name)
        assert f"run/{name}" in out
    assert "autoencoder 6-4-2-4-6 (tanh, identity, tanh; bernoulli)" in out
    assert "60 training cases, 20 test cases" in out and "mine.npz" in out
    # a line for each evaluation, as there is no terminal
    assert re.findall(r"^iteration +(\d+) ", out, re.M) == ["4", "8", "9"]
    last = runs.read_metrics(here / "run")[-1]
    assert f"training error {last['train_error']:#.4g}" in out and f"test error {last['test_error']:#.4g}" in out
    assert "after 9 iterations" in out and "PCA with 2 components" in out


def test_the_printed_error_of_pca_is_that_of_the_svd(here, data, capfd):
    assert kfac("train", "--data", data, *TINY, "--iterations", 1, "--out", "run") == 0
    with np.load(data) as archive:
        X, X_test = archive["X"], archive["X_test"]
    V = np.linalg.svd(X - X.mean(0))[2][:2].T
    errors = [np.mean(np.sum((c - c @ V @ V.T) ** 2, axis=1)) for c in (X - X.mean(0), X_test - X.mean(0))]
    assert "training error {:#.4g}, test error {:#.4g}".format(*errors) in capfd.readouterr().out.split("PCA with")[1]


def test_nothing_given_but_a_bound(here, capfd):
    """The packaged data, in the folder kfac-runs."""
    for number in (1, 2):
        assert kfac("train", "--iterations", 2, "--m1", 30) == 0
        assert (here / "kfac-runs" / f"fashion16-{number}" / "curve.png").is_file()
        assert f"kfac-runs/fashion16-{number}" in capfd.readouterr().out
    check_picture(here / "kfac-runs" / "fashion16-1" / "reconstructions.png", (150, 800))
    s = settings_of(here / "kfac-runs" / "fashion16-1")
    assert s["network"] == [256, 128, 64, 16, 64, 128, 256] and s["plan"]["iterations"] == 2
    assert s["preset"] == "quick" and s["constants"]["inverse"] == "block-diagonal" and s["constants"]["lambda0"] == 0.3
    # a number that is free, though others are not
    (here / "kfac-runs" / "fashion16-3").mkdir()
    assert kfac("train", "--iterations", 1, "--m1", 30) == 0
    assert (here / "kfac-runs" / "fashion16-4").is_dir()


def test_folders_are_named_after_the_data(here, data, undrawn):
    assert kfac("train", "--data", data, *TINY, "--iterations", 1) == 0
    assert [p.name for p in (here / "kfac-runs").iterdir()] == ["mine-1"]


def test_version(capfd):
    assert kfac("--version") == 0
    assert capfd.readouterr().out == f"kfac-ref {kfac_ref.__version__}\n"


def test_without_a_command_an_overview(capfd, monkeypatch):
    """Every command in a line or two, and the one to begin with."""
    monkeypatch.setenv("COLUMNS", "100")
    assert kfac() == 2
    out, err = capfd.readouterr()
    assert not err
    assert all(re.search(rf"^    {name} +\w", out, re.M) for name in PARTS)
    assert re.search(r"^  kfac-ref train$", out, re.M)


@pytest.mark.parametrize("name", ["", *PARTS])
def test_help(capfd, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert kfac(*name.split(), "--help") == 0
    out = capfd.readouterr().out
    assert out.startswith(f"usage: kfac-ref {name}") and max(map(len, out.splitlines())) <= 125


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_option_is_explained_and_every_example_can_be_given(part):
    assert all(action.help for action in part._actions)
    examples = re.findall(r"^  kfac-ref (.*)$", part.epilog, re.M)
    assert examples
    for line in examples:
        options, rest = cli.whole_parser().parse_known_args(line.split())
        assert not rest and options.parser.prog == part.prog


def test_help_names_every_option_with_its_default(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    kfac("train", "--help")
    out = capfd.readouterr().out
    for f in (*fields(Settings), *fields(SGDSettings)):
        assert f"--{f.name.replace('_', '-')}" in out
        assert f.metadata["help"] in " ".join(out.split())
    defaults = {"lambda0": "0.3", "tau2": "0.25", "omega": "0.8", "gamma-max": "1", "xi-max": "0.9"}
    for name, value in defaults.items():
        assert re.search(rf"--{name} .*\({value}\)", out), name


# --- every option has its effect -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "place", "expected"),
    [
        ("--network", "6-3-6", "network", [6, 3, 6]),
        ("--activation", "relu", "activation", "relu"),
        ("--likelihood", "gaussian", "likelihood", "gaussian"),
        ("--initialisation", "glorot", "initialisation", "glorot"),
        ("--optimizer", "sgd", "optimizer", "sgd"),
        ("--preset", "paper", "preset", "paper"),
        ("--iterations", "2", "plan.iterations", 2),
        ("--seconds", "55", "plan.seconds", 55.0),
        ("--seed", "7", "seed", 7),
        ("--dtype", "float64", "dtype", "float64"),
        ("--backend", "numpy", "backend", "numpy"),
        ("--evaluate-every", "3", "plan.evaluate_every", 3),
        ("--save-every", "0", "plan.save_every", 0.0),
        ("--threads", "3", "plan.threads", 3),
        ("--eta", "0.25", "constants.eta", 0.25),
        ("--m1", "5", "constants.m1", 5),
        ("--full-batch-at", "none", "constants.full_batch_at", None),
        ("--full-batch-at", "9", "constants.full_batch_at", 9),
        ("--chunk-size", "7", "constants.chunk_size", 7),
        ("--inverse", "block-diagonal", "constants.inverse", "block-diagonal"),
        ("--sharing", "reduce", "constants.sharing", "reduce"),
        ("--full-blocks", "diagonal", "constants.full_blocks", "diagonal"),
        ("--time", "independent", "constants.time", "independent"),
        ("--no-momentum", None, "constants.momentum", False),
        ("--momentum", None, "constants.momentum", True),
        ("--lambda0", "2.5", "constants.lambda0", 2.5),
        ("--gamma-min", "0.125", "constants.gamma_min", 0.125),
        ("--gamma-max", "inf", "constants.gamma_max", "inf"),
        ("--pi-norm", "frobenius", "constants.pi_norm", "frobenius"),
        ("--tau1", "1", "constants.tau1", 1.0),
        ("--tau2", "0.25", "constants.tau2", 0.25),
        ("--T1", "2", "constants.T1", 2),
        ("--T2", "3", "constants.T2", 3),
        ("--T3", "4", "constants.T3", 4),
        ("--omega", "0.9", "constants.omega", 0.9),
        ("--epsilon-max", "0.5", "constants.epsilon_max", 0.5),
        ("--average-from", "2", "constants.average_from", 2),
        ("--lambda-min", "0.5", "constants.lambda_min", 0.5),
        ("--lambda-max", "200", "constants.lambda_max", 200.0),
        ("--candidates-inverted", None, "constants.candidates_inverted", True),
        ("--xi-max", "0.75", "constants.xi_max", 0.75),
    ],
    ids=lambda value: value if str(value).startswith("--") else None,
)
def test_options(here, data, undrawn, option, value, place, expected):
    given = [option] if value is None else [option, value]
    rest = TINY if option == "--evaluate-every" else TINY[:-2]
    assert kfac("train", "--data", data, *rest, "--iterations", 1, "--out", "run", *given) == 0
    found = settings_of(here / "run")
    assert found["data"] == data
    for part in place.split("."):
        found = found[part]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(("option", "value"), [("--learning-rate", 0.125), ("--mu-max", 0.5)])
def test_options_of_sgd(here, data, undrawn, option, value):
    arguments = ["--data", data, *TINY, "--optimizer", "sgd", "--iterations", 1, "--out", "run", option, value]
    assert kfac("train", *arguments) == 0
    constants = settings_of(here / "run")["constants"]
    assert constants[option[2:].replace("-", "_")] == value
    assert set(constants) == {f.name for f in fields(SGDSettings)}


def test_every_constant_has_a_case_above():
    cases = test_options.pytestmark[0].args[1]
    tested = {place[10:] for _, _, place, _ in cases if place.startswith("constants.")}
    assert tested == {f.name for f in fields(Settings)}


def test_all_constants_are_written_down(here, data, undrawn):
    assert kfac("train", "--data", data, *TINY, "--iterations", 1, "--out", "run", "--preset", "paper") == 0
    s = preset("paper", m1=20, full_batch_at=20, eta=1e-3)
    expected = {f.name: getattr(s, f.name) for f in fields(s)}
    assert settings_of(here / "run")["constants"] == expected | {"gamma_max": "inf", "lambda_max": "inf"}


def test_a_run_keeps_its_preset(here, data, undrawn):
    """Resumed by a command whose default is another."""
    assert kfac("train", "--data", data, *TINY, "--iterations", 1, "--out", "run", "--preset", "authors") == 0
    before = settings_of(here / "run")
    assert kfac("train", "--resume", "run", "--iterations", 3) == 0
    after = settings_of(here / "run")
    assert (after["preset"], after["constants"]) == ("authors", before["constants"])
    assert after["constants"]["lambda0"] == 150


def test_seeds(here, data, undrawn):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert kfac("train", "--data", data, *TINY, "--iterations", 3, "--out", name, "--seed", seed) == 0
    a, b, c = (state_of(here / name) for name in "abc")
    assert_same(a, b, np.zeros(0, dtype=np.float32))
    assert not np.array_equal(a.parameters[0], c.parameters[0])


def test_seconds_alone_bound_a_run(here, data, undrawn):
    assert kfac("train", "--data", data, *TINY, "--seconds", "0.1", "--out", "run") == 0
    assert settings_of(here / "run")["plan"]["iterations"] is None
    lines = runs.read_metrics(here / "run")
    assert lines[-1]["seconds"] >= 0.1 > lines[-2]["seconds"] and "train_error" in lines[-1]


def test_save_every(here, data, undrawn, monkeypatch):
    saved = []
    save = runs.Run.save
    monkeypatch.setattr(runs.Run, "save", lambda run: (saved.append(run.state.k), save(run)))
    for every, expected in (("0", [0, 1, 2, 3, 3]), ("1000", [0, 3])):
        saved.clear()
        name = f"run{every}"
        assert kfac("train", "--data", data, *TINY, "--iterations", 3, "--save-every", every, "--out", name) == 0
        assert saved == expected


# --- threads and the BLAS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), [(None, 1), (1, 1), (2, 2)])
def test_the_heading_says_how_many_threads(here, data, undrawn, capfd, monkeypatch, given, expected):
    """The number is that within which the run trains, and the BLAS has as many."""
    seen = []
    iterate = loop.iterate

    def looking(*arguments):
        seen.append(threads())
        yield from iterate(*arguments)

    def threads():
        return {x["filepath"]: x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}

    monkeypatch.setattr(loop, "iterate", looking)
    more = [] if given is None else ["--threads", given]
    before = threads()
    assert kfac("train", "--data", data, *TINY, "--iterations", 1, "--out", "run", *more) == 0
    (within,) = seen
    if within:
        assert f"on numpy, {expected} BLAS thread{'s' if expected > 1 else ''}\n" in capfd.readouterr().out
        assert max(within.values()) == expected
    assert threads() == before


def test_threads_on_resume(here, data, undrawn, capfd):
    """They stay as they were given, and may be given anew."""
    assert kfac("train", "--data", data, *TINY, "--iterations", 1, "--out", "run", "--threads", 2) == 0
    for more, expected in (([], 2), (["--threads", 1], 1)):
        iterations = settings_of(here / "run")["plan"]["iterations"] + 1
        assert kfac("train", "--resume", "run", "--iterations", iterations, *more) == 0
        assert settings_of(here / "run")["plan"]["threads"] == expected


def test_an_old_kernel_is_warned_of_once(here, data, undrawn, capfd, monkeypatch):
    monkeypatch.setattr(machine, "blas_warning", lambda: "this is old")
    assert kfac("train", "--data", data, *TINY, "--iterations", 3, "--out", "run") == 0
    assert capfd.readouterr().err == "kfac-ref: warning: this is old\n"


# --- data ----------------------------------------------------------------------------------------------------------


def test_classes_of_fashion16(here, capfd):
    arguments = ["--network", "256-8-10", "--iterations", 30, "--m1", 100, "--out", "run"]
    assert kfac("train", "--likelihood", "categorical", *arguments) == 0
    out = capfd.readouterr().out
    s = settings_of(here / "run")
    assert (s["purpose"], s["likelihood"], s["constants"]["lambda0"]) == ("classifier", "categorical", 0.3)
    lines = runs.read_metrics(here / "run")
    evaluated = [line for line in lines if "train_misclassified" in line]
    assert len(evaluated) == 2 and evaluated[-1]["train_misclassified"] < 0.6
    for part, name in (("train", "training"), ("test", "test")):
        printed = re.findall(rf"{name} misclassified (\d+\.\d+) %", out)[-1]
        assert float(printed) == pytest.approx(100 * evaluated[-1][f"{part}_misclassified"], abs=0.005)
    # what is counted is counted from the network itself
    p = prepare(runs.read_settings(here / "run")[0])
    W = state_of(here / "run").parameters
    a = np.tanh(np.c_[p.dataset.X_test, np.ones(1000)] @ W[0].T)
    wrong = np.mean((np.c_[a, np.ones(1000)] @ W[1].T).argmax(1) != p.dataset.Y_test.argmax(1))
    assert evaluated[-1]["test_misclassified"] == pytest.approx(wrong)
    check_picture(here / "run" / "curve.png")
    assert not (here / "run" / "reconstructions.png").exists() and "PCA" not in out


def predict(path, Y, rng):
    X = rng.standard_normal((40, 3))
    np.savez(path, X=X, Y=Y(X), X_test=X[:9], Y_test=Y(X[:9]))


@pytest.mark.parametrize(
    ("Y", "purpose", "likelihood"),
    [
        (lambda X: (X[:, 0] > 0) + (X[:, 1] > 0) * 1, "classifier", "categorical"),
        (lambda X: np.sin(X[:, 0]), "regression", "gaussian"),
        (lambda X: X[:, :2] ** 2, "regression", "gaussian"),
    ],
)
def test_npz_with_targets(here, rng, capfd, Y, purpose, likelihood):
    predict("mine.npz", Y, rng)
    assert kfac("train", "--data", "mine.npz", "--iterations", 20, "--out", "run", "--m1", 40) == 0
    s = settings_of(here / "run")
    assert (s["purpose"], s["likelihood"], s["network"][:3]) == (purpose, likelihood, [3, 128, 64])
    lines = runs.read_metrics(here / "run")
    measure = "misclassified" if purpose == "classifier" else "error"
    assert lines[-1][f"train_{measure}"] < 0.3
    assert f"{purpose} 3-128-64-" in capfd.readouterr().out
    check_picture(here / "run" / "curve.png")
    assert not (here / "run" / "reconstructions.png").exists()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_npz_that_is_no_image_nor_between_0_and_1(here, rng, d):
    np.savez("mine.npz", X=3 * rng.standard_normal((30, d)) + 1)
    assert kfac("train", "--data", "mine.npz", "--iterations", 3, "--network", f"{d}-3-1-{d}", "--out", "run") == 0
    s = settings_of(here / "run")
    assert (s["purpose"], s["likelihood"]) == ("autoencoder", "gaussian")
    for name in PICTURES:
        check_picture(here / "run" / name)


def test_one_case(here, recwarn):
    np.savez("mine.npz", X=np.full((1, 4), 0.5))
    assert kfac("train", "--data", "mine.npz", "--iterations", 2, "--network", "4-2-4", "--out", "run") == 0
    assert not [str(w.message) for w in recwarn]
    for name in PICTURES:
        assert imread(here / "run" / name).ndim == 3


def test_a_code_as_wide_as_the_data(here, data, recwarn, capfd):
    """PCA's error is 0 then, which has no place on a logarithmic axis."""
    assert kfac("train", "--data", data, "--iterations", 2, "--network", "6-8-6", "--out", "run") == 0
    assert not [str(w.message) for w in recwarn]
    check_picture(here / "run" / "curve.png")
    assert "-0.0" not in capfd.readouterr().out


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(here, rng):
    folder = here / "images"
    folder.mkdir()
    for name, count in (("train", 30), ("t10k", 20)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (count, 5, 3), dtype=np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx((np.arange(count) % 4).astype(np.uint8)))
    return folder


def test_idx_folder(here, idx_folder):
    assert kfac("train", "--data", "images", "--iterations", 2, "--network", "15-4-15", "--out", "a") == 0
    assert (settings_of(here / "a")["purpose"], settings_of(here / "a")["likelihood"]) == ("autoencoder", "bernoulli")
    check_picture(here / "a" / "reconstructions.png", (150, 400))
    assert kfac("train", "--data", idx_folder, "--iterations", 2, "--likelihood", "categorical", "--out", "b") == 0
    assert settings_of(here / "b")["network"] == [15, 128, 64, 4]


def test_the_folder_in_which_one_is(idx_folder, undrawn, monkeypatch, here):
    monkeypatch.chdir(idx_folder)
    assert kfac("train", "--data", ".", "--iterations", 1, "--network", "15-4-15") == 0
    (made,) = (idx_folder / "kfac-runs").iterdir()
    assert not made.name.startswith(("-", "."))


# --- resuming ------------------------------------------------------------------------------------------------------


def test_resume(here, data, undrawn, capfd):
    """In pieces as in one go; files alone decide."""
    assert kfac("train", "--data", data, *TINY, "--iterations", 26, "--out", "whole") == 0
    assert kfac("train", "--data", data, *TINY, "--iterations", 13, "--out", "parts") == 0
    capfd.readouterr()
    assert kfac("train", "--resume", "parts", "--iterations", 26) == 0
    assert "parts" in capfd.readouterr().out
    assert_same(state_of(here / "whole"), state_of(here / "parts"), np.zeros(0, dtype=np.float32))
    assert_same_metrics(runs.read_metrics(here / "parts"), runs.read_metrics(here / "whole"), extra=(13,))
    assert settings_of(here / "parts") == settings_of(here / "whole")


def test_what_may_be_given_again(here, data, undrawn):
    options = ["--data", data, *TINY, "--seed", 3, "--inverse", "block-diagonal"]
    assert kfac("train", *options, "--iterations", 2, "--out", "run") == 0
    more = ["--iterations", 4, "--evaluate-every", 1, "--save-every", 0, "--seconds", 100, "--threads", 2]
    assert kfac("train", "--resume", "run", *options, *more) == 0
    plan = {"iterations": 4, "evaluate_every": 1, "save_every": 0.0, "seconds": 100.0, "threads": 2}
    assert settings_of(here / "run")["plan"] == plan | {"patience": None}
    assert ["train_error" in line for line in runs.read_metrics(here / "run")] == [False, True, True, True]


def test_resume_from_another_folder(here, data, undrawn, monkeypatch):
    """Data given by a relative path are found again wherever the command is called."""
    (here / "mine.npz").write_bytes(Path(data).read_bytes())
    assert kfac("train", "--data", "mine.npz", *TINY, "--iterations", 2, "--out", "run") == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert kfac("train", "--resume", here / "run", "--iterations", 3) == 0


def test_refresh_inverse(here, data, undrawn):
    assert kfac("train", "--data", data, *TINY, "--iterations", 13, "--out", "run") == 0
    before = state_of(here / "run")
    p = prepare(runs.read_settings(here / "run")[0])
    ends = [after(p.optimizer, state, p.data, 6) for state in (before, refreshed(before))]
    assert kfac("train", "--resume", "run", "--refresh-inverse", "--iterations", 19) == 0
    found = state_of(here / "run")
    assert_same(ends[1], found, p.data.X)
    assert not np.array_equal(ends[0].parameters[0], found.parameters[0])
    assert np.isfinite(runs.read_metrics(here / "run")[-1]["train_error"])


# --- plot ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(here, data, undrawn):
    for name, optimizer in (("kfac", "kfac"), ("sgd", "sgd"), ("deep/kfac", "kfac")):
        assert kfac("train", "--data", data, *TINY, "--iterations", 8, "--optimizer", optimizer, "--out", name) == 0
    return here


def test_plot(finished, capfd):
    capfd.readouterr()
    assert kfac("plot", "kfac", "sgd", "--out", "new/both.png") == 0
    assert capfd.readouterr().out == "new/both.png\n"
    check_picture(finished / "new" / "both.png")
    assert kfac("plot", "sgd", "--out", "new/both.PNG") == 0
    check_picture(finished / "new" / "both.PNG")


def test_plot_tells_runs_of_one_name_apart(finished, monkeypatch):
    seen = []
    overlay = plots.overlay
    monkeypatch.setattr(plots, "overlay", lambda lines: seen.append(list(lines)) or overlay(lines))
    assert kfac("plot", "kfac", "deep/kfac", "--out", "a.png") == 0
    assert kfac("plot", "kfac/", "sgd", "--out", "a.png") == 0
    assert kfac("plot", "kfac", "kfac", "--out", "a.png") == 0
    assert seen == [["kfac", "deep/kfac"], ["kfac", "sgd"], ["kfac"]]


def test_plot_of_a_run_in_progress(finished):
    with open(finished / "kfac" / METRICS, "a") as file:
        file.write('{"k": 9, "tra')
    assert kfac("plot", "kfac", "--out", "a.png") == 0


# --- as a terminal sees it -----------------------------------------------------------------------------------------


def test_progress_bar(data, monkeypatch):
    p = prepare(Experiment(data=data, constants={"m1": 20}, network=(6, 4, 2, 4, 6)))
    run = runs.Run(Path("nowhere"), p, p.first_state())
    line = {"k": 3, "m": 20, "h": 1.23456, "error": 0.5, "lam": 150.0, "rho": None, "alpha": None, "seconds": 0.5}
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        for plan, shown in ((runs.Plan(iterations=5), "1/5"), (runs.Plan(seconds=1.0), "k 3")):
            with reporting.progress_bar(plan, run) as bar:
                assert bar.disable is not terminal
                reporting.advance(bar, plan, line)
                if terminal:
                    assert all(part in str(bar) for part in (shown, "h 1.235", "λ 150")) and "α" not in str(bar)
