from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle.damping_rules import Pair
from kfac_ref.oracle.fits import claim
from kfac_ref.oracle.pi_slips import layer_pis, named_pi, network_pis, pi_rules
from tests.conftest import positive_definite
from tests.kfac_ref.oracle.mutations.damping_words import _pi


@pytest.fixture
def factors(rng):
    return [(positive_definite(rng, n) + 2 * np.eye(n), positive_definite(rng, d)) for n, d in ((4, 3), (5, 2), (3, 6))]


def test_every_convention_is_what_it_is_called(factors):
    pairs = [Pair(A, G, claim()) for A, G in factors]
    for i, pair in enumerate(pairs, start=1):
        for name, p in {**layer_pis(pair), **network_pis(pairs)}.items():
            assert p == pytest.approx(_pi(name, factors, i, {}), rel=1e-10), name


def test_a_rule_adds_gamma_times_and_over_pi(factors):
    pair = Pair(*factors[0], claim())
    for rule in pi_rules(pair, {"lambda": 0.3}, {}):
        assert pytest.approx(0.3) == rule.A * rule.G
        assert rule.text.startswith("sqrt(lambda) with ")


def test_what_was_added_is_named(factors):
    pair = Pair(*factors[0], claim())
    gamma = 0.3**0.5
    squared = pair.pi("trace") ** 2
    assert "pi^2 (trace)" in named_pi(pair, squared * gamma, gamma / squared, {"lambda": 0.3}, 1e-8).text
    assert "pi = 2 (clipped" in named_pi(pair, 2 * gamma, gamma / 2, {"lambda": 0.3}, 1e-8).text
    odd = named_pi(pair, 1.23456 * gamma, gamma / 1.23456, {"lambda": 0.3}, 1e-8)
    assert "pi = 1.23456 (by no convention" in odd.text
    assert named_pi(pair, 2 * gamma, gamma, {"lambda": 0.3}, 1e-8) is None
    assert named_pi(pair, -1.0, gamma, {"lambda": 0.3}, 1e-8) is None
