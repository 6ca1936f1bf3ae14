"""Every page can be followed: its commands exist, its code runs and prints what stands below it, its links lead
somewhere."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import validation.__main__ as evidence
from kfac_ref.command import cli
from tests.docs import pages
from tests.docs.pages import PAGES, Block

ON_PAGES = pytest.mark.parametrize("page", PAGES, ids=pages.name)


# --- what is run -----------------------------------------------------------------------------------------------------


def digits(said: list[str]) -> None:
    """Five accuracies."""
    found = re.findall(r"0\.\d+", said[0])
    assert len(found) == 5 and min(map(float, found)) > 0.88


def sine(said: list[str]) -> None:
    """An h that is what is left of a sine: near the constant of the Gaussian likelihood, ½ log 2π."""
    assert 0.9189 < float(said[0].split()[0]) < 0.93


def deviations(said: list[str]) -> None:
    """The larger far from the data."""
    near, far = map(float, said[0].strip("[]\n").split())
    assert far > 3 * near > 0


def flowers(said: list[str]) -> None:
    accuracy = re.search(r"accuracy +(\S+)", "".join(said))
    assert accuracy and float(accuracy[1]) > 0.95
    assert Path("species.csv").read_text().startswith("prediction,probability of setosa,")
    assert Path("iris", "model.onnx").is_file()


SHOWN = {
    "docs/how-to/estimators.md": digits,
    "docs/how-to/python.md": sine,
    "docs/how-to/posterior.md": deviations,
    "docs/how-to/table.md": flowers,
}
"""What is printed or left by pages, where it isn't compared word for word."""


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.run for b in pages.blocks(p))], ids=pages.name)
def test_the_code_runs_and_prints_what_stands_below(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = [text for _, text in pages.printed(page)]
    SHOWN.get(pages.name(page), lambda said: None)(said)


def test_pages_of_which_something_is_expected_are_there():
    assert SHOWN.keys() <= set(map(pages.name, PAGES))


# --- what is not -----------------------------------------------------------------------------------------------------


def idle(language: str) -> list[Block]:
    return [b for page in PAGES for b in pages.blocks(page) if b.language == language and not b.run]


@ON_PAGES
def test_what_is_not_run_says_why(page):
    for block in pages.blocks(page):
        assert set(block.marks) <= {*pages.NOT_RUN, *pages.NEEDED}, block


@pytest.mark.parametrize("block", idle("python"), ids=lambda b: b.text.splitlines()[0])
def test_code_that_is_not_run_is_right_as_far_as_can_be_seen(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and re.match(r"(autodiff|kfac_ref)\b", node.module or ""):
            for alias in node.names:
                assert defines(node.module, alias.name), f"{node.module}.{alias.name}"


def defines(module: str, name: str) -> bool:
    """Also where what the module itself needs is not there."""
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        text = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
        return name in {getattr(node, "name", None) for node in ast.parse(text).body}


@pytest.mark.parametrize("command", [c for b in idle("bash") for c in b.commands])
def test_commands_that_are_not_run_are_right(command, monkeypatch):
    words = shlex.split(re.sub(r"^(mpiexec|srun) -n \d+ ", "", command))
    if words[0] == "kfac-ref":
        options, rest = cli.whole_parser().parse_known_args(words[1:])
        assert not rest and options.command
    elif words[1:3] == ["-m", "validation"]:
        piece(words[3:], monkeypatch, whole=True)
    else:
        assert re.match(r"(?:\S*/)?python -m (pip install|pytest|shtab|sphinx|venv|build) ", command), command


class Parsed(Exception):
    """Nothing else is to happen."""


def piece(words: list[str], monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> None:
    """A piece of evidence takes these options; `whole`: as a command."""
    real = argparse.ArgumentParser.parse_args

    def parse(parser, arguments=None, namespace=None):
        if whole:
            real(parser, arguments, namespace)
        assert {w for w in words if w.startswith("--")} <= set(parser._option_string_actions), words
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(Parsed):
        evidence.main(words)


# --- the text --------------------------------------------------------------------------------------------------------


@ON_PAGES
def test_commands_in_the_text_exist(page, monkeypatch):
    parsers = cli.whole_parser().parts
    for line in re.findall(r"`kfac-ref\s+([^`]+)`", pages.prose(page)):
        command, *words = shlex.split(line)
        assert command in parsers, line
        options = {w for w in words if w.startswith("--")}
        assert options <= set(parsers[command].option_names), line
    for line in re.findall(r"`python\s+-m\s+validation\s+([^`]+)`", pages.prose(page)):
        with monkeypatch.context() as patch:
            piece(shlex.split(line), patch, whole=False)


@ON_PAGES
def test_files_that_are_named_exist(page):
    text = pages.prose(page)
    for name in re.findall(r"`((?:autodiff|docs|kfac_ref|tests|validation)/[\w/.*-]*)`", text):
        assert list(pages.ROOT.glob(name.rstrip("/"))), name
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith(("#", "/", "generated/")):
            assert (page.parent / target.split("#")[0]).exists(), target
