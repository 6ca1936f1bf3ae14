"""The command interrupted: by signals, by a reader that goes away, or by a run that diverges."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from autodiff import evaluate
from autodiff.arrays import to_numpy
from kfac_ref.command import reporting
from kfac_ref.training import loop, runs
from kfac_ref.training.experiment import prepare
from kfac_ref.training.runs import METRICS
from tests.kfac_ref.command.conftest import PICTURES, TINY, kfac, state_of, without_warnings
from tests.kfac_ref.command.test_plots import check_picture
from tests.kfac_ref.training.test_checkpoints import after, assert_same
from tests.kfac_ref.training.test_runs import assert_same_metrics

# --- interruptions -------------------------------------------------------------------------------------------------


def interrupting(monkeypatch, number, at=5, times=1):
    """Have the process interrupted in the middle of an iteration."""
    iterate = loop.iterate

    def interrupted(*arguments):
        for state, record, seconds in iterate(*arguments):
            if state.k == at:
                for _ in range(times):
                    os.kill(os.getpid(), number)
            yield state, record, seconds

    monkeypatch.setattr(loop, "iterate", interrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(here, data, capfd, number, code):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert kfac("train", "--data", data, *TINY, "--iterations", 12, "--out", "whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupting(patch, number)
        assert kfac("train", "--data", data, *TINY, "--iterations", 12, "--out", "run") == code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    err = capfd.readouterr().err
    assert "stopping after this iteration" in err
    assert err.splitlines()[-1] == "stopped at iteration 5; go on with: kfac-ref train --resume run"
    assert state_of(here / "run").k == 5
    assert "train_error" in runs.read_metrics(here / "run")[-1]
    for name in PICTURES:
        check_picture(here / "run" / name)
    assert kfac("train", "--resume", "run") == 0
    assert_same(state_of(here / "whole"), state_of(here / "run"), np.zeros(0, dtype=np.float32))
    assert_same_metrics(runs.read_metrics(here / "run"), runs.read_metrics(here / "whole"), extra=(5,))


def test_interrupted_twice_at_once(here, data, capfd, undrawn, monkeypatch):
    with monkeypatch.context() as patch:
        interrupting(patch, signal.SIGINT, times=2)
        assert kfac("train", "--data", data, *TINY, "--iterations", 12, "--out", "run") == 130
    assert "go on with: kfac-ref train --resume run" in capfd.readouterr().err
    assert state_of(here / "run").k == len(runs.read_metrics(here / "run")) == 4
    assert kfac("train", "--resume", "run") == 0
    assert state_of(here / "run").k == 12


def test_interrupted_while_it_draws(here, data, capfd, monkeypatch):
    """The training is done and saved."""

    def draw(run):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr(reporting, "draw", draw)
    assert kfac("train", "--data", data, *TINY, "--iterations", 3, "--out", "run") == 130
    assert "Traceback" not in capfd.readouterr().err
    assert state_of(here / "run").k == 3


def test_the_command_to_go_on_with_can_be_pasted(here, data, capfd, undrawn, monkeypatch):
    interrupting(monkeypatch, signal.SIGINT)
    assert kfac("train", "--data", data, *TINY, "--iterations", 12, "--out", "my runs/first one") == 130
    command = capfd.readouterr().err.splitlines()[-1].split("go on with: ")[1]
    assert shlex.split(command) == ["kfac-ref", "train", "--resume", "my runs/first one"]


def process(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "kfac_ref.command.cli", *map(str, arguments)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_iterations(running, folder, count=3):
    until = time.monotonic() + 30
    while time.monotonic() < until and running.poll() is None:
        if (folder / METRICS).exists() and len(runs.read_metrics(folder)) >= count:
            return
        time.sleep(0.01)
    running.kill()
    pytest.fail(running.communicate()[1])


def test_ctrl_c(here, data):
    running = process("train", "--data", data, *TINY, "--iterations", 10**6, "--out", "run")
    wait_for_iterations(running, here / "run")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130 and "Traceback" not in err
    k = state_of(here / "run").k
    assert f"stopped at iteration {k}; go on with: kfac-ref train --resume run" in err
    assert f"after {k} iterations" in out
    for name in PICTURES:
        check_picture(here / "run" / name)
    done = process("train", "--resume", "run", "--iterations", k + 2)
    assert done.wait(30) == 0 and without_warnings(done.communicate()[1]) == ""
    p = prepare(runs.read_settings(here / "run")[0])
    whole = after(p.optimizer, p.first_state(), p.data, k + 2)
    assert_same(whole, state_of(here / "run"), p.data.X)


def test_a_reader_that_goes_away(here, data):
    """As in `kfac-ref train | head -1`: the run goes on or ends in one line, and its files are whole."""
    running = process("train", "--data", data, *TINY, "--iterations", 400, "--evaluate-every", 1, "--out", "run")
    running.stdout.readline()
    running.stdout.close()
    err = without_warnings(running.stderr.read())
    running.wait(30)
    running.stderr.close()
    assert "Traceback" not in err and len(err.splitlines()) <= 1
    assert state_of(here / "run").k == len(runs.read_metrics(here / "run"))


# --- diverging -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 1000])
def test_a_run_that_diverges(here, data, every):
    """In a process of its own, for what NumPy warns of to be seen."""
    options = [*TINY[:-2], "--optimizer", "sgd", "--likelihood", "gaussian", "--learning-rate", "1e6"]
    running = process("train", "--data", data, *options, "--evaluate-every", every, "--out", "run")
    err = without_warnings(running.communicate(timeout=30)[1])
    assert running.returncode == 1
    assert len(err.splitlines()) == 1, err
    assert re.match(r"kfac-ref: stopped: iteration \d+: .*; the last good state is in run/checkpoint", err)
    k = int(re.search(r"iteration (\d+)", err)[1])
    state = state_of(here / "run")
    # h is found not to be finite one iteration after the step that made it so
    assert k - 2 <= state.k <= k - 1 == len(runs.read_metrics(here / "run"))
    p = prepare(runs.read_settings(here / "run")[0])
    assert np.isfinite(evaluate(p.network, state.parameters, p.data.X, p.data.Y).h)
    assert all(np.all(np.isfinite(to_numpy(W))) for W in state.parameters)
