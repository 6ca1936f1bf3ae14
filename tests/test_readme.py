"""What the README says can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfac_ref.command import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run(capsys):
    """The first prints the accuracies of digits; the second an h that is what is left of a sine: near the constant of
    the Gaussian likelihood, ½ log 2π; then standard deviations, the larger far from the data; the last the table that
    stands below it."""
    codes = re.findall(r"```python\n(.*?)```", README, re.S)
    said = []
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})
        said.append(capsys.readouterr().out)
    accuracies, h, deviations, table = said
    assert len(found := re.findall(r"0\.\d+", accuracies)) == 5 and min(map(float, found)) > 0.88
    assert 0.9189 < float(h.split()[0]) < 0.93
    near, far = map(float, deviations.strip("[]\n").split())
    assert far > 3 * near > 0
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


def test_from_a_table_to_predictions_as_written(tmp_path, monkeypatch, capsys):
    """The four commands of that section, after the one that writes the table."""
    monkeypatch.chdir(tmp_path)
    section = README.split("## From a table to predictions")[1].split("\n## ")[0]
    (written,) = re.findall(r'^    python -c "(.*)"$', section, re.M)
    exec(written, {})
    commands = re.findall(r"^    kfac-ref (.*)$", section, re.M)
    assert [line.split()[0] for line in commands] == ["train", "evaluate", "predict", "export"]
    for line in commands:
        assert cli.main(line.split()) == 0
    accuracy = re.search(r"accuracy +(\S+)", capsys.readouterr().out)
    assert accuracy and float(accuracy[1]) > 0.95
    assert (tmp_path / "species.csv").read_text().startswith("prediction,probability of setosa,")
    assert (tmp_path / "iris" / "model.onnx").is_file()


@pytest.mark.parametrize("line", re.findall(r"^    kfac-ref (.*)$", README, re.M))
def test_options_in_examples_exist(line):
    options, rest = cli.whole_parser().parse_known_args(line.split())
    assert not rest and options.command
