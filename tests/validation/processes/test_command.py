"""`python -m validation processes`: measured once, then told; mini-batches tried; tables and the picture."""

from __future__ import annotations

import pytest

from validation import processes
from validation.processes import minibatches
from validation.processes.minibatches import Reached

STAGES = dict.fromkeys(("gradient", "factors", "inverse", "direction", "quadratic model", "ρ", "rest"), 0.5)


def made_up(number, *options):
    about = dict(zip(options[::2], options[1::2], strict=True))
    traffic = {what: {"messages": 1.0, "bytes": 2e6, "seconds": 0.01} for what in ("gradient", "factors")}
    return {
        "processes": number, "threads": int(about.get("--threads", 1)), "inverse": about["--inverse"],
        "m": int(about["--m"]), "iterations": int(about["--iterations"]), "seconds": 3.5, "stages": STAGES,
        "traffic": traffic if number > 1 else {},
    }  # fmt: skip


def test_all_of_it(tmp_path, monkeypatch, capsys):
    found = [
        Reached("kfac", 100, 40),
        Reached("sgd", 100, None),
        Reached("kfac", 200, 20),
        Reached("sgd", 200, 90, 0.01),
    ]
    monkeypatch.setattr(processes, "measured", made_up)
    monkeypatch.setattr(minibatches, "compare", lambda *options: found)
    out = tmp_path / "out"
    assert processes.main(["--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert (out / "processes.txt").read_text() == said.removesuffix("\n")
    assert (out / "minibatches.png").stat().st_size > 5000
    lines = [line.split() for line in said.splitlines()]
    assert ["block-diagonal", "all", "2", "4", "2"] in lines
    assert ["200", "20", "90", "0.01"] in lines and ["100", "40", "–", "–"] in lines
    assert said.count("100 million weights") == 2 * 2 * len(processes.COMPUTED)
    assert "COMPUTED, not measured" in said and said.count("MEASURED") == 3

    def never(*options):
        raise AssertionError("measured again")

    monkeypatch.setattr(processes, "measured", never)
    assert processes.main(["--out", str(out)]) == 0
    assert capsys.readouterr().out == said


def test_without_mpiexec(monkeypatch):
    monkeypatch.setattr(processes.shutil, "which", lambda *a, **k: None)
    with pytest.raises(ValueError, match="there is no mpiexec"):
        processes.measured(2)


def test_iterations_to_an_error():
    k = minibatches.iterations("kfac", 100, 15.0, 60, minibatches.KFAC_CONSTANTS)
    assert k is not None and k % minibatches.EVERY == 0 and 5 < k < 60
    assert minibatches.iterations("kfac", 100, 15.0, k - 1, minibatches.KFAC_CONSTANTS) is None
    assert minibatches.iterations("sgd", 100, 1.0, 10, {"learning_rate": 1e9}) is None


def test_sgd_has_its_best_learning_rate(monkeypatch):
    needed = {0.006: 30, 0.012: None}

    def taken(optimizer, m, target, most, constants):
        k = needed[constants["learning_rate"]] if optimizer == "sgd" else 7
        return k if k is not None and k <= most else None

    monkeypatch.setattr(minibatches, "iterations", taken)
    assert minibatches.compare((10,)) == [Reached("kfac", 10, 7), Reached("sgd", 10, 30, 0.006)]
