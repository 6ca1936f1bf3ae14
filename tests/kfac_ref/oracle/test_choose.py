"""Choosing among explanations: the simplest that fits, and none where none does."""

from __future__ import annotations

import numpy as np

from kfac_ref.oracle import check
from kfac_ref.oracle.choose import choose, undecided
from kfac_ref.oracle.verdict import Explanation
from tests.kfac_ref.oracle.dense_truth import dense_truth
from tests.kfac_ref.oracle.test_truth import make_case


def explained(cost: float, residual: float = 1e-16, tolerance: float = 1e-9, **attributes) -> Explanation:
    return Explanation(residual, tolerance, cost=cost, **attributes)


def chosen(**found):
    """What is chosen for quantities of one kind."""
    return choose(found, dict.fromkeys(found, "G"))


def test_the_simplest_that_fits_wins():
    far, near = explained(3.0, expression="2*N"), explained(1.0, expression="N")
    assert chosen(G_1=[far, near])["G_1"] is near


def test_what_does_not_fit_is_not_chosen_however_simple():
    simple, fitting = explained(0.0, residual=1e-3), explained(5.0)
    assert chosen(G_1=[simple, fitting])["G_1"] is fitting
    assert chosen(G_1=[simple], G_2=[]) == {"G_1": None, "G_2": None}


def test_what_fits_to_the_last_digit_beats_what_fits_within_tolerance():
    """In float32 the tolerance leaves room for what happens to be near."""
    near = explained(0.0, residual=9e-6, tolerance=1e-5)
    exact = explained(1.0, residual=3e-8, tolerance=1e-5)
    assert chosen(G_1=[near, exact])["G_1"] is exact


def test_layers_are_likelier_to_follow_one_convention_than_several():
    """N = d² in the third layer: the other layers say that it is N."""
    N = [explained(1.0, expression="N", scale=9.0), explained(1.0, expression="N", scale=9.0)]
    both = [explained(1.0, expression="d^2", scale=9.0), explained(1.2, expression="N", scale=9.0)]
    assert chosen(G_1=N[:1], G_2=N[1:], G_3=both)["G_3"].expression == "N"
    assert chosen(G_3=both)["G_3"].expression == "d^2"


def test_quantities_of_another_kind_have_no_say():
    both = [explained(1.0, expression="d^2"), explained(1.2, expression="N")]
    found = {"A_0": [explained(1.0, expression="N")], "A_1": [explained(1.0, expression="N")], "G_1": both}
    assert choose(found, {"A_0": "A", "A_1": "A", "G_1": "G"})["G_1"].expression == "d^2"


def test_layers_may_differ_all_the_same():
    found = chosen(G_1=[explained(0.0, expression="1")], G_2=[explained(1.0, expression="N")])
    assert [e.expression for e in found.values()] == ["1", "N"]


def test_a_constant_decides_nothing_between_two_fishers():
    """Of one unit, the empirical G is a multiple of the exact one."""
    exact = explained(8.0, fisher="exact", scale=0.37)
    empirical = explained(8.4, fisher="empirical", scale=0.52)
    assert undecided(exact, [exact, empirical], [])
    assert not undecided(explained(1.0, fisher="exact", expression="N", scale=40.0), [exact, empirical], [])
    assert not undecided(exact, [exact], [])


def test_another_layer_may_decide_it():
    exact = explained(8.0, fisher="exact", scale=0.37)
    empirical = explained(8.4, fisher="empirical", scale=0.52)
    elsewhere = explained(8.0, fisher="exact", scale=0.37)
    assert not undecided(exact, [exact, empirical], [elsewhere])


# --- as a check chooses -----------------------------------------------------------------------------------------------


def test_of_one_unit_only_a_scale_with_a_name_tells_which_fisher(rng):
    """G is one number: 0.3719 times the exact one is as well some other multiple of the empirical one."""
    case = make_case(rng, (3, 1), likelihood="bernoulli", cases=40, V=False, sampled=False)
    t = dense_truth(case)

    def verdict(x):
        v = check({"G_1": x}, case).as_dict()["quantities"]["G_1"]
        return v["verdict"], v["fisher"], v["expression"]

    assert verdict(t["G_1_1"]) == ("match", "exact", "1")
    assert verdict(40 * t["G_empirical_1_1"]) == ("match-under", "empirical", "N")
    assert verdict(0.3719 * t["G_1_1"]) == ("no-match", None, None)


def test_of_one_case_no_scale_is_a_power_of_n(rng):
    """Where N = 1, sum and mean are the same."""
    case = make_case(rng, (3, 4, 3), cases=1, V=False, sampled=False)
    t = dense_truth(case)
    theirs = {"A_0": t["A_0_0"], "G_1": 2 * t["G_1_1"], "G_2": t["G_empirical_2_2"] / 3}
    found = check(theirs, case).as_dict()["quantities"]
    assert [(v["fisher"], v["expression"]) for v in found.values()] == [
        (None, "1"),
        ("exact", "2"),
        ("empirical", "1/C"),
    ]


def test_a_gradient_of_zeros_and_one_of_random_numbers_are_explained_by_nothing(rng):
    case = make_case(rng, (3, 4, 3), cases=5, V=False, sampled=False)
    theirs = {"gradient_1": np.zeros((4, 4)), "gradient_2": rng.standard_normal((3, 5))}
    assert {v.verdict for v in check(theirs, case).quantities.values()} == {"no-match"}
