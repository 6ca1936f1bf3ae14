"""The objective and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import Network, evaluate, loss_and_gradient
from autodiff.objective import loss
from autodiff.passes import ForwardPass
from tests.conftest import assert_all_close, assert_close, is_float32, random_parameters, random_targets, to
from tests.dense import case_forward, case_mean, dense_gradient, dense_h, flatten, unflatten
from tests.strategies import problems

ETA = 0.03


@pytest.mark.parametrize("chunk_size", [100, 4])
@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_against_one_case_at_a_time(like, rng, name, chunk_size):
    network = Network([4, 5, 3, 3], ["tanh", "softplus"], name)
    W, X, Y = random_parameters(rng, network), rng.standard_normal((10, 4)), random_targets(rng, name, 10, 3)
    parameters, inputs, targets = to(like, W, X, Y)
    value, gradient = loss_and_gradient(ForwardPass(network, parameters, inputs, chunk_size), targets, ETA)
    errors = [np.sum((y - case_mean(name, case_forward(network, W, x)[2])) ** 2) for x, y in zip(X, Y, strict=True)]
    h = dense_h(network, W, X, Y, ETA)
    assert_close(value.h, h, like, dtype="float64")
    assert_close(value.error, np.mean(errors), like, dtype="float64")
    assert_all_close(gradient, unflatten(dense_gradient(network, W, X, Y, ETA), network), like)
    alone = loss(ForwardPass(network, parameters, inputs, chunk_size), targets, ETA)
    assert_close(alone.h, h, like, dtype="float64")
    assert_close(alone.error, np.mean(errors), like, dtype="float64")
    # evaluate alone has the likelihood's constant
    constant = 1.5 * np.log(2 * np.pi) if name == "gaussian" else 0.0
    tol = 1e-5 if is_float32(like) else 1e-12
    evaluated = evaluate(network, parameters, inputs, targets, ETA, chunk_size)
    assert (evaluated.h, evaluated.error) == pytest.approx((h + constant, np.mean(errors)), rel=tol)
    assert type(evaluated.h) is type(evaluated.error) is float
    if name == "categorical":
        z = np.array([case_forward(network, W, x)[2] for x in X])
        assert evaluated.misclassified == np.mean([np.argmax(a) != np.argmax(y) for a, y in zip(z, Y, strict=True)])
        assert 0 < evaluated.misclassified < 1
    else:
        assert evaluated.misclassified is None


@settings(max_examples=250)
@given(problems())
def test_gradient_by_differences(p):
    """Central differences of h along three random directions, relative to ‖∇h‖."""

    def h(W):
        return float(loss(ForwardPass(p.network, W, p.X), p.Y, ETA).h)

    value, gradient = loss_and_gradient(ForwardPass(p.network, p.W, p.X), p.Y, ETA)
    size, step = np.linalg.norm(flatten(gradient)), 1e-5
    for _ in range(3):
        v = p.direction()
        ahead, behind = (h([W + sign * step * d for W, d in zip(p.W, v, strict=True)]) for sign in (1, -1))
        # rounding of h itself, 1e-16 h / step, is allowed for
        allowed = 1e-6 * size + 1e-10 * max(1.0, float(value.h))
        assert abs((ahead - behind) / (2 * step) - flatten(gradient) @ flatten(v)) <= allowed


@settings(max_examples=200)
@given(problems(max_layers=3, max_width=5, max_cases=5))
def test_gradient_entry_by_entry(p):
    """The same gradient as one built case by case from dense Jacobians."""
    _, gradient = loss_and_gradient(ForwardPass(p.network, p.W, p.X), p.Y, ETA)
    expected = dense_gradient(p.network, p.W, p.X, p.Y, ETA)
    np.testing.assert_allclose(flatten(gradient), expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


@settings(max_examples=50)
@given(problems())
def test_chunks_change_nothing(p):
    value, gradient = loss_and_gradient(ForwardPass(p.network, p.W, p.X), p.Y, ETA)
    size = max(1.0, np.abs(flatten(gradient)).max())
    for chunk_size in range(1, len(p.X) + 1):
        other, again = loss_and_gradient(ForwardPass(p.network, p.W, p.X, chunk_size), p.Y, ETA)
        np.testing.assert_allclose([other.h, other.error], [value.h, value.error], rtol=1e-12)
        np.testing.assert_allclose(flatten(again), flatten(gradient), rtol=0, atol=1e-12 * size)


def test_parameters_are_left_alone(rng):
    """∇h is accumulated in place, but not in θ."""
    network = Network([2, 3, 1], "tanh", "gaussian")
    W = random_parameters(rng, network)
    before = [w.copy() for w in W]
    for eta in (0.0, 1.0):
        loss_and_gradient(ForwardPass(network, W, rng.standard_normal((4, 2))), np.zeros((4, 1)), eta)
    assert all(np.array_equal(a, b) for a, b in zip(W, before, strict=True))


def test_evaluate_checks_shapes(rng):
    network = Network([2, 3, 1], "tanh", "gaussian")
    W = random_parameters(rng, network)
    with pytest.raises(ValueError, match="layer 1 has shape"):
        evaluate(network, W[::-1], np.zeros((4, 2)), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="X has 4 cases and Y has 3"):
        evaluate(network, W, np.zeros((4, 2)), np.zeros((3, 1)))
