"""docs/examples/check_your_kfac.py runs as it is written, and the check names what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "check_your_kfac.py"


def test_the_example(capsys):
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    pytest.importorskip("torch")
    exec(compile(source, str(EXAMPLE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: line for line in lines if line[:2] in ("A_", "G_")}
    assert "KFAC-expand; neither A nor G carries T" in found["A_1"]
    assert "Monte-Carlo Fisher" in found["G_1"] and "KFC; x 1/N^2; neither A nor G carries T" in found["G_1"]
    assert " match " in found["A_2"] and "x 1/N^2" in found["G_2"] and "T" not in found["G_2"].split("x 1/N^2")[1]
