"""What a report says, and that it is JSON with nothing but Python's own numbers in it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kfac_ref.oracle import check
from kfac_ref.oracle.expressions import Decay, Symbols
from kfac_ref.oracle.verdict import Explanation, Report, Verdict
from tests.conftest import sampled_targets
from tests.dense import case_forward, dense_factors
from tests.kfac_ref.command.conftest import kfac
from tests.kfac_ref.oracle.dense_truth import dense_truth
from tests.kfac_ref.oracle.test_truth import make_case

N = 40
KEYS = {
    "verdict": str,
    "scale": (float, type(None)),
    "expression": (str, type(None)),
    "nearest": (str, type(None)),
    "fisher": (str, type(None)),
    "samples": (int, type(None)),
    "bias": (str, type(None)),
    "layout": (str, type(None)),
    "history": (dict, type(None)),
    "damping": (str, type(None)),
    "residual": float,
    "tolerance": float,
    "convention": str,
}


def explained(**attributes) -> Explanation:
    return Explanation(**({"residual": 1e-16, "tolerance": 1e-9, "scale": 1.0, "expression": "1"} | attributes))


@pytest.fixture(scope="module")
def report():
    """On one of each: a match, a scale, a number, sampled targets, an average, damping, and what nothing explains."""
    rng = np.random.default_rng(1)
    case = make_case(rng, (4, 6, 5, 3), cases=N, V=False, sampled=False, lam=0.1, eta=0.01)
    t = dense_truth(case)
    z = np.array([case_forward(case.network, case.parameters, x)[2] for x in case.X])
    sampled = dense_factors(case.network, case.parameters, case.X, sampled_targets(rng, "categorical", z))[1]
    arrays = {f"G_{i}": sampled[i, i] for i in (1, 2, 3)}
    arrays |= {"A_0": t["A_0_0"], "A_1": 0.3719 * t["A_1_1"], "A_2": 0.9 * np.eye(6) + 0.1 * t["A_2_2"]}
    arrays |= {"gradient_1": N * t["gradient_1"], "gradient_2": t["gradient_2"].T, "gradient_3": rng.random((3, 6))}
    arrays |= {f"preconditioned_{i}": -t[f"block_diagonal_{i}"] for i in (1, 2, 3)}
    arrays |= {"block_3": t["fisher_block_3"], "fisher": t["fisher_empirical"]}
    return check(arrays, case)


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_has_every_key_with_its_type(report):
    said = report.as_dict()
    assert {"quantities", "summary"} <= said.keys() and isinstance(said["summary"], str)
    assert list(said["quantities"]) == list(report.quantities)
    for name, v in said["quantities"].items():
        assert KEYS.keys() <= v.keys(), name
        for key, kinds in KEYS.items():
            assert isinstance(v[key], kinds) and not isinstance(v[key], bool), f"{name}: {key} is {v[key]!r}"


def leaves(x):
    if isinstance(x, dict):
        return [leaf for value in x.values() for leaf in leaves(value)]
    return [leaf for value in x for leaf in leaves(value)] if isinstance(x, list) else [x]


def test_json_holds_python_s_own_numbers_alone(report):
    """A float64 is a float too, and would go unnoticed until somebody prints it."""
    said = report.as_dict()
    assert {type(x) for x in leaves(said)} <= {str, int, float, bool, type(None)}
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_json_says_what_was_claimed(report):
    said = report.as_dict()["quantities"]
    assert {v["verdict"] for v in said.values()} == {"match", "match-under", "no-match"}
    assert said["A_0"]["verdict"] == said["block_3"]["verdict"] == "match"
    assert (said["gradient_1"]["scale"], said["gradient_1"]["expression"]) == (pytest.approx(40.0), "N")
    assert (said["A_1"]["scale"], said["A_1"]["expression"]) == (pytest.approx(0.3719), None) and said["A_1"]["nearest"]
    assert (said["A_2"]["history"]["start"], said["A_2"]["history"]["decay"]) == ("identity", 0.9)
    assert (said["G_1"]["fisher"], said["fisher"]["fisher"]) == ("monte-carlo", "empirical")
    assert said["G_1"]["samples"] >= 1 and said["G_1"]["scale_error"] > 0
    assert said["gradient_2"]["layout"] == "transposed"
    assert said["preconditioned_1"]["damping"] == "sqrt(lambda+eta) with pi (trace)"
    nothing = said["gradient_3"]
    assert nothing["verdict"] == "no-match" and nothing["residual"] > nothing["tolerance"]
    claims = set(KEYS) - {"verdict", "residual", "tolerance", "convention"}
    assert {nothing[key] for key in claims} == {None}


def test_json_of_what_nothing_comes_close_to():
    """A single number of another shape than any candidate: no residual at all is still JSON."""
    json.dumps(Report({"G_1": Verdict("G_1", None)}, "").as_dict(), allow_nan=False)


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_it_matches_as_it_stands_only_with_nothing_to_convert():
    def verdict(**attributes) -> str:
        return Verdict("G_1", explained(expected=True, **attributes)).verdict

    assert verdict() == "match"
    assert verdict(scale=40.0, expression="N") == "match-under"
    assert verdict(scale=-1.0, expression="-1") == "match-under"
    assert verdict(history=Decay(0.9, 1), start="identity") == "match-under"
    assert Verdict("G_1", explained(expected=False, fisher="empirical")).verdict == "match-under"
    assert Verdict("G_1", None, explained(residual=0.5)).verdict == "no-match"


def test_a_report_matches_if_all_do():
    good, scaled = Verdict("A_0", explained(expected=True)), Verdict("A_1", explained(scale=40.0, expression="N"))
    assert Report({"A_0": good}, "").matches
    assert not Report({"A_0": good, "A_1": scaled}, "").matches
    assert not Report({"A_0": good, "A_1": Verdict("A_1", None)}, "").matches


def test_a_number_is_told_with_the_nearest_expression():
    e = explained(scale=41.0, expression=None).told(Symbols("gaussian", N=40, C=3))
    assert (e.nearest, e.scale_words()) == ("N", "x 41 (nearest: N)")
    assert explained(scale=40.0, expression="N").told(Symbols("gaussian", N=40, C=3)).nearest is None


def test_words():
    words = explained(fisher="monte-carlo", samples=10, scale=4.0, expression="4", bias="first").words()
    assert words == "Monte-Carlo Fisher, about 10 samples a case; x 4; bias first"
    words = explained(history=Decay(0.95, 3), start="identity", damping="none").words()
    assert words == "x 1; running average from the identity, decay 0.95^3; damping: none"
    assert explained(expected=True, bias="last").words() == "as defined"


def test_a_table_for_the_terminal(report):
    text = str(report)
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert list(rows)[1] == "quantity"
    for name, v in report.quantities.items():
        assert rows[name].split()[1] == v.verdict
        assert rows[name].endswith(v.convention)
        assert f"{v.residual:.1e}" in rows[name]
    assert text.endswith(report.summary)
    starts = {line.index(v.verdict) for v in report.quantities.values() for line in [rows[v.name]]}
    assert len(starts) == 1  # the columns are aligned


def test_exit_codes(tmp_path, capsys):
    """0 if all matches as it stands, 1 if something differs, 2 for bad input."""
    case_file, theirs = str(tmp_path / "case.npz"), str(tmp_path / "theirs.npz")
    case = make_case(np.random.default_rng(1), (4, 6, 3), cases=N, V=False, sampled=False)
    case.save(case_file)
    G = dense_truth(case)["G_1_1"]
    for x, code in ((G, 0), (N * G, 1), (np.diag(np.arange(6.0)), 1), (np.eye(8), 2), (np.full((6, 6), np.nan), 2)):
        np.savez(theirs, G_1=x)
        assert kfac("check", theirs, "--case", case_file, "--json") == code
    np.savez(theirs, G_1=N * G)
    capsys.readouterr()
    assert kfac("check", theirs, "--case", case_file, "--json") == 1
    assert json.loads(capsys.readouterr().out) == check(theirs, case_file).as_dict()
