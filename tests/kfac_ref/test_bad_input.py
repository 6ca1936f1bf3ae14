"""Mistakes: one line that says what is wrong and what was expected, and nothing left behind."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import shutil

import numpy as np
import pandas
import pytest

from autodiff import Network
from kfac_ref import KFAC, Batch, machine
from kfac_ref.baselines import SGD, NaturalGradient
from kfac_ref.command import cli, reporting
from kfac_ref.training import runs
from kfac_ref.training.runs import CHECKPOINT, METRICS, SETTINGS
from tests.kfac_ref.training.test_runs import go, make, save_data


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A folder with data good and bad, and runs whole and damaged, to which the cases below refer."""
    folder = tmp_path_factory.mktemp("stock")
    save_data(folder / "good.npz")
    X, Y = np.linspace(0, 1, 24).reshape(8, 3), np.arange(8) % 2
    at = {"X": X.copy(), "Y": np.linspace(0, 1, 8)}
    for bad in ("nan", "inf"):
        for key in at:
            arrays = {name: array.copy() for name, array in at.items()}
            arrays[key].reshape(-1)[4] = float(bad)
            np.savez(folder / f"{bad}_in_{key}.npz", **arrays)
    for name, arrays in {
        "one_dimension": {"X": X[:, 0]},
        "three_dimensions": {"X": X[None]},
        "five_dimensions": {"X": X[None, None, None]},
        "no_case": {"X": X[:0]},
        "no_column": {"X": X[:, :0]},
        "rows_of_Y": {"X": X, "Y": Y[:7]},
        "columns_of_X_test": {"X": X, "X_test": X[:, :2]},
        "columns_of_Y_test": {"X": X, "Y": X, "X_test": X, "Y_test": X[:, :2]},
        "Y_test_alone": {"X": X, "Y": Y, "Y_test": Y},
        "negative_label": {"X": X, "Y": Y - 1},
        "text": {"X": X.astype(str)},
        "complex": {"X": X * 1j},
        "objects": {"X": np.array([[1, None]], dtype=object)},
        "lower_case": {"x": X},
        "above_one": {"X": X * 2},
        "shares": {"X": X, "Y": np.c_[np.full(8, 0.5), np.full(8, 0.25)]},
        "fine": {"X": X},
        "labels": {"X": X, "Y": Y},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    np.savez(folder / "other.npz", X=np.random.default_rng(9).random((60, 6)))
    content = (folder / "fine.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(content[: len(content) // 2])
    (folder / "pickle.npz").write_bytes(pickle.dumps({"X": X}))
    (folder / "notes.txt").write_text("Some notes.\n")
    (folder / "empty").mkdir()
    (folder / "other_files").mkdir()
    (folder / "other_files" / "notes.txt").write_text("Some notes.\n")
    (folder / "idx").mkdir()
    (folder / "idx" / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 9]))

    data = str(folder / "good.npz")
    go(folder / "run", make(data), runs.Plan(iterations=3, evaluate_every=2))
    (folder / "run" / reporting.CURVE).touch()  # a finished run without pictures is drawn, not refused
    go(folder / "run_sgd", make(data, optimizer="sgd"), runs.Plan(iterations=3))

    def damaged(name, file, change):
        shutil.copytree(folder / "run", folder / name)
        path = folder / name / file
        path.write_bytes(change(path.read_bytes()))

    def edited(name, **values):
        damaged(name, SETTINGS, lambda content: json.dumps(json.loads(content) | values).encode())

    for file, short in ((SETTINGS, "settings"), (CHECKPOINT, "checkpoint")):
        damaged(f"half_{short}", file, lambda content: content[: len(content) // 2])
        damaged(f"empty_{short}", file, lambda content: b"")
        damaged(f"pickled_{short}", file, lambda content: pickle.dumps([1, 2, 3]))
        damaged(f"no_{short}", file, lambda content: b"")
        (folder / f"no_{short}" / file).unlink()
    damaged("half_metrics", METRICS, lambda content: content[: content.index(b"\n") - 9] + b"\n" + content)
    damaged("binary_metrics", METRICS, lambda content: b"\xff\xfe\n" + content)
    damaged("no_metrics", METRICS, lambda content: b"")
    (folder / "no_metrics" / METRICS).unlink()
    damaged("empty_metrics", METRICS, lambda content: b"")
    damaged("other_checkpoint", CHECKPOINT, lambda content: (folder / "run_sgd" / CHECKPOINT).read_bytes())
    edited("other_network", network=[6, 3, 2, 3, 6])
    edited("network_of_text", network=["six", 2, 6])
    edited("network_of_null", network=[6, None, 6])
    edited("seed_of_text", seed="0")
    edited("constant_of_text", constants={"T1": "often"})
    edited("constant_of_null", constants={"eta": None})
    edited("constant_out_of_range", constants={"eta": -1})
    edited("data_gone", data=str(folder / "gone.npz"))
    edited("data_of_number", data=5)
    edited("unknown_dtype", dtype="float8")
    edited("format", format=7)
    edited("plan_of_text", plan={"iterations": "many"})
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, stocked):
    """A copy of it to stand in. The warning of an old BLAS kernel depends on the machine, and is not given."""
    monkeypatch.setattr(machine, "blas_warning", lambda: None)
    folder = tmp_path / "stock"
    shutil.copytree(stocked, folder)
    monkeypatch.chdir(folder)
    return folder


def listing(folder):
    return {
        p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.name != ".lock"
    }


GOOD = "--data good.npz --network 6-4-2-4-6 --iterations 2 --out new "

CASES = {
    # the data
    "--data nowhere.npz": 'no data set or path "nowhere.npz".*expected one of fashion16',
    "--data fasion16": '"fasion16"; did you mean "fashion16"',
    "--data Mnist": 'did you mean "mnist"',
    "--data notes.txt": "notes.txt: expected an .npz, .npy, .csv or .parquet file",
    "--data empty": "empty: no train-images-idx3-ubyte.* in this folder, found nothing",
    "--data other_files": "no train-images-idx3-ubyte.*found 'notes.txt'",
    "--data idx": "train-images-idx3-ubyte: header cut short",
    "--data truncated.npz": "truncated.npz: is not a whole .npz archive",
    "--data pickle.npz": "pickle.npz: is a pickle; pickles are not read",
    "--data objects.npz": "objects.npz: key 'X' holds pickled objects; pickles are not read",
    "--data one_dimension.npz": r"one_dimension.npz: key 'X' has shape \(8,\), expected two dimensions",
    "--data three_dimensions.npz": r'begins with 6, but X of "three_dimensions" has cases of \(8, 3\), 24 numbers',
    "--data five_dimensions.npz": r"key 'X' has shape \(1, 1, 1, 8, 3\), expected two dimensions",
    "--data no_case.npz": r"key 'X' has shape \(0, 3\), expected at least one case",
    "--data no_column.npz": r"key 'X' has shape \(8, 0\), expected at least",
    "--data rows_of_Y.npz": "'Y' has 7 rows, expected 8 as in key 'X'",
    "--data columns_of_X_test.npz": "'X_test' has 2 columns, expected 3 as in key 'X'",
    "--data columns_of_Y_test.npz": "'Y_test' has 2 columns, expected 3 as in key 'Y'",
    "--data Y_test_alone.npz": "'Y_test' without key 'X_test'",
    "--data negative_label.npz": "'Y' is -1 at row 0, expected labels from 0 up",
    "--data text.npz": "'X' has dtype <U.*, expected real numbers",
    "--data complex.npz": "'X' has dtype complex128, expected real numbers",
    "--data lower_case.npz": "key 'X' is missing, found 'x'; 'x' is near, but names must be exactly X",
    "--data nan_in_X.npz": "'X' is nan at row 1, column 1, expected finite",
    "--data inf_in_X.npz": "'X' is inf at row 1, column 1, expected finite",
    "--data nan_in_Y.npz": "'Y' is nan at row 4, expected finite",
    "--data inf_in_Y.npz": "'Y' is inf at row 4, expected finite",
    "--data above_one.npz --network 3-2-3 --likelihood bernoulli": r"X\[4, 0\] = 1.04348, but the bernoulli",
    "--data shares.npz --network 3-2 --likelihood categorical": "row 0 of Y sums to 0.75, but the categorical",
    "--data fine.npz --likelihood categorical": 'categorical likelihood needs class labels, and "fine" has none',
    # names
    "--activation tahn": 'unknown activation "tahn"; did you mean "tanh"',
    "--likelihood gausian": 'unknown likelihood "gausian"; did you mean "gaussian"',
    "--initialisation xavier": 'unknown initialisation "xavier" .known: sparse, glorot',
    "--optimizer adam": 'unknown optimizer "adam" .known: kfac, sgd',
    "--optimizer KFAC": 'unknown optimizer "KFAC".*known: kfac, sgd',
    "--preset papper": 'unknown preset "papper"; did you mean "paper"',
    "--dtype float63": 'unknown dtype "float63"; did you mean "float6?3?[24]"',
    "--backend numpi": 'unknown backend "numpi"; did you mean "numpy"',
    "--inverse tridiagonal": 'unknown inverse "tridiagonal"; did you mean "block-tridiagonal"',
    "--pi-norm frobenious": 'unknown norm .*"frobenious"; did you mean "frobenius"',
    # networks
    "--network 5-4-2-4-6": 'network 5-4-2-4-6 begins with 5, but X of "good" has 6 columns',
    "--network 6-4-2-4-7": 'network 6-4-2-4-7 ends with 7, but X of "good" has 6 columns',
    "--data labels.npz --network 3-4-3": 'ends with 3, but Y of "labels" has 2 columns',
    "--network 6": r"sizes must be at least two positive integers.*got \[6\]",
    "--network 6-0-6": r"sizes must be at least two positive integers.*got \[6, 0, 6\]",
    "--network 6-x-6": '"6-x-6" is not sizes joined by "-", as in 256-64-256',
    "--network 6,4,6": '"6,4,6" is not sizes',
    "--network 6--4-6": '"6--4-6" is not sizes',
    "--network 6-4.5-6": '"6-4.5-6" is not sizes',
    "--network 6-10000000-6": r"layer 1 .dense 10000000 tanh. needs 728 TiB in float32: .* There are .* of memory",
    "--network residul": 'nor a network\'s name .*; did you mean "residual"',
    "--network residual": '"residual" is for images of one channel, .*"good" has cases of \\(6,\\)',
    "--network missing.json": "missing.json: No such file or directory",
    "--network 6:dense": r'network\[0\] \(dense\) needs the key "out"',
    "--network 2x3:flatten": "the network has no layer with weights",
    "--network 2x3:recurrent,flatten": r'network\[0\] \(recurrent\) needs the key "out"',
    "--network 1x2x3:global-mean,layer-norm --activation relu": "each layer of the network has an activation",
    # constants
    "--eta -1": "eta must be finite and ≥ 0; got -1.0",
    "--eta nan": "eta must be finite and ≥ 0; got nan",
    "--eta small": "--eta: .*'small'",
    "--lambda0 inf": "lambda0 must be finite and ≥ 0; got inf",
    "--T1 0": "T1 must be ≥ 1; got 0",
    "--T3 2.5": "--T3: .*'2.5'",
    "--tau1 0": r"tau1 must be in \(0, 1\]; got 0",
    "--tau2 1.5": r"tau2 must be in \(0, 1\]; got 1.5",
    "--omega 2": r"omega must be in \(0, 1\]; got 2",
    "--epsilon-max 1": r"epsilon.max must be in \[0, 1\); got 1",
    "--m1 0": "m1 must be ≥ 1; got 0",
    "--full-batch-at 1": "full.batch.at must be ≥ 2, or [Nn]one; got 1",
    "--full-batch-at never": '"never" is not a whole number or "none"',
    "--chunk-size 0": "chunk.size must be ≥ 1; got 0",
    "--gamma-min 2": "gamma.m.*got 1",
    "--eta 4 --gamma-max 1": "gamma_max must be > 0 and ≥ gamma_min, which is 2",  # sqrt(η)
    "--learning-rate 0.1": 'learning.rate is not a constant of the optimizer "kfac", but of "sgd"$',
    "--optimizer sgd --T1 3": 'T1 is not a constant of the optimizer "sgd", but of "kfac"$',
    "--optimizer sgd --learning-rate 0": "learning.rate must be finite and > 0; got 0",
    "--optimizer sgd --mu-max 1": r"mu.max must be in \[0, 1\); got 1",
    # the plan
    "--iterations 0": "iterations must be ≥ 1; got 0",
    "--iterations -5": "iterations must be ≥ 1; got -5",
    "--iterations ten": "--iterations: .*'ten'",
    "--seconds nan": "seconds must be finite and > 0; got nan",
    "--seconds -1": "seconds must be finite and > 0; got -1",
    "--seconds inf": "seconds must be finite and > 0; got inf",
    "--evaluate-every 0": "evaluate.every must be ≥ 1; got 0",
    "--threads 0": "threads must be ≥ 1; got 0",
    "--threads -2": "threads must be ≥ 1; got -2",
    "--threads two": "argument --threads: invalid int value: 'two'",
    "--save-every -1": "save.every must be finite and ≥ 0; got -1",
    "--seed -1": "seed must be a whole number from 0 to .*; got -1",
    "--seed 9223372036854775808": "seed must be a whole number from 0 to .*; got 9223372036854775808",
    "--seed 1.5": "--seed: .*'1.5'",
    # where to
    "--out notes.txt": "notes.txt.*(is not a folder|is a file|[Nn]ot a directory)",
    "--out notes.txt/run": "notes.txt.*([Nn]ot a directory|is a file|is not a folder)",
    "--out run": "run holds a run already; go on with it by --resume, or give another --out",
    "--refresh-inverse": "--refresh-inverse goes with --resume",
    # options
    "--iteratons 5": "unrecognized arguments: --iteratons",
    "--iter 5": "unrecognized arguments: --iter",
    "--eta": "--eta: expected one argument",
    "extra": "unrecognized arguments: extra",
}

RESUMING = {
    "--resume nowhere": "nowhere.*(no such|holds no run)",
    "--resume empty": "empty holds no run",
    "--resume notes.txt": "notes.txt.*(is not a folder|holds no run)",
    "--resume run": "run in run is finished: 3 iterations.*more --iterations or --seconds",
    "--resume run --iterations 3": "is finished: 3 iterations",
    "--resume run --iterations 2": "is finished: 3 iterations",
    "--resume run --iterations 9 --out new": "--out does not go with --resume",
    "--resume run --iterations 9 --eta 0.5": "the run in run has eta 0.001; it cannot be changed",
    "--resume run --iterations 9 --seed 5": "has seed 0; it cannot be changed",
    "--resume run --iterations 9 --network 6-3-6": "has network 6-4-2-4-6; it cannot be changed",
    "--resume run --iterations 9 --data fashion16": "run/settings.json: the network .* begins with 6, but X",
    "--resume run --iterations 9 --data other.npz": "other.npz. does not hold the data that the run in run began",
    "--resume run --iterations 9 --optimizer sgd": "has optimizer kfac; it cannot be changed",
    "--resume run --iterations 9 --inverse block-diagonal": "has inverse block-tridiagonal; it cannot be changed",
    "--resume run --iterations 9 --dtype float64": "has dtype float32; it cannot be changed",
    "--resume run --iterations 9 --learning-rate 0.5": "learning.rate is not a constant of the optimizer",
    "--resume run --iterations 0": "iterations must be ≥ 1; got 0",
    "--resume run_sgd --iterations 9 --refresh-inverse": "--refresh-inverse is for runs of K-FAC",
    "--resume half_settings --iterations 9": "half_settings/settings.json",
    "--resume empty_settings --iterations 9": "empty_settings/settings.json",
    "--resume pickled_settings --iterations 9": "pickled_settings/settings.json",
    "--resume no_settings --iterations 9": "no_settings holds no run: there is no settings.json",
    "--resume half_checkpoint --iterations 9": "half_checkpoint/checkpoint.npz is not a whole checkpoint",
    "--resume empty_checkpoint --iterations 9": "empty_checkpoint/checkpoint.npz is not a whole checkpoint",
    "--resume pickled_checkpoint --iterations 9": "pickled_checkpoint/checkpoint.npz is not a whole checkpoint",
    "--resume no_checkpoint --iterations 9": "no_checkpoint holds no checkpoint",
    "--resume half_metrics --iterations 9": "half_metrics/metrics.jsonl, line 1: not a record of an iteration",
    "--resume binary_metrics --iterations 9": "binary_metrics/metrics.jsonl",
    "--resume no_metrics --iterations 9": "no metrics.jsonl",
    "--resume other_network --iterations 9": "is a checkpoint of the network 6-4-2-4-6 .*not of 6-3-2-3-6",
    "--resume other_checkpoint --iterations 9": "other_checkpoint/checkpoint.npz",
    "--resume network_of_text --iterations 9": "network_of_text/settings.json|sizes",
    "--resume network_of_null --iterations 9": "network_of_null/settings.json|sizes",
    "--resume seed_of_text --iterations 9": "seed",
    "--resume constant_of_text --iterations 9": "settings.json: T1 must be a whole number.*'often'",
    "--resume constant_of_null --iterations 9": "settings.json: eta must be a number; got None",
    "--resume constant_out_of_range --iterations 9": "eta must be finite and ≥ 0; got -1",
    "--resume data_gone --iterations 9": "no data set or path .*gone.npz",
    "--resume data_of_number --iterations 9": "data",
    "--resume unknown_dtype --iterations 9": 'unknown dtype "float8"',
    "--resume format --iterations 9": "format/settings.json.*format 7, expected 1",
    "--resume plan_of_text --iterations 9": "plan_of_text/settings.json",
}

PLOTTING = {
    "nowhere --out a.png": "nowhere.*(no such|holds no run)",
    "empty --out a.png": "empty holds no run: there is no metrics.jsonl in it",
    "run empty --out a.png": "empty holds no run",
    "notes.txt --out a.png": "notes.txt",
    "run --out a.pdf": "--out must end in .png; got a.pdf",
    "run --out a": "--out must end in .png; got a",
    "run --out notes.txt/a.png": "notes.txt: is a file, expected a folder",
    "half_metrics --out a.png": "half_metrics/metrics.jsonl, line 1: not a record",
    "binary_metrics --out a.png": "binary_metrics/metrics.jsonl",
    "empty_metrics --out a.png": "empty_metrics has not been evaluated yet",
    "--out a.png": "the following arguments are required: DIR",
    "run": "the following arguments are required: --out",
}

BARE = {
    "--": "required: COMMAND",
    "trian": 'unknown command "trian"; did you mean "train".*known: train, plot',
    "--verbose": "--verbose|required: COMMAND",
}

ALL = (
    [(f"train {GOOD}{case}".strip(), said) for case, said in CASES.items()]
    + [(f"train {case}", said) for case, said in RESUMING.items()]
    + [(f"plot {case}", said) for case, said in PLOTTING.items()]
    + list(BARE.items())
)


@pytest.mark.parametrize(("line", "said"), ALL, ids=[line.replace(f"train {GOOD}", "train … ") for line, _ in ALL])
def test_through_the_command(here, capfd, recwarn, line, said):
    before = listing(here)
    try:
        code = cli.main(line.split())
    except SystemExit as end:
        code = end.code
    out, err = capfd.readouterr()
    assert code == 2, (out, err)
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("kfac-ref") and ": error: " in lines[0], err
    # files left for the garbage collector are no news to a user
    assert not [w.message for w in recwarn if not issubclass(w.category, ResourceWarning)]
    assert len(lines[0]) < 400, lines[0]
    assert re.search(said, lines[0]), lines[0]
    assert not re.search(r"Error\(|Errno|Traceback|<class|NoneType|positional argument", lines[0]), lines[0]
    assert listing(here) == before


def test_there_are_enough_cases():
    assert len(ALL) > 100 and len({line for line, _ in ALL}) == len(ALL)


def test_without_cupy(here, capfd):
    try:
        import cupy  # noqa: F401
    except ImportError:
        assert cli.main(f"train {GOOD} --backend cupy".split()) == 2
        err = capfd.readouterr().err
        assert err.startswith('kfac-ref: error: backend "cupy" needs CuPy, which is not installed (pip install')
        assert "--backend numpy" in err and err.count("\n") == 1 and not (here / "new").exists()
    else:
        pytest.skip("CuPy is installed")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(here, capfd):
    (here / "empty").chmod(0o500)
    assert cli.main(f"train {GOOD} --out empty/run".split()) == 2
    assert "Permission denied" in capfd.readouterr().err


def test_a_network_that_memory_cannot_hold(here, capfd, monkeypatch):
    """One line as for other mistakes, and not a traceback."""

    def start(*_):
        raise MemoryError("Unable to allocate 3.64 TiB for an array with shape (1000000, 1000000)")

    monkeypatch.setattr(runs, "start", start)
    assert cli.main(f"train {GOOD}".split()) in (1, 2)
    err = capfd.readouterr().err
    assert err.startswith("kfac-ref: ") and "3.64 TiB" in err and err.count("\n") == 1


def test_a_disk_that_is_full(here, capfd, monkeypatch):
    def save(run):
        if run.state.k:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(reporting, "draw", lambda run: "")
    monkeypatch.setattr(runs.Run, "save", save)
    assert cli.main(f"train {GOOD}".split()) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err


# --- through the library -------------------------------------------------------------------------------------------

NETWORK = Network([3, 2, 2], "tanh", "gaussian")


@pytest.mark.parametrize(
    ("X", "Y", "said"),
    [
        (np.zeros((4, 2)), np.zeros((4, 2)), r"X has shape \(4, 2\), expected \(cases, 3\): the network has 3 inputs"),
        (np.zeros((4, 3)), np.zeros((4, 3)), r"Y has shape \(4, 3\), expected \(cases, 2\): the network has 2 outputs"),
        (np.zeros(3), np.zeros((1, 2)), r"X has shape \(3,\), expected \(cases, 3\)"),
        (np.zeros((4, 3)), np.zeros(4), r"Y has shape \(4,\), expected \(cases, 2\)"),
        (np.zeros((4, 3)), np.zeros((5, 2)), "X has 4 cases and Y has 5"),
        (np.zeros((0, 3)), np.zeros((0, 2)), "X has no cases"),
    ],
)
def test_batches_of_the_wrong_shape(X, Y, said):
    kfac = KFAC(NETWORK)
    state = kfac.init([np.zeros(shape) for shape in NETWORK.shapes])
    with pytest.raises(ValueError, match=said):
        kfac.step(state, Batch(X, Y))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_batches_that_are_not_finite(rng, bad, which):
    kfac = KFAC(NETWORK)
    state = kfac.init([rng.standard_normal(shape) for shape in NETWORK.shapes])
    arrays = [rng.standard_normal((5, 3)), rng.standard_normal((5, 2))]
    arrays[which][2, 1] = bad
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match=rf"{'XY'[which]}\[2, 1\] is {bad}, expected finite"),
    ):
        kfac.step(state, Batch(*arrays))


@pytest.mark.parametrize("optimizer", [KFAC, SGD])
@pytest.mark.parametrize(
    ("likelihood", "row", "said"),
    [
        ("bernoulli", [0.5, 1.5], r"Y\[2, 1\] = 1.5, but the bernoulli likelihood takes targets between 0 and 1"),
        ("categorical", [-0.5, 1.5], r"Y\[2, 0\] = -0.5, but the categorical likelihood takes targets between 0 and 1"),
        ("categorical", [0.5, 0.6], r"row 2 of Y sums to 1.1, but the categorical likelihood takes one-hot"),
    ],
)
def test_targets_out_of_range(rng, optimizer, likelihood, row, said):
    network = Network([3, 4, 2], "tanh", likelihood)
    made = optimizer(network)
    state = made.init([rng.standard_normal(shape) for shape in network.shapes])
    Y = np.tile([0.25, 0.75], (5, 1))
    made.step(state, Batch(rng.standard_normal((5, 3)), Y))
    Y[2] = row
    with pytest.raises(ValueError, match=said):
        made.step(state, Batch(rng.standard_normal((5, 3)), Y))


@pytest.mark.parametrize("optimizer", [KFAC, SGD, NaturalGradient])
@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (Batch([[0.0] * 3], [[0.0] * 2]), "X is a list, expected a ndarray like the parameters"),
        (Batch(pandas.DataFrame(np.zeros((1, 3))), np.zeros((1, 2))), "X is a DataFrame, expected a ndarray"),
        (Batch(np.zeros((1, 3)), pandas.DataFrame(np.zeros((1, 2)))), "Y is a DataFrame, expected a ndarray"),
        ((np.zeros((1, 3)), np.zeros((1, 2))), r"batch is a tuple, expected a kfac_ref.Batch\(X, Y\)"),
        (pandas.DataFrame(np.zeros((1, 3))), r"batch is a DataFrame, expected a kfac_ref.Batch\(X, Y\)"),
    ],
)
def test_batches_that_are_no_arrays(optimizer, batch, said):
    made = optimizer(NETWORK)
    with pytest.raises(TypeError, match=said) as found:
        made.step(made.init([np.zeros(shape) for shape in NETWORK.shapes]), batch)
    assert "\n" not in str(found.value)


def test_too_few_parameters():
    with pytest.raises(ValueError, match=r"parameters has 1 arrays, but the network .* has 2 layers"):
        KFAC(NETWORK).init([np.zeros((2, 4))])
