"""`kfac-ref train` with networks of other layers than dense ones: from the table to --resume as with any."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from autodiff import text
from autodiff.network import described
from kfac_ref.training import runs
from kfac_ref.training.runs import CHECKPOINT, METRICS, SETTINGS
from tests.kfac_ref.command.conftest import kfac, settings_of, state_of
from tests.kfac_ref.command.test_plots import check_picture
from tests.kfac_ref.training.test_checkpoints import assert_same
from tests.kfac_ref.training.test_runs import assert_same_metrics

CONV = "1x6x6: conv 2 3x3 relu, average-pool 2, flatten, dense 3"
RESIDUAL = "1x6x6: conv 4 3x3 stride=2, residual [layer-norm relu, conv 4 3x3 padding=1], global-mean, dense 3"
RECURRENT = "6x6: recurrent 5, dense 3"
LIKE = np.zeros(0, dtype=np.float32)
QUICK = ["--m1", 20, "--T3", 5, "--average-from", 4, "--evaluate-every", 4]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of three classes, each with a bright corner of its own."""
    rng = np.random.default_rng(5)
    labels = rng.integers(3, size=80)
    X = 0.3 * rng.random((80, 1, 6, 6))
    for corner, (row, column) in enumerate(((0, 0), (0, 3), (3, 0))):
        X[labels == corner, 0, row : row + 3, column : column + 3] += 0.5
    path = tmp_path_factory.mktemp("data") / "corners.npz"
    np.savez(path, X=X[:60], Y=labels[:60], X_test=X[60:], Y_test=labels[60:])
    return str(path)


# --- what a run prints and leaves ----------------------------------------------------------------------------------


def test_a_run(here, pictures, capfd):
    assert kfac("train", "--data", pictures, "--network", CONV, *QUICK, "--iterations", 9, "--out", "run") == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert re.findall(r"^iteration +(\d+) ", out, re.M) == ["4", "8", "9"]
    # first of all the table, with a heading like others'
    assert (
        out.index("classifier of 2 layers with weights; categorical")
        < out.index("conv 2 3x3 relu")
        < out.index("optim")
    )
    assert re.search(r"1  conv 2 3x3 relu +2x4x4 +2x10 +16 +20\n", out) and "λ₀ = 0.3" in out
    described_ = {
        k: v for k, v in described(text.read(f"{CONV}; categorical")).description().items() if k != "likelihood"
    }
    settings = settings_of(here / "run")
    assert settings["network"] == described_ and settings["likelihood"] == "categorical"
    assert (settings["activation"], settings["initialisation"]) == (None, "he")
    check_picture(here / "run" / "curve.png")
    last = runs.read_metrics(here / "run")[-1]
    assert (here / "run" / "mistakes.png").exists() == (last["test_misclassified"] > 0)


def test_autoencoders_and_targets_for_each_position(here, rng, capfd):
    np.savez("images.npz", X=rng.random((30, 1, 6, 6)))
    network = "1x6x6: conv 2 3x3 stride=3 tanh, flatten, dense 5, dense 36"
    assert kfac("train", "--data", "images.npz", "--network", network, *QUICK, "--iterations", 3, "--out", "a") == 0
    # the narrowest place is the code
    assert "PCA with 5 components" in capfd.readouterr().out
    check_picture(here / "a" / "reconstructions.png")
    np.savez("words.npz", X=rng.random((30, 5, 4)), Y=np.eye(3)[rng.integers(3, size=(30, 5))])
    network = "5x4: recurrent 6 returns=all, dense 3"
    assert kfac("train", "--data", "words.npz", "--network", network, *QUICK, "--iterations", 3, "--out", "b") == 0
    assert "training misclassified" in capfd.readouterr().out
    check_picture(here / "b" / "curve.png")


# --- resumed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [CONV, RESIDUAL, RECURRENT])
@pytest.mark.parametrize("optimizer", ["kfac", "sgd"])
def test_resumed_to_the_last_bit(here, undrawn, pictures, network, optimizer):
    constants = QUICK if optimizer == "kfac" else ["--optimizer", "sgd", "--m1", 20, "--evaluate-every", 4]
    common = ["--data", pictures, "--network", network, *constants]
    assert kfac("train", *common, "--iterations", 9, "--out", "whole") == 0
    assert kfac("train", *common, "--iterations", 4, "--out", "parts") == 0
    # named once more, in another way of writing it
    description = json.dumps(text.read(network.replace("stride=2", "stride=2x2")))
    (here / "same.json").write_text(description)
    assert kfac("train", "--resume", "parts", "--network", "same.json", "--iterations", 9) == 0
    assert_same(state_of(here / "parts"), state_of(here / "whole"), LIKE)
    assert_same_metrics(runs.read_metrics(here / "parts"), runs.read_metrics(here / "whole"))


def test_killed_and_resumed(here, undrawn, pictures):
    """kill -9 in the midst of it."""
    common = ["train", "--data", pictures, "--network", RESIDUAL, *map(str, QUICK)]
    assert kfac(*common, "--iterations", 60, "--out", "whole") == 0
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kfac_ref.command.cli",
            *common,
            "--iterations",
            "100000",
            "--save-every",
            "0",
            "--out",
            "cut",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (here / "cut" / METRICS).exists() or len((here / "cut" / METRICS).read_text().splitlines()) < 12:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = state_of(here / "cut").k
    assert kfac("train", "--resume", "cut", "--iterations", max(60, done + 1)) == 0
    if done < 60:
        assert_same(state_of(here / "cut"), state_of(here / "whole"), LIKE)
        assert_same_metrics(runs.read_metrics(here / "cut"), runs.read_metrics(here / "whole"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--network", "1x6x6: conv 2 3x3 tanh, average-pool 2, flatten, dense 3"],
            "has network 1x6x6: conv 2 3x3 relu, av",
        ),
        (["--network", f"{CONV}; gaussian"], "has likelihood categorical; it cannot be changed"),
        (["--network", "36-5-3"], "has network 1x6x6: conv 2 3x3 relu"),
        (["--network", "conv"], "has network 1x6x6: conv 2 3x3 relu"),
        (["--likelihood", "gaussian"], "has likelihood categorical"),
    ],
)
def test_another_network_is_not_resumed(here, undrawn, pictures, capfd, given, said):
    assert kfac("train", "--data", pictures, "--network", CONV, *QUICK, "--iterations", 1, "--out", "run") == 0
    before = {name: (here / "run" / name).read_bytes() for name in (CHECKPOINT, METRICS, SETTINGS)}
    assert kfac("train", "--resume", "run", "--iterations", 2, *given) == 2
    assert said in capfd.readouterr().err
    assert {name: (here / "run" / name).read_bytes() for name in before} == before


def test_a_named_network_is_resumed_by_its_name(here, undrawn, capfd):
    common = ["--data", "fashion16", "--network", "recurrent", "--m1", 20]
    assert kfac("train", *common, "--iterations", 1, "--out", "run") == 0
    assert kfac("train", "--resume", "run", *common, "--iterations", 2) == 0
    assert state_of(here / "run").k == 2
    assert kfac("train", "--resume", "run", "--network", "conv", "--iterations", 3) == 2
    assert "has network 16x16: recurrent 128" in capfd.readouterr().err
