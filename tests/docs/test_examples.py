"""The examples of the documentation run, and print what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_check_your_kfac(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    runpy.run_path(str(EXAMPLES / "check_your_kfac.py"))
    printed = capsys.readouterr().out
    found = {line.split()[0]: line for line in printed.splitlines() if line[:2] in ("A_", "G_")}
    assert "KFAC-expand" in found["A_1"] and " match " in found["A_1"]
    assert "KFC; x 1/N^2" in found["G_1"] and "Monte-Carlo Fisher" in found["G_1"]
    assert "x 1/N^2" in found["G_2"]


def test_examples_are_short_and_have_a_title() -> None:
    for path in EXAMPLES.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 60 and lines[0] == '"""' and set(lines[2]) == {"="}, path.name
