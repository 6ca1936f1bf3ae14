"""What the README says can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfac_ref import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys):
    """Its printed h is what is left of a sine: near the constant of the Gaussian likelihood, ½ log 2π."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(code, "README.md", "exec"), {})
    h = float(capsys.readouterr().out.split()[0])
    assert 0.9189 < h < 0.93


def test_continuous_integration_runs_the_readme_s_command():
    assert len(re.findall(r"^ +python -m pip install .*&& python -m pytest$", README, re.M)) == 1


def test_files_that_are_named_exist():
    for name in re.findall(r"`((?:autodiff|kfac_ref|validation|tests)/[\w/.*-]*)`", README):
        assert list(ROOT.glob(name.rstrip("/"))), name
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


@pytest.mark.parametrize("line", re.findall(r"^    kfac-ref train (.*)$", README, re.M))
def test_options_in_examples_exist(line):
    options, rest = cli._parser().parse_known_args(["train", *line.split()])
    assert not rest and options.command
