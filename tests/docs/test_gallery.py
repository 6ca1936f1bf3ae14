"""The gallery's shorter examples run as they are written, and say what they are there to show."""

from __future__ import annotations

import re

import pytest

from tests.docs.examples import FOLDER, run


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]


def test_every_example_is_tested_and_short():
    tests = "".join(path.read_text(encoding="utf-8") for path in FOLDER.parents[1].glob("tests/docs/test_*.py"))
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert len(names) >= 12
    for name in names:
        assert f'run("{name}"' in tests or f'"{name}.py"' in tests or f"test_{name}" in tests, name
        assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_fisher(capsys):
    """F̂ and F̃ are nearer to F than F̆, which has no blocks off the diagonal."""
    run("fisher")
    itself, kronecker, diagonal, tridiagonal = numbers(capsys.readouterr().out)
    assert itself == 0 and max(kronecker, tridiagonal) < diagonal < 1


def test_damping(capsys):
    """The best γ lies within what is drawn; its step lowers the objective."""
    figure = run("damping")
    assert numbers(capsys.readouterr().out)[-1] < 0
    lengths = figure.axes[0].lines[0].get_ydata()
    angles = figure.axes[1].lines[0].get_ydata()
    assert (lengths[1:] < lengths[:-1]).all() and angles[-1] < 10 < angles[0]


def test_rescaling(capsys):
    """The more damping, the shorter the direction and the larger α."""
    run("rescaling")
    a, b, c = (float(x) for x in re.findall(r"α = (\S+)", capsys.readouterr().out))
    assert 0 < a < b < c


def test_constants(capsys):
    """Each λ falls, and the objective with it the faster the smaller λ₀ is."""
    run("constants")
    h = [float(x) for x in re.findall(r"iterations (\S+),", capsys.readouterr().out)]
    assert len(h) == 5 and h == sorted(h)


def test_first_run(capsys):
    run("first_run")
    first, last = numbers(capsys.readouterr().out)
    assert last < first / 4


def test_convolutions(capsys):
    pytest.importorskip("sklearn")
    run("convolutions")
    errors = [float(x) for x in re.findall(r"digits (\S+)", capsys.readouterr().out)]
    assert len(errors) == 2 and max(errors) < 0.2


def test_pipeline(capsys):
    pytest.importorskip("sklearn")
    run("pipeline")
    (accuracy,) = numbers(capsys.readouterr().out)
    assert accuracy > 0.9
