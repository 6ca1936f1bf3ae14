"""Steps of a given length in the distribution, and divergences by summation and by closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autodiff import Network
from autodiff.likelihoods import likelihood
from autodiff.passes import ForwardPass, forward
from kfac_ref.curvature import fisher, trust_region
from tests.conftest import assert_close, random_parameters, to
from tests.dense import case_loss, case_outcomes


@pytest.mark.parametrize("name", ["categorical", "bernoulli"])
def test_divergence_is_the_expected_log_ratio(name, like, rng):
    """Summed over all outcomes y."""
    z, after = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    expected = [
        sum(p * (case_loss(name, b, y) - case_loss(name, a, y)) for p, y in case_outcomes(name, a))
        for a, b in zip(z, after, strict=True)
    ]
    assert_close(trust_region.divergence(likelihood(name), *to(like, z, after)), expected, like)


def test_divergence_of_normal_distributions(like, rng):
    z, after = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    expected = 0.5 * np.sum((z - after) ** 2, axis=1)
    assert_close(trust_region.divergence(likelihood("gaussian"), *to(like, z, after)), expected, like)


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_a_step_makes_the_divergence_asked_for(name, rng):
    """To second order: the relative error falls with √δ, as the third order's."""
    network = Network([4, 6, 3], "tanh", name)
    W, X = random_parameters(rng, network, 0.5), rng.standard_normal((50, 4))
    Delta, forward_pass = [rng.standard_normal(shape) for shape in network.shapes], ForwardPass(network, W, X)
    form = float(fisher.quadratic_forms(forward_pass, [Delta])[0, 0])
    errors = []
    for delta in (1e-4, 1e-6, 1e-8):
        eta = trust_region.step_size(form, delta)
        after = forward(network, [w + eta * d for w, d in zip(W, Delta, strict=True)], X).z
        kl = trust_region.divergence(network.likelihood, forward(network, W, X).z, after).mean()
        errors.append(abs(kl / delta - 1))
    assert errors[0] < 0.03 and errors[1] < 0.2 * errors[0] and errors[2] < 0.2 * errors[1] + 1e-6


def test_the_step_is_bounded():
    assert trust_region.step_size(8.0, 0.01) == math.sqrt(0.02 / 8)
    assert trust_region.step_size(8.0, 0.01, 0.01) == 0.01
    assert trust_region.step_size(0.0, 0.01, 0.5) == 0.5
    assert trust_region.step_size(1e-320, 0.01, 1.0) == 1.0


@pytest.mark.parametrize("values", [(1.0, 0.0, 1.0), (1.0, 0.1, -1.0), (-1.0, 0.1, 1.0), (math.nan, 0.1, 1.0)])
def test_bad_input(values):
    with pytest.raises(ValueError, match="expected delta, eta_max > 0"):
        trust_region.step_size(*values)
