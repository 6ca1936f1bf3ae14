"""Names for constants: each is the number that it says, and the simplest of those that are."""

from __future__ import annotations

import math

import pytest

from autodiff import LIKELIHOODS
from kfac_ref.oracle import expressions
from kfac_ref.oracle.expressions import NAMELESS, Decay, Symbols

GAUSSIAN = Symbols("gaussian", N=40, C=7, d=11, d_in=13)


def value(text: str, symbols: Symbols = GAUSSIAN, **more) -> float:
    """The number that an expression is, read as Python reads it."""
    names = {"N": symbols.N, "C": symbols.C, "d": symbols.d, "d_in": symbols.d_in, "sqrt": math.sqrt}
    return eval(text.replace("^", "**"), {"__builtins__": {}}, names | more)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    "text", ["1", "N", "1/N", "1/N^2", "N^2", "2", "4", "1/2", "1/C", "1/C^2", "C", "2/C", "4/C^2", "2*N", "N/C"]
)
def test_the_scales_that_are_known_of_implementations_have_names(text, likelihood):
    symbols = Symbols(likelihood, N=40, C=7)
    found = expressions.named(value(text, symbols), symbols, 1e-9)
    assert found is not None and found.text == text
    split = expressions.named(math.sqrt(value(text, symbols)), symbols, 1e-9)
    if text in ("1", "4", "N^2", "1/N^2", "1/C^2", "4/C^2"):  # whose roots are none
        assert "sqrt" not in split.text
    else:
        assert split.text == f"sqrt({text})"


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_name_is_its_number(likelihood):
    symbols = Symbols(likelihood, N=40, C=7, d=11, d_in=13)
    for e in [*expressions._expressions(symbols), *expressions.usual(symbols)]:
        assert value(e.text, symbols) == pytest.approx(e.value, rel=1e-12)
        assert 0 <= e.cost < NAMELESS


def test_a_name_has_the_sign_of_its_number():
    assert expressions.named(-40.0, GAUSSIAN, 1e-9).text == "-N"
    assert expressions.named(-1.0, GAUSSIAN, 1e-9).value == -1.0
    assert expressions.nearest(-39.0, GAUSSIAN).text == "-N"


def test_of_equal_numbers_the_simplest_name_wins():
    assert expressions.named(1.0, Symbols("categorical", N=1, C=1), 1e-9).text == "1"
    squares = Symbols("categorical", N=10, C=100)
    assert expressions.named(100.0, squares, 1e-9).text in ("C", "N^2")
    assert expressions.named(1000.0, squares, 1e-9).text in ("C*N", "N*C", "N^3")


def test_what_is_one_is_in_no_name():
    alone = Symbols("gaussian", N=1, C=1)
    assert not [e.text for e in expressions._expressions(alone) if set(e.text) & set("NCd")]


def test_no_name_is_given_beyond_the_tolerance():
    assert expressions.named(40.0 * (1 + 1e-8), GAUSSIAN, 1e-9) is None
    assert expressions.named(40.0 * (1 + 1e-8), GAUSSIAN, 1e-7).text == "N"
    assert expressions.named(37.123, GAUSSIAN, 1e-9) is None
    assert expressions.named(0.0, GAUSSIAN, 1e-9) is None


def test_any_other_constant_has_a_nearest_name():
    assert expressions.nearest(40.3, GAUSSIAN).text == "N"
    assert expressions.nearest(1 / 1590, GAUSSIAN).text == "1/N^2"
    assert expressions.nearest(0.0, GAUSSIAN) is None
    assert expressions.nearest(math.inf, GAUSSIAN) is None
    assert expressions.nearest(math.nan, GAUSSIAN) is None


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_usual_scales_are_those_of_losses_and_reductions(likelihood):
    symbols = Symbols(likelihood, N=40, C=7)
    usual = {e.text: e for e in expressions.usual(symbols)}
    assert {"1", "N", "1/N", "1/N^2", "1/C", "1/C^2", "2", "4", "1/2"} <= usual.keys()
    assert len({round(math.log(e.value), 9) for e in usual.values()}) == len(usual)
    assert min(usual.values(), key=lambda e: e.cost).text == "1"


def test_without_the_half_a_gaussian_is_likelier_twice_too_large_than_others_are():
    costs = {name: expressions.named(2.0, Symbols(name, N=40, C=7), 1e-9).cost for name in LIKELIHOODS}
    assert costs["gaussian"] == min(costs.values())


def test_a_hint_makes_a_scale_likelier_and_no_other():
    usual = expressions.usual(GAUSSIAN)
    hinted = expressions.hinted(usual, [40.0], GAUSSIAN)
    assert [e.text for e, f in zip(usual, hinted, strict=True) if f.cost < e.cost] == ["N"]


def test_a_root_calls_for_the_other_root():
    """A = Ā/sqrt(N): where G is on the same footing, it is a usual scale times or over that root."""
    root = 40.0**-0.5
    hinted = expressions.hinted(expressions.usual(GAUSSIAN), [root], GAUSSIAN)
    assert {"sqrt(N)", "sqrt(1/N)"} <= {e.text for e in hinted}
    assert all(value(e.text) == pytest.approx(e.value) for e in hinted)
    assert "1" not in {e.text for e in hinted}


def test_roots():
    assert expressions.is_root(math.sqrt(40), GAUSSIAN)
    assert not expressions.is_root(40.0, GAUSSIAN)
    assert not expressions.is_root(37.123, GAUSSIAN)


def test_a_sum_over_samples_has_a_name():
    found = {e.text: e.value for e in expressions.over_samples(25)}
    assert found.keys() >= {"S", "1/S"}
    assert all(value(text, S=25) == pytest.approx(x) for text, x in found.items())


# --- decays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "updates"), [(0.95, 1), (0.95, 3), (0.9, 7), (0.99, 20), (0.5, 2), (0.999, 1)])
def test_a_usual_decay_is_found_with_its_updates(decay, updates):
    found = expressions.decay_of(decay**updates, 1e-9)
    assert expressions.is_usual(found)
    assert found.decay**found.updates == pytest.approx(decay**updates, rel=1e-9)
    assert found.updates <= updates


def test_another_decay_is_taken_for_one_update():
    found = expressions.decay_of(0.1234567, 1e-9)
    assert found == Decay(0.1234567, 1)
    assert not expressions.is_usual(found)


@pytest.mark.parametrize("weight", [-0.5, 0.0, 1.0, 1.5])
def test_what_is_no_weight_has_no_decay(weight):
    assert expressions.decay_of(weight, 1e-9) is None
    assert expressions.start_of(weight, 1e-9) is None


def test_from_zero_only_usual_decays_are_believed():
    """1 − ε^k is a scale like any other, so that an unheard-of ε would explain everything."""
    assert expressions.start_of(0.95**4, 1e-9) == Decay(0.95, 4)
    assert expressions.start_of(0.1234567, 1e-9) is None


def test_a_decay_in_words():
    assert str(Decay(0.95, 1)) == "0.95"
    assert str(Decay(0.95, 10)) == "0.95^10"
    assert Decay(0.5, 3).weight == 0.125
