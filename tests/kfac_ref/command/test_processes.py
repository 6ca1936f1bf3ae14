"""`mpiexec -n P kfac-ref train`: the run of one process; faults; going on with another number."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from kfac_ref.machine import ALONE
from kfac_ref.training import dealing, experiment, runs
from kfac_ref.training.experiment import Experiment
from kfac_ref.training.runs import METRICS
from tests.kfac_ref.command.conftest import TINY, kfac, state_of, without_warnings
from tests.kfac_ref.machine.test_processes import launched, mpiexec
from tests.kfac_ref.machine.threaded import together

COMMAND = ("-m", "kfac_ref.command.cli", "train")
DOUBLE = [*TINY, "--dtype", "float64"]


def theta(folder: Path) -> np.ndarray:
    state = state_of(folder)
    return np.concatenate([W.ravel() for W in (*state.parameters, *state.averaged)])


def assert_near(left: Path, right: Path) -> None:
    assert np.linalg.norm(theta(left) - theta(right)) <= 1e-12 * np.linalg.norm(theta(right))


def test_cases_are_dealt_out(data):
    """Each process has its part of the cases, and no other than the first holds all."""
    whole = experiment.prepare(Experiment(data=str(data), constants={}))

    def prepared(own):
        p = dealing.prepare(Experiment(data=str(data), constants={}), own)
        return p, own.dealt(p.data.cases)

    for index, (p, rows) in enumerate(together(3, prepared)):
        assert p.experiment == whole.experiment and p.network == whole.network and p.data.Y is p.data.X
        assert np.array_equal(p.data.X, whole.data.X[rows]) and p.data.cases == whole.data.cases
        assert len(p.data.X) < 0.4 * len(whole.data.X)
        assert p.dataset.X.shape[0] == (whole.data.cases if index == 0 else 0)
        assert p.optimizer.settings == whole.optimizer.settings
    assert whole.optimizer.processes is ALONE


def test_what_the_first_raises_all_raise():
    def prepared(own):
        with pytest.raises(ValueError, match=r'^no data set or path "nonsense"'):
            dealing.prepare(Experiment(data="nonsense", constants={}), own)

    together(3, prepared)


def test_the_run_of_one_process(here, data):
    """Parameters to rounding, one voice, and metrics; then on with another number, and with one."""
    assert kfac("train", "--data", data, *DOUBLE, "--iterations", 18, "--out", "one") == 0
    options = ["--data", str(data), *DOUBLE, "--iterations", "9", "--out", "many"]
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    done = mpiexec(3, *COMMAND, *options, env=environment)
    assert done.returncode == 0, done.stderr
    assert without_warnings(done.stderr) == "" and done.stdout.count("folder ") == 1
    assert "in each of 3 processes" in done.stdout
    done = mpiexec(2, *COMMAND, "--resume", "many", "--iterations", "14")
    assert done.returncode == 0, done.stderr
    assert kfac("train", "--resume", "many", "--iterations", 18) == 0
    assert_near(here / "many", here / "one")
    many, one = runs.read_metrics(here / "many"), runs.read_metrics(here / "one")
    for line, expected in zip(many, one, strict=True):
        for name in {"h", "error", "train_error", "train_h"} & expected.keys():
            assert line[name] == pytest.approx(expected[name], rel=1e-10)
    assert [line["m"] for line in many] == [line["m"] for line in one]


def test_bad_input_is_said_once(here, data):
    done = mpiexec(3, *COMMAND, "--data", str(data), "--learning-rate", "3", "--out", "run")
    lines = without_warnings(done.stderr).splitlines()
    assert done.returncode == 2 and sum("kfac-ref: error:" in line for line in lines) == 1
    assert 'learning_rate is not a constant of the optimizer "kfac"' in done.stderr


def processes_of(mark: str) -> dict[int, int]:
    """Their process ids by their numbers, of a launch with `mark` in its environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            rank = next((v for v in variables if v.startswith((b"PMI_RANK=", b"OMPI_COMM_WORLD_RANK="))), None)
            if f"MARK={mark}".encode() in variables and rank is not None:
                found[int(rank.partition(b"=")[2])] = int(folder.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="process ids are found in /proc")
@pytest.mark.parametrize("killed", [0, 2])
def test_one_that_is_killed_ends_all(here, data, killed):
    """Within seconds; and the run goes on from its last checkpoint with another number of processes."""
    assert kfac("train", "--data", data, *DOUBLE, "--iterations", 12, "--out", "one") == 0
    mark = uuid.uuid4().hex
    options = ["--data", str(data), *DOUBLE, "--iterations", "1000000", "--save-every", "0", "--out", "many"]
    running = subprocess.Popen(
        launched(3, *COMMAND, *options), env=os.environ | {"MARK": mark}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until and running.poll() is None:
        if (here / "many" / METRICS).exists() and len(runs.read_metrics(here / "many")) >= 3:
            break
        time.sleep(0.02)
    os.kill(processes_of(mark)[killed], signal.SIGKILL)
    assert running.wait(20) != 0
    gone = time.monotonic() + 5
    while processes_of(mark) and time.monotonic() < gone:
        time.sleep(0.05)
    assert processes_of(mark) == {}
    k = state_of(here / "many").k
    assert k >= 2
    if k < 12:
        done = mpiexec(2, *COMMAND, "--resume", "many", "--iterations", "12")
        assert done.returncode == 0, done.stderr
        assert_near(here / "many", here / "one")
