"""Two lines: what is the matter, and what is to be done about it."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.kfac_ref.oracle.dense_truth import dense_truth
from tests.kfac_ref.oracle.test_truth import make_case

N = 40


@pytest.fixture
def case(rng):
    return make_case(rng, (4, 5, 3), cases=N, V=False, sampled=False, eta=0.01)


@pytest.fixture
def truth(case):
    return dense_truth(case)


def lines(case, theirs) -> tuple[str, str]:
    """The summary: two lines, each a sentence."""
    one, two = check(theirs, case).summary.split("\n")
    assert all(line.endswith(".") and line[0] == line[0].upper() for line in (one, two))
    return one, two


def test_an_empirical_fisher_summed(case, truth):
    what, advice = lines(case, {f"G_{i}": N * truth[f"G_empirical_{i}_{i}"] for i in (1, 2)})
    assert what == "Your G is the empirical Fisher's, summed instead of averaged."
    assert advice.startswith("Divide G by N = 40")
    assert "sample targets from the model" in advice


def test_all_is_well(case, truth):
    theirs = {"A_0": truth["A_0_0"], "A_1": truth["A_1_1"], "G_1": truth["G_1_1"]}
    assert lines(case, theirs) == ("All 3 quantities match as they stand.", "Nothing is to be converted.")


def test_one_quantity(case, truth):
    assert "quantities" not in lines(case, {"A_0": truth["A_0_0"]})[0]


def test_what_is_well_is_not_mentioned(case, truth):
    what, _ = lines(case, {"A_0": truth["A_0_0"], "A_1": truth["A_1_1"], "G_1": N * truth["G_1_1"]})
    assert what == "Your G is summed instead of averaged."


def test_only_some_layers(case, truth):
    what, _ = lines(case, {"G_1": truth["G_1_1"], "G_2": N * truth["G_2_2"]})
    assert what == "Your G (G_2) is summed instead of averaged."


def test_two_things_at_once(case, truth):
    theirs = {"A_0": N * truth["A_0_0"], "A_1": N * truth["A_1_1"]}
    theirs |= {f"G_{i}": truth[f"G_{i}_{i}"] / N**2 for i in (1, 2)}
    what, advice = lines(case, theirs)
    assert what == "Your A is summed instead of averaged; your G is scaled by 1/N^2 = 0.000625."
    assert advice == "Divide A by N = 40; divide G by 1/N^2 = 0.000625."


def test_nothing_fits(case, truth, rng):
    x = rng.standard_normal((5, 5))
    what, advice = lines(case, {"G_1": x @ x.T, "G_2": truth["G_2_2"]})
    assert what == "Nothing known explains G_1."
    assert "closest" in advice


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {"G_1": np.eye(5), "G_2": np.eye(3)}, "the identity (forward only)"),
        (lambda t: {"A_0": t["A_0_0"][:-1, :-1], "A_1": t["A_1_1"][:-1, :-1]}, "without the bias"),
        (lambda t: {"A_0": np.roll(t["A_0_0"], (1, 1), (0, 1))}, "with the bias first"),
        (lambda t: {"gradient_1": -t["gradient_1"]}, "of the opposite sign"),
        (lambda t: {"gradient_1": t["gradient_1"].T}, "transposed"),
        (lambda t: {"A_0": 0.9 * np.eye(5) + 0.1 * t["A_0_0"]}, "a running average that started from the identity"),
        (lambda t: {"A_0": 0.05 * t["A_0_0"]}, "a running average that started from zero (decay 0.95)"),
        (lambda t: {"G_1": 2 * t["G_1_1"]}, "2 times too large"),
        (lambda t: {"G_1": 0.3719 * t["G_1_1"]}, "scaled by 0.3719"),
    ],
)
def test_what_is_said(case, truth, change, said):
    assert said in lines(case, change(truth))[0]
