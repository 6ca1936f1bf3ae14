"""The examples of other libraries: without their environments, only what stands around them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
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
    common = {"__init__", "cases", "influence_cases", "torch_network", "torch_shared", "jax_network", "jax_shared"}
    common |= {"posterior_cases", "posterior_torch"}
    there = {path.stem for path in FOLDER.glob("*.py")} - common
    assert there == listed
    for path in FOLDER.glob("*.py"):
        if path.stem in listed:
            assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path.name


def test_what_curvlinops_reduces_with_outputs_at_each_position() -> None:
    """As its example says, and unlike the Fisher's G."""
    pytest.importorskip("curvlinops")
    from validation.peers.curvlinops_shared import FisherType, factors
    from validation.peers.torch_shared import case

    name = "sequence, outputs at each position"
    theirs = factors(name, "gaussian", FisherType.TYPE2, "sum", "reduce")
    captured = case(name, "gaussian")
    for i, layer in enumerate(captured.layers, start=1):
        g = layer.g.reshape(captured.positions, -1, *layer.g.shape[1:]).sum(0).sum(2)
        G = 2 * np.einsum("cnd,cne->de", g, g)
        np.testing.assert_allclose(theirs[f"G_{i}"].numpy(), G, rtol=1e-12)


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
