"""What the README says can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfac_ref.command import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run(capsys):
    """The first prints an h that is what is left of a sine: near the constant of the Gaussian likelihood, ½ log 2π; the
    second the table that stands below it."""
    codes = re.findall(r"```python\n(.*?)```", README, re.S)
    said = []
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})
        said.append(capsys.readouterr().out)
    h, table = said
    assert 0.9189 < float(h.split()[0]) < 0.93
    (printed,) = re.findall(r"```text\n(.*?)```", README, re.S)
    residual = re.compile(r"\d\.\de[-+]\d\d")
    assert residual.sub("…", table) == residual.sub("…", printed)


def test_continuous_integration_runs_the_readme_s_command():
    assert len(re.findall(r"^ +python -m pip install .*&& python -m pytest -n 2$", README, re.M)) == 1


def test_files_that_are_named_exist():
    for name in re.findall(r"`((?:autodiff|kfac_ref|validation|tests)/[\w/.*-]*)`", README):
        assert list(ROOT.glob(name.rstrip("/"))), name
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


@pytest.mark.parametrize("line", re.findall(r"^    kfac-ref (.*)$", README, re.M))
def test_options_in_examples_exist(line):
    options, rest = cli._parser().parse_known_args(line.split())
    assert not rest and options.command
