"""`python -m validation theorems`: its table, its exit codes, and what it prints of a statement that fails."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.validation.theorems.mutations import MUTATIONS
from validation.__main__ import main
from validation.theorems import FILES, STATEMENTS
from validation.theorems.statement import Instance


def run(*arguments: str) -> int:
    return main(["theorems", *arguments])


def table(printed: str) -> list[list[str]]:
    """The first lines of the rows, split into cells."""
    lines = [re.split(r" {2,}", line.strip()) for line in printed.splitlines()]
    return [cells for cells in lines if len(cells) == 7 and cells[-1] != "holds" and not cells[0].startswith("--")]


def test_the_table(capsys):
    assert run("rho", "pi", "--instances", "3") == 0
    printed = capsys.readouterr().out
    rows = table(printed)
    assert [row[1] for row in rows] == ["§6.5", "§6.3"]
    for _, _, _, value, allowed, cases, verdict in rows:
        assert float(value) <= float(allowed) < 1
        assert (cases, verdict) == ("3", "ok")
    assert "2 statements, 6 instances, " in printed


def test_a_seed_gives_the_same_numbers(capsys):
    printed = []
    for seed in "112":
        assert run("fisher-monte-carlo", "--instances", "4", "--seed", seed) == 0
        printed.append(table(capsys.readouterr().out))
    assert printed[0] == printed[1] != printed[2]


def test_what_is_broken_fails_with_its_instance(monkeypatch, capsys):
    """Exit code 1; the instance as printed is one on which the statement fails, and the others are tried still."""
    MUTATIONS["psi_transposed"].apply(monkeypatch)
    assert run("tridiagonal-factors", "block-diagonal-inverse", "--instances", "5") == 1
    printed = capsys.readouterr().out
    failing, holding = table(printed)
    assert re.fullmatch(r"[1-5] FAIL", failing[-1]) and holding[-1] == "ok"
    (found,) = re.findall(r"^tridiagonal-factors fails on [1-5] of 5; worst on (Instance\(.*\))$", printed, re.M)
    assert "block-diagonal-inverse fails" not in printed
    instance = eval(found, {"Instance": Instance})
    assert not STATEMENTS["tridiagonal-factors"].check(instance).within


def test_what_raises_fails(monkeypatch, capsys):
    """A check that raises on one instance is tried on the others, and does not end the command."""
    solve = np.linalg.lstsq
    calls = []

    def third(*args, **named):
        calls.append(args)
        if len(calls) == 3:
            raise np.linalg.LinAlgError("no convergence")
        return solve(*args, **named)

    monkeypatch.setattr(np.linalg, "lstsq", third)
    assert run("alpha-and-mu", "rho", "--instances", "4") == 1
    printed = capsys.readouterr().out
    assert [row[-1] for row in table(printed)] == ["1 FAIL", "ok"]
    assert table(printed)[0][3] == "inf"
    assert "which raised LinAlgError: no convergence" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["theorem-1-afine-full"], 'unknown statement "theorem-1-afine-full"; did you mean "theorem-1-affine-full"'),
        (["pi", "--instances", "0"], "--instances must be ≥ 1; got 0"),
    ],
)
def test_bad_requests(capsys, arguments, message):
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and not shown.out


def test_help_lists_all_names(capsys):
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in STATEMENTS)


def test_statements():
    """A thousand instances in all, of names that differ; each says where it is in the paper and what is allowed."""
    statements = [statement for file in FILES for statement in file.STATEMENTS]
    assert len(statements) == len(STATEMENTS)
    assert sum(statement.instances for statement in statements) >= 1000
    for statement in statements:
        assert re.match(r"§\d|App\. [A-C]|(KFC|ER|RNN) §\d", statement.section), statement.name
        assert re.search(r"allowed|chance|standard deviations", statement.computed), statement.name
