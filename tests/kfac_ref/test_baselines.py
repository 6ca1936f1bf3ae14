"""kfac_ref.baselines: SGD against a straight-line loop of Nesterov's method on dense gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import to_numpy
from kfac_ref import Batch, Diverged
from kfac_ref.baselines import SGD, SGDSettings, SGDState, momentum
from tests.conftest import assert_all_close, assert_home, is_float32, random_parameters, random_targets, to
from tests.dense import case_forward, case_mean, dense_gradient, dense_h, flatten, unflatten


def make_network(likelihood="gaussian"):
    return Network([3, 4, 2], "tanh", likelihood)


@pytest.mark.parametrize(
    ("t", "expected"),
    [(1, 1 / 2), (249, 1 / 2), (250, 3 / 4), (499, 3 / 4), (500, 5 / 6), (750, 7 / 8), (1000, 9 / 10), (2500, 21 / 22)],
)
def test_momentum_by_hand(t, expected):
    assert momentum(t, 0.999) == pytest.approx(expected, rel=1e-15)
    assert momentum(t, 0.6) == min(expected, 0.6)
    assert momentum(t, 0.0) == 0


def test_momentum_rises_to_its_bound():
    values = [momentum(t, 0.99) for t in range(1, 20_000)]
    assert values == sorted(values) and values[-1] == 0.99
    # 1 − 1/(2(n+1)) reaches 0.99 where n = t/250 is 49
    assert momentum(49 * 250 - 1, 0.99) < 0.99 == momentum(49 * 250, 0.99)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
@pytest.mark.parametrize(("first", "mu_max"), [(0, 0.99), (497, 0.99), (740, 0.8), (0, 0.0)])
def test_against_a_straight_line_loop(like, rng, likelihood, first, mu_max):
    network = make_network(likelihood)
    settings = SGDSettings(learning_rate=0.2, mu_max=mu_max, eta=0.03, chunk_size=5)
    W = random_parameters(rng, network)
    v = random_parameters(rng, network, 0.1) if first else [0 * w for w in W]
    state = SGDState(first, to(like, W), to(like, v), 0)
    if not first:
        state = SGD(network, settings).init(to(like, W))
    theta, velocity = flatten(W), flatten(v)
    sgd = SGD(network, settings)
    for k in range(first + 1, first + 7):
        X, Y = rng.standard_normal((11, 3)), random_targets(rng, likelihood, 11, 2)
        mu = min(1 - 1 / (2 * (k // 250 + 1)), mu_max)
        ahead = unflatten(theta + mu * velocity, network)
        h = dense_h(network, ahead, X, Y, 0.03) + (math.log(2 * math.pi) if likelihood == "gaussian" else 0)
        means = np.array([case_mean(likelihood, case_forward(network, ahead, x)[2]) for x in X])
        velocity = mu * velocity - 0.2 * dense_gradient(network, ahead, X, Y, 0.03)
        theta = theta + velocity
        state, record = sgd.step(state, Batch(*to(like, X, Y)))
        assert_all_close(state.parameters, unflatten(theta, network), like)
        assert_all_close(state.velocity, unflatten(velocity, network), like)
        rtol = 1e-4 if "32" in str(like.dtype) else 1e-11
        assert record.h == pytest.approx(h, rel=rtol)
        assert record.error == pytest.approx(np.mean(np.sum((means - Y) ** 2, axis=1)), rel=rtol)
        assert record.norm_delta == pytest.approx(np.linalg.norm(velocity), rel=rtol)
        assert (record.k, record.m, record.mu, state.k) == (k, 11, pytest.approx(mu), k)
    assert state.averaged is state.parameters


def test_the_state_before_is_left_as_it_was(like, rng):
    network = make_network()
    sgd = SGD(network)
    W = random_parameters(rng, network)
    state = sgd.init(to(like, W), 3)
    batch = Batch(*to(like, rng.standard_normal((5, 3)), rng.standard_normal((5, 2))))
    state, _ = sgd.step(state, batch)
    before = [to_numpy(x).copy() for x in (*state.parameters, *state.velocity)]
    after, record = sgd.step(state, batch)
    for x, b in zip((*state.parameters, *state.velocity), before, strict=True):
        np.testing.assert_array_equal(to_numpy(x), b)
    for x in (*after.parameters, *after.velocity):
        assert_home(x, like)
    assert (after.k, after.seed) == (2, 3)
    for value in (record.h, record.error, record.mu, record.norm_delta):
        assert type(value) is float


def test_diverged(like, rng):
    network = make_network()
    sgd = SGD(network, SGDSettings(learning_rate=0.5))
    state = sgd.init(to(like, random_parameters(rng, network)))
    X, Y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    X[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"X\[2, 1\] is nan"):
        sgd.step(state, Batch(*to(like, X, Y)))
    X[2, 1], Y[2, 1] = 0, 1e30 if is_float32(like) else 1e200  # finite, but its square is not
    with np.errstate(over="ignore"), pytest.raises(Diverged, match=r"iteration 1: .* h is inf; .*learning_rate.*0\.5"):
        sgd.step(state, Batch(*to(like, X, Y)))
    assert state.k == 0


def test_no_state_that_is_not_finite_is_returned(rng):
    """As the run saves the state before the one that diverged, which is to be of use."""
    network = make_network()
    sgd = SGD(network, SGDSettings(learning_rate=1e38))
    state = sgd.init([W.astype(np.float32) for W in random_parameters(rng, network, 10.0)])
    batch = Batch(*(rng.standard_normal((5, d)).astype(np.float32) for d in (3, 2)))
    with np.errstate(all="ignore"), pytest.raises(Diverged, match="iteration"):
        for _ in range(3):
            state, _ = sgd.step(state, batch)
            assert all(np.all(np.isfinite(W)) for W in state.parameters)


def test_too_large_a_learning_rate_is_noticed(rng):
    network = make_network()
    sgd = SGD(network, SGDSettings(learning_rate=1e3))
    state = sgd.init(random_parameters(rng, network))
    batch = Batch(rng.standard_normal((50, 3)), rng.standard_normal((50, 2)))
    with (
        np.errstate(all="ignore"),
        pytest.raises(Diverged, match=r"iteration .* (the objective h|the step) is .*smaller"),
    ):
        for _ in range(5000):
            state, _ = sgd.step(state, batch)


def test_descends(rng):
    """A convex problem: the least-squares solution."""
    network = Network([3, 2], "tanh", "gaussian")
    X, T = rng.standard_normal((40, 3)), rng.standard_normal((3, 2))
    Y = X @ T + 0.7
    sgd = SGD(network, SGDSettings(learning_rate=0.1, mu_max=0.5, eta=0.0))
    state = sgd.init([np.zeros((2, 4))])
    for _ in range(400):
        state, record = sgd.step(state, Batch(X, Y))
    np.testing.assert_allclose(state.parameters[0], np.c_[T.T, [0.7, 0.7]], atol=1e-8)
    assert record.error < 1e-15


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("learning_rate", value) for value in (0, -1.0, math.nan, math.inf)],
        *[("mu_max", value) for value in (-0.1, 1.0, math.nan)],
        *[("eta", value) for value in (-1e-9, math.nan, math.inf)],
        *[(name, value) for name in ("m1", "chunk_size") for value in (0, -1, 1.5, math.nan)],
        *[("full_batch_at", value) for value in (1, 0, 2.5)],
    ],
)
def test_constants_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value}"):
        SGDSettings(**{name: value})


@pytest.mark.parametrize("name", ["learning_rate", "mu_max", "eta", "m1", "full_batch_at", "chunk_size"])
def test_constants_of_another_type(name):
    for value in ("1", True, [1]):
        with pytest.raises(TypeError, match=f"{name} must be a"):
            SGDSettings(**{name: value})


def test_shapes_are_checked(rng):
    network = make_network()
    sgd = SGD(network)
    with pytest.raises(ValueError, match=r"layer 1 has shape \(2, 5\), expected \(4, 4\)"):
        sgd.init(random_parameters(rng, network)[::-1])
    state = sgd.init(random_parameters(rng, network))
    with pytest.raises(ValueError, match=r"X has shape \(5, 2\), expected \(cases, 3\)"):
        sgd.step(state, Batch(np.zeros((5, 2)), np.zeros((5, 2))))
