"""PAPER.md: every name in it exists, every test that it names exists and ran (see conftest.py), and nothing is
unaccounted for."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from validation.figures import FIGURES
from validation.theorems import STATEMENTS

ROOT = Path(__file__).parent.parent
PAPER = (ROOT / "PAPER.md").read_text(encoding="utf-8")

COMPUTED = ("where", "what it says", "computed by", "checked by")
NOT_COMPUTED = ("where", "what it says", "why not")
PROPERTY = "tests/validation/theorems/test_properties.py::test_statement"
"""The test that draws instances of a statement; its parameter is the statement's name."""

MODULES = [
    *(
        f"autodiff.{name}"
        for name in ("activations", "initialisation", "likelihoods", "network", "objective", "passes")
    ),
    *(f"autodiff.layers.{name}" for name in ("convolution", "dense", "depthwise", "layer", "normalisation", "pooling")),
    *(f"autodiff.layers.{name}" for name in ("recurrent", "residual", "windows")),
    *(
        f"kfac_ref.curvature.{name}"
        for name in (
            *("block_diagonal", "block_tridiagonal", "cotangents", "cumulants", "damping", "ekfac", "factors"),
            *(
                "fisher",
                "full_block",
                "implicit_factors",
                "inverses",
                "kronecker",
                "kronecker_fisher",
                "quadratic",
                "recurrent",
                "targets",
                "trust_region",
            ),
        )
    ),
    *(f"kfac_ref.{name}" for name in ("baselines", "influence", "optimizer", "settings", "training.loop")),
    *(f"kfac_ref.posterior.{name}" for name in ("evidence", "laplace", "noisy", "predictive")),
]
"""Every public function of these is to be found in PAPER.md."""


# --- the walk --------------------------------------------------------------------------------------------------------


def rows(text: str) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
    """Line number, header and cells of every row of every table."""
    header: tuple[str, ...] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if header is None:
            header = tuple(cells)
        elif set("".join(cells)) != {"-"}:
            yield number, header, cells


def quoted(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def is_function(name: str) -> bool:
    """Whether it is to be taken for something in the code."""
    return re.fullmatch(r"(autodiff|kfac_ref|validation)(\.\w+)+", name) is not None


def is_test(name: str) -> bool:
    return "::" in name


def resolves(name: str) -> bool:
    """Whether this is a module, or what one has, as deep as the dots go; fields of a dataclass count."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part) and part not in getattr(found, "__dataclass_fields__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a file, by its path; none if pytest would not look there."""
    path = ROOT / file
    if not (path.is_file() and path.name.startswith("test_") and file.startswith("tests/")):
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def complaints(text: str) -> list[str]:
    """What is wrong in itself: cells missing or too many, names of nothing."""
    found = []
    for number, header, cells in rows(text):
        if header not in (COMPUTED, NOT_COMPUTED):
            found.append(f"line {number}: a table with columns {header}, expected {COMPUTED} or {NOT_COMPUTED}")
        elif len(cells) != len(header) or not all(cells):
            found.append(f"line {number}: {len(cells)} cells, expected {len(header)}, none of them empty: {cells}")
        elif header == COMPUTED:
            functions, checks = quoted(cells[2]), quoted(cells[3])
            found += [f"line {number}: {name} is no function" for name in functions if not is_function(name)]
            unknown = [name for name in checks if not (is_test(name) or name in STATEMENTS)]
            found += [f"line {number}: {name} is neither a test nor a statement" for name in unknown]
            if not (functions and checks):
                found.append(f"line {number}: nothing computes it, or nothing checks it")
    for name in dict.fromkeys(quoted(text)):
        if is_function(name) and not resolves(name):
            found.append(f"{name} does not exist")
        if re.fullmatch(r"(tests|validation)/[\w/]+\.py", name) and not (ROOT / name).is_file():
            found.append(f"{name} does not exist")
        if is_test(name) and name.partition("::")[2] not in names_in(name.partition("::")[0]):
            found.append(f"{name} does not exist")
    return found


def unaccounted(text: str) -> list[str]:
    """What exists and is not named: public functions of MODULES, statements, figures."""
    expected = []
    for module in map(importlib.import_module, MODULES):
        functions = inspect.getmembers(module, inspect.isfunction)
        own = [name for name, f in functions if f.__module__ == module.__name__ and not name.startswith("_")]
        expected += [f"{module.__name__}.{name}" for name in own]
    expected += [*STATEMENTS, *(f"validation.figures.{file}.draw" for file in FIGURES.values())]
    return sorted(set(expected) - set(quoted(text)))


def not_run(text: str, collected: set[str], ran: set[str], whole: bool) -> list[str]:
    """The tests named that did not run, by their node ids, although they were to: of those that were collected, or of
    all if the `whole` suite was."""
    checks = [name for _, header, cells in rows(text) if header == COMPUTED for name in quoted(cells[3])]
    named = {name if is_test(name) else f"{PROPERTY}[{name}]" for name in checks}
    return sorted((named if whole else named & collected) - ran)


def any_parameters(nodes: Iterable[str]) -> set[str]:
    """Node ids as they are, and without their parameters."""
    return {name for node in nodes for name in (node, node.partition("[")[0])}


# --- PAPER.md --------------------------------------------------------------------------------------------------------


def test_every_name_exists():
    assert complaints(PAPER) == []


def test_nothing_is_unaccounted_for():
    assert unaccounted(PAPER) == []


# --- the walk itself -------------------------------------------------------------------------------------------------

PI, PI_TEST = "kfac_ref.curvature.damping.pi", "tests/kfac_ref/curvature/test_damping.py::test_pi_by_traces"
HEAD = "| where | what it says | computed by | checked by |\n| --- | --- | --- | --- |\n"
GOOD = f"{HEAD}| §6.3 | π by traces | `{PI}` | `{PI_TEST}` |\n"


def test_a_good_table_is_walked_without_complaint():
    assert complaints(GOOD) == []
    assert [row[2][0] for row in rows(GOOD)] == ["§6.3"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (PI, "kfac_ref.curvature.damping.tau", "kfac_ref.curvature.damping.tau does not exist"),
        (PI, "kfac_ref.dumping.pi", "kfac_ref.dumping.pi does not exist"),
        (PI, "kfac_ref.optimizer.KFAC.leap", "kfac_ref.optimizer.KFAC.leap does not exist"),
        (PI, "numpy.pi", "numpy.pi is no function"),
        (PI_TEST, "tests/kfac_ref/curvature/test_damping.py::test_tau", "test_damping.py::test_tau does not exist"),
        (PI_TEST, "tests/kfac_ref/test_dumping.py::test_pi", "test_dumping.py::test_pi does not exist"),
        (PI_TEST, "tests/kfac_ref/curvature/test_damping.py::make_factors", "::make_factors does not exist"),
        (PI_TEST, "tests/conftest.py::rng", "tests/conftest.py::rng does not exist"),
        (PI_TEST, "theorem-0", "theorem-0 is neither a test nor a statement"),
        (f"`{PI}`", "by hand", "nothing computes it"),
        (f"`{PI_TEST}`", "seen", "nothing checks it"),
        ("π by traces", "a | b", "5 cells, expected 4"),
        ("π by traces", "", "none of them empty"),
        ("computed by", "made by", "expected ('where', 'what it says', 'computed by', 'checked by')"),
        (GOOD, f"{GOOD}\nSee `kfac_ref.nowhere`.\n", "kfac_ref.nowhere does not exist"),
        (GOOD, f"{GOOD}\nSee `tests/test_nowhere.py`.\n", "tests/test_nowhere.py does not exist"),
    ],
)
def test_a_name_made_up_is_found(old, new, said):
    (complaint,) = complaints(GOOD.replace(old, new))
    assert said in complaint


def test_fields_of_a_dataclass_exist():
    assert resolves("kfac_ref.optimizer.Record.rho") and not resolves("kfac_ref.optimizer.Record.sigma")


def test_what_is_left_out_is_found():
    everything = unaccounted("")
    assert {PI, "validation.figures.figure_02.draw", next(iter(STATEMENTS))} <= set(everything)
    assert unaccounted(GOOD) == [name for name in everything if name != PI]
    assert not any("._" in name or name.startswith("numpy") for name in everything)


def test_a_test_that_did_not_run_is_found():
    statement = next(iter(STATEMENTS))
    text, node = GOOD + f"| §10 | it holds | `{PI}` | `{statement}` |\n", f"{PROPERTY}[{statement}]"
    assert not_run(text, {PI_TEST, node}, {PI_TEST, node}, whole=True) == []
    assert not_run(text, {PI_TEST, node}, {PI_TEST}, whole=False) == [node]
    assert not_run(text, {PI_TEST}, {PI_TEST}, whole=False) == []
    assert not_run(text, {PI_TEST}, {PI_TEST}, whole=True) == [node]
    assert not_run(text, {PI_TEST, node}, {node}, whole=True) == [PI_TEST]
