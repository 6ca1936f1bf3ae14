"""Speed, on a tiny network, and the frameworks beside, most of them made up."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from kfac_ref.settings import INVERSES
from validation.benchmark import problems
from validation.gpu_campaign import device, frameworks, part, speed
from validation.gpu_campaign.part import Clock
from validation.gpu_campaign.speed import Bench
from validation.gpu_campaign.transfers import counted

LABELS = ["gradient", "SGD"] + [f"{p}, {i}" for p in ("paper", "authors") for i in INVERSES]


@pytest.fixture
def tiny(monkeypatch):
    """MNIST's network and cases are tiny ones."""
    problem = problems.random_autoencoder([6, 5, 3, 5, 6], 60, "numpy")
    monkeypatch.setattr(problems, "load", lambda name, backend: problem)
    monkeypatch.setattr(speed, "MINIBATCHES", (20, 60))
    monkeypatch.setattr(device, "SIDE", {"numpy": 16})
    return problem


def fake_framework(tmp_path, monkeypatch, code: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setattr(frameworks, "__file__", str(script))


def test_every_measurement_is_printed(tiny, tmp_path, monkeypatch, capsys):
    fake_framework(tmp_path, monkeypatch, f"raise SystemExit({frameworks.MISSING})")
    assert speed.main(["--backend", "numpy"]) == part.DONE
    out = capsys.readouterr().out
    for m in (20, 60):
        assert re.findall(rf"^ +{m}  (.*?)  .*$", out.split("Milliseconds")[0], re.M) == LABELS
    assert "torch: not there" in out and "jax: not there" in out and "on random cases" in out
    stages = out.split("Milliseconds")[1]
    assert stages.count("block-diagonal") == 4 and "quadratic model" in stages and "uploads" in stages


def test_without_time_what_is_not_measured_is_named(tiny, capsys):
    assert speed.main(["--backend", "numpy", "--until", "0"]) == part.CUT
    out = capsys.readouterr().out
    assert "cut, as time was up: m = 20, gradient, m = 20, SGD," in out and "torch, jax, m = 60, gradient" in out


FRAMEWORK = """
import json, sys, numpy as np
settings = json.loads(str(np.load(sys.argv[2])["settings"]))
for m in map(int, sys.argv[3:]):
    print(json.dumps({"name": "X 1", "device": "cpu", "precision": "float32", "m": m, "what": "gradient", "h": H,
                      "seconds": [0.5, 0.25, 0.25]}), flush=True)
raise SystemExit(CODE)
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_framework_stands_beside(tiny, tmp_path, monkeypatch, capsys, code):
    fake_framework(tmp_path, monkeypatch, FRAMEWORK.replace("H", "None", 1).replace("CODE", str(code)))
    bench = Bench(tiny, Clock())
    bench.gradients = {20: 0.125}
    assert bench.framework("torch") is (code == 0)
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:7] == ["20", "X", "1,", "gradient,", "float32", "250.000", "333.333"]
    assert "2.67" in first and "–" in second


def test_a_framework_with_another_network_is_found(tiny, tmp_path, monkeypatch, capsys):
    fake_framework(tmp_path, monkeypatch, FRAMEWORK.replace("H", "7.5", 1).replace("CODE", "0"))
    assert not Bench(tiny, Clock()).framework("torch")
    assert "X 1: h = 7.5, but here" in capsys.readouterr().out


def test_a_framework_that_hangs_is_cut(tiny, tmp_path, monkeypatch, capsys):
    hangs = FRAMEWORK.replace("H", "None", 1).replace("raise SystemExit(CODE)", "import time; time.sleep(60)")
    fake_framework(tmp_path, monkeypatch, hangs)
    monkeypatch.setattr(speed, "FRAMEWORK_SECONDS", 1.5)
    assert Bench(tiny, Clock()).framework("jax")
    out = capsys.readouterr().out
    assert "jax: cut after 2 s" in out and "gradient, float32" in out


@pytest.mark.parametrize("which", ["torch", "jax"])
def test_a_frameworks_h_is_ours(tiny, tmp_path, which, capsys):
    """Where it is installed; otherwise it says that it is not."""
    path = tmp_path / "problem.npz"
    speed.write_problem(tiny, 60, path)
    command = [sys.executable, frameworks.__file__, which, str(path), "20", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == frameworks.MISSING:
        assert done.stdout == ""
        pytest.skip(f"{which} is not installed")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    bench = Bench(tiny, Clock())
    assert [(a["m"], a["what"]) for a in answers] == [(m, w) for m in (20, 60) for w in ("gradient", "Adam")]
    assert all(bench._same_network(a) and len(a["seconds"]) == frameworks.REPEATS for a in answers)
    assert all(a["h"] for a in answers if a["what"] == "gradient")


def test_transfers_are_counted(monkeypatch):
    """With CuPy, which need have no device: the array is a fiction."""
    cupy = pytest.importorskip("cupy")
    get, asarray = (lambda self, *args, **kwargs: np.array(1.5)), (lambda *args, **kwargs: None)
    monkeypatch.setattr(cupy.ndarray, "get", get)
    monkeypatch.setattr(cupy, "asarray", asarray)
    memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(4096, 8, None, 0), 0)
    x = cupy.ndarray((), dtype=np.float64, memptr=memory)
    with counted(x) as count:
        float(x), x.item(), x.get()
        assert (count.reads, count.uploads) == (3, 0)
        cupy.asarray(np.zeros(2)), cupy.asarray([1.0]), cupy.asarray(x)
    assert (count.reads, count.uploads) == (3, 2)
    float(x)
    assert count.reads == 3 and cupy.asarray is asarray and cupy.ndarray.get is get


def test_numpy_transfers_nothing():
    with counted(np.zeros(2)) as count:
        float(np.asarray([1.0])[0])
    assert (count.reads, count.uploads) == (0, 0)
