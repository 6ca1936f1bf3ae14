"""What the tests of the command share: data, a folder to work in, and the command itself."""

from __future__ import annotations

import json

import pytest

from kfac_ref import machine
from kfac_ref.command import cli, reporting
from kfac_ref.training import checkpoints, runs
from kfac_ref.training.experiment import prepare
from kfac_ref.training.runs import CHECKPOINT, SETTINGS
from tests.kfac_ref.training.test_runs import save_data

TINY = ["--network", "6-4-2-4-6", "--m1", "20", "--full-batch-at", "20", "--eta", "1e-3", "--evaluate-every", "4"]
PICTURES = ["curve.png", "reconstructions.png"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_data(tmp_path_factory.mktemp("data") / "mine.npz")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Whatever a command makes by a relative name, it makes here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def unwarned(monkeypatch):
    """Without the warning of an old BLAS kernel, which depends on the machine; see `without_warnings` for processes."""
    monkeypatch.setattr(machine, "blas_warning", lambda: None)


def without_warnings(err):
    """What a process of the command said, but for that warning."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("kfac-ref: warning: "))


@pytest.fixture
def undrawn(monkeypatch):
    """Without the pictures, which take most of the time of a tiny run."""
    monkeypatch.setattr(reporting, "draw", lambda run: "not drawn")


def kfac(*arguments):
    """The exit code of the command."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def settings_of(folder):
    return json.loads((folder / SETTINGS).read_text())


def state_of(folder):
    experiment, _ = runs.read_settings(folder)
    p = prepare(experiment)
    return checkpoints.load(folder / CHECKPOINT, p.network, p.data.X)[0]
