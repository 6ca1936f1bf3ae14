"""Ways to damp a layer's factors, against dense inverses of what their words say."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle.damping_rules import Pair, Rule, alike, of_unknown_strength, rules, scalar
from kfac_ref.oracle.verdict import Explanation
from tests.conftest import positive_definite
from tests.dense import dense_pi

LAMBDA, ETA, GAMMA = 0.3, 0.05, 0.4
ROOT = LAMBDA**0.5


@pytest.fixture
def factors(rng):
    return positive_definite(rng, 4), 0.2 * positive_definite(rng, 3)


def pair(A, G) -> Pair:
    return Pair(A, G, Explanation(np.inf, 0.0))


def frobenius_pi(A, G) -> float:
    return np.sqrt(np.linalg.norm(A) / len(A) ** 0.5 / (np.linalg.norm(G) / len(G) ** 0.5))


def named(factors, text: str, **more) -> Rule:
    """The one rule that is called so."""
    dampings = {"lambda": LAMBDA, "lambda+eta": LAMBDA + ETA, "gamma^2": GAMMA**2}
    found = [r for r in rules(pair(*factors), dampings, ROOT, **more) if r.text == text]
    assert len(found) == 1
    return found[0]


def damped(A, G, text: str) -> np.ndarray:
    """What a rule's words say, dense."""
    I_A, I_G = np.eye(len(A)), np.eye(len(G))
    p, q = dense_pi(A, G), frobenius_pi(A, G)
    pieces = {
        "none": (0.0, 0.0),
        "lambda on each factor": (LAMBDA, LAMBDA),
        "sqrt(lambda) on each factor": (ROOT, ROOT),
        "sqrt(lambda+eta) on each factor": ((LAMBDA + ETA) ** 0.5, (LAMBDA + ETA) ** 0.5),
        "gamma on each factor": (GAMMA, GAMMA),
        "sqrt(lambda) with pi (trace)": (p * ROOT, ROOT / p),
        "sqrt(lambda) with pi (frobenius)": (q * ROOT, ROOT / q),
        "sqrt(lambda) with 1/pi (trace)": (ROOT / p, p * ROOT),
        "lambda with pi (trace)": (p * LAMBDA, LAMBDA / p),
        "sqrt(lambda) on A alone": (ROOT, 0.0),
        "lambda on G alone": (0.0, LAMBDA),
    }
    if text == "lambda on the product":
        return np.kron(A, G) + LAMBDA * np.eye(len(A) * len(G))
    a, g = pieces[text]
    return np.kron(A + a * I_A, G + g * I_G)


WAYS = (
    "none",
    "lambda on each factor",
    "sqrt(lambda) on each factor",
    "sqrt(lambda+eta) on each factor",
    "gamma on each factor",
    "sqrt(lambda) with pi (trace)",
    "sqrt(lambda) with pi (frobenius)",
    "sqrt(lambda) with 1/pi (trace)",
    "lambda with pi (trace)",
    "sqrt(lambda) on A alone",
    "lambda on G alone",
    "lambda on the product",
)


@pytest.mark.parametrize("text", WAYS)
def test_a_rule_does_what_it_says(factors, text, rng):
    A, G = factors
    V = rng.standard_normal((3, 4))
    expected = np.linalg.solve(damped(A, G, text), V.flatten(order="F")).reshape(V.shape, order="F")
    p = pair(A, G)
    actual = p.U_G @ (p.into(V) / p.denominators(named(factors, text))) @ p.U_A.T
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.max(np.abs(expected)))


@pytest.mark.parametrize("text", WAYS[1:])
def test_a_rule_on_scaled_factors_does_what_it_says(factors, text, rng):
    """Damped (s_A A) ⊗ (s_G G) is s_A s_G times the factors as they are, damped as the rule says."""
    A, G = factors
    s_A, s_G = 40.0, 1 / 7
    expected = damped(s_A * A, s_G * G, text)
    rule = named(factors, text, s_A=s_A, s_G=s_G)
    if rule.product:
        actual = np.kron(A, G) + rule.product * np.eye(12)
    else:
        actual = np.kron(A + rule.A * np.eye(4), G + rule.G * np.eye(3))
    np.testing.assert_allclose(s_A * s_G * actual, expected, rtol=1e-12, atol=1e-12)


def test_pi_by_traces_and_by_frobenius_norms(factors):
    assert pair(*factors).pi("trace") == pytest.approx(dense_pi(*factors), rel=1e-12)
    assert pair(*factors).pi("frobenius") == pytest.approx(frobenius_pi(*factors), rel=1e-12)
    assert pair(factors[0], np.zeros((3, 3))).pi("trace") == 1.0


def test_the_case_s_own_way_is_expected_and_no_other(factors):
    found = list(rules(pair(*factors), {"lambda": LAMBDA}, ROOT))
    assert [r.text for r in found if r.expected] == ["sqrt(lambda) with pi (trace)"]
    without = list(rules(pair(*factors), {}, None))
    assert [r.text for r in without if r.expected] == ["none"]


def test_a_damping_of_zero_is_none(factors):
    assert [r.text for r in rules(pair(*factors), {"lambda": 0.0}, None)] == ["none"]


def test_unknown_strengths_are_named_by_their_proportion(factors):
    A, G = factors
    p = dense_pi(A, G)
    assert of_unknown_strength(pair(A, G), 0.123 * p, 0.123 / p).text == "0.123 with pi (trace)"
    assert of_unknown_strength(pair(A, G), 0.123, 0.123).text == "0.123 on each factor"
    assert of_unknown_strength(pair(A, G), 0.1, 0.7).text == "0.1 on A, 0.7 on G"


def test_rules_are_alike_within_a_relative_distance():
    assert alike(Rule("", 1.0, 2.0), Rule("", 1.0 + 1e-8, 2.0), 1e-7)
    assert not alike(Rule("", 1.0, 2.0), Rule("", 1.0 + 1e-6, 2.0), 1e-7)
    assert not alike(Rule("", 1.0, 0.0), Rule("", 1.0, 1e-6), 1e-7)


def test_multiples_of_the_identity():
    assert scalar(3.0 * np.eye(4)) == 3.0
    assert scalar(np.array([[2.0]])) == 2.0
    assert scalar(np.diag([1.0, 2.0])) is None
