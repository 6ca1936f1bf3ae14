"""The examples of other libraries: without their environments, only what stands around them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from kfac_ref.oracle import Case, truth
from validation import peers
from validation.peers import cases

FOLDER = Path(peers.__file__).parent


def test_without_a_python_it_says_how_to_make_the_environments(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main([]) == 2
    error = capsys.readouterr().err
    assert "curvlinops-for-pytorch==3.0.1" in error
    assert "kfac-jax==0.0.8" in error


@pytest.mark.parametrize("arguments", [["--torch-python", "no/such/python"], ["--jax-python", "x", "--only", "nobody"]])
def test_what_cannot_be_run_is_named(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"no/such/python: cannot be run|no example 'nobody', expected some of"):
        peers.main(arguments)


def test_an_environment_without_the_library_fails(capfd: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("curvlinops"):
        pytest.skip("the library is here")
    assert peers.main(["--torch-python", sys.executable, "--only", "curvlinops_ggn"]) == 1
    assert "curvlinops_ggn" in capfd.readouterr().err.splitlines()[-1]


def test_every_example_is_run_and_short() -> None:
    listed = {example for examples in peers.EXAMPLES.values() for example in examples}
    there = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "cases", "torch_network", "jax_network"}
    there -= {"posterior_cases", "posterior_torch"}
    assert there == listed
    for path in FOLDER.glob("*.py"):
        if path.stem in listed:
            assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path.name


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
def test_show_says_what_is_unexplained(likelihood: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = cases.case(likelihood)
    assert isinstance(case, Case)
    found = truth(case)
    with pytest.raises(SystemExit, match="0"):
        cases.show([("as defined", case, {"A_0": found["A_0_0"]})])
    wrong = found["A_0_0"].copy()
    wrong[0, 0] += 3.0
    with pytest.raises(SystemExit, match="1"):
        cases.show([("off in one place", case, {"A_0": wrong})])
    assert "off in one place: A_0" in capsys.readouterr().out
