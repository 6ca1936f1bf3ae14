"""kfac_ref.baselines: SGD against a straight-line loop of Nesterov's method on dense gradients, and the exact natural
gradient against one on the dense F."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass
from kfac_ref import Batch, Diverged
from kfac_ref.baselines import (
    LARGEST,
    SGD,
    NaturalGradient,
    NaturalGradientSettings,
    SGDSettings,
    SGDState,
    momentum,
)
from kfac_ref.curvature import quadratic
from kfac_ref.training import loop
from tests.conftest import assert_all_close, assert_home, is_float32, random_parameters, random_targets, to
from tests.dense import case_forward, case_mean, dense_fisher, dense_gradient, dense_h, flatten, unflatten


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


# --- exact natural gradient ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
def test_natural_gradient_against_a_straight_line_loop(like, rng, likelihood):
    network = make_network(likelihood)
    settings = NaturalGradientSettings(lambda0=0.5, eta=0.03, T1=2, omega=0.8, chunk_size=5)
    optimizer, W = NaturalGradient(network, settings), random_parameters(rng, network)
    state, theta, lam, lams = optimizer.init(to(like, W), 4), flatten(W), 0.5, set()
    tol = 1e-3 if is_float32(like) else 1e-9  # several iterations in a row multiply roundings
    for k in range(1, 9):
        X, Y = rng.standard_normal((11, 3)), random_targets(rng, likelihood, 11, 2)
        W = unflatten(theta, network)
        h, gradient = dense_h(network, W, X, Y, 0.03), dense_gradient(network, W, X, Y, 0.03)
        means = np.array([case_mean(likelihood, case_forward(network, W, x)[2]) for x in X])
        M = dense_fisher(network, W, X) + (lam + 0.03) * np.eye(len(theta))
        delta = -np.linalg.solve(M, gradient)
        change = 0.5 * delta @ M @ delta + gradient @ delta
        theta = theta + delta
        if k % 2 == 0:
            rho = (dense_h(network, unflatten(theta, network), X, Y, 0.03) - h) / change
            lam *= 0.64 if rho > 0.75 else 1 / 0.64 if rho < 0.25 else 1

        state, record = optimizer.step(state, Batch(*to(like, X, Y)))
        assert_all_close(state.parameters, unflatten(theta, network), like, tol)
        assert_all_close(record.direction, unflatten(delta, network), like, tol)
        assert_all_close(record.gradient, unflatten(gradient, network), like, tol)
        constant = math.log(2 * math.pi) if likelihood == "gaussian" else 0
        assert record.h == pytest.approx(h + constant, rel=tol)
        assert record.error == pytest.approx(np.mean(np.sum((means - Y) ** 2, axis=1)), rel=tol)
        assert record.model_change == pytest.approx(change, rel=tol)
        assert record.norm_delta == pytest.approx(np.linalg.norm(delta), rel=tol)
        # what the forward-mode passes find is what the dense solution has: α = 1
        assert record.alpha == pytest.approx(1, rel=1e-4 if is_float32(like) else 1e-11)
        assert record.mu == 0
        assert record.lam == state.lam == pytest.approx(lam, rel=1e-12)
        assert record.gamma == state.gamma == pytest.approx(math.sqrt(lam + 0.03), rel=1e-12)
        assert math.isnan(record.rho) == bool(k % 2)
        if k % 2 == 0:
            assert record.rho == pytest.approx(rho, rel=1e-3 if is_float32(like) else 1e-8)
        assert (record.k, record.m, state.k, state.seed) == (k, 11, k, 4)
        lams.add(lam)
    assert len(lams) > 1  # the rule did something
    assert state.averaged is state.parameters
    for name in ("h", "error", "alpha", "mu", "lam", "gamma", "rho", "model_change", "norm_delta"):
        assert type(getattr(record, name)) is float


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
def test_re_scaling_and_momentum_have_nothing_to_add_to_the_natural_gradient(rng, likelihood):
    """(α, μ) = (1, 0) whatever δ₀ is, as Δ is the minimiser of M over all δ (§6.4, §7)."""
    network, settings = make_network(likelihood), NaturalGradientSettings(lambda0=0.2, eta=0.01)
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), random_targets(rng, likelihood, 9, 2)
    optimizer = NaturalGradient(network, settings)
    _, record = optimizer.step(optimizer.init(W), Batch(X, Y))
    forward_pass, previous = ForwardPass(network, W, X), random_parameters(rng, network)
    products = quadratic.inner_products(forward_pass, record.gradient, [record.direction, previous], 9)
    found = quadratic.minimise(products, 0.2 + 0.01, [0, 1])
    np.testing.assert_allclose([found.alpha, found.mu], [1, 0], rtol=0, atol=1e-12)
    assert found.change == pytest.approx(record.model_change, rel=1e-12)


def test_one_step_to_the_least_squares_solution(like, rng):
    """One layer, Gaussian, undamped: h is quadratic and F is its Hessian, so that one step ends at the optimum."""
    network = Network([3, 2], [], "gaussian")
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    optimizer = NaturalGradient(network, NaturalGradientSettings(lambda0=0.0, eta=0.0, T1=1))
    state, record = optimizer.step(optimizer.init(to(like, random_parameters(rng, network))), Batch(*to(like, X, Y)))
    solution = np.linalg.lstsq(np.c_[X, np.ones(40)], Y, rcond=None)[0].T
    assert_all_close(state.parameters, [solution], like)
    assert record.rho == pytest.approx(1, rel=1e-3 if is_float32(like) else 1e-10)
    assert state.lam == 0


def test_natural_gradient_converges_quadratically(rng):
    """Logistic regression (two classes, one logit): F is the Hessian of h whatever the targets, so that undamped steps
    are Newton's and the number of correct digits doubles."""
    network, eta = Network([3, 1], [], "bernoulli"), 0.0
    X = rng.standard_normal((60, 3))
    Y = (rng.random((60, 1)) < 1 / (1 + np.exp(-X[:, :1]))) * 1.0
    optimizer = NaturalGradient(network, NaturalGradientSettings(lambda0=0.0, eta=eta, T1=10**6))
    state, norms = optimizer.init([np.zeros((1, 4))]), []
    for _ in range(8):
        state, record = optimizer.step(state, Batch(X, Y))
        norms.append(record.norm_delta)
    falling = [n for n in norms if n > 1e-7]
    assert len(falling) >= 3 and norms[-1] < 1e-13
    assert all(after < 2 * before**2 for before, after in zip(falling[1:], norms[2:], strict=False))


def test_natural_gradient_trains_as_the_others_do(rng):
    """In the loop that all optimizers share, and with a state that is left as it was."""
    network = make_network()
    optimizer = NaturalGradient(network, NaturalGradientSettings(lambda0=1.0, m1=20, full_batch_at=None))
    X = rng.standard_normal((30, 3))
    data = loop.Data(X, np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1))
    first = optimizer.init(random_parameters(rng, network), 3)
    before = [W.copy() for W in first.parameters]
    run = loop.iterate(optimizer, first, data)
    errors = [record.error for _, (_, record, _) in zip(range(40), run, strict=False)]
    assert np.mean(errors[-5:]) < 0.5 * np.mean(errors[:5])
    for W, b in zip(first.parameters, before, strict=True):
        np.testing.assert_array_equal(W, b)


def test_natural_gradient_of_too_large_a_network():
    network = Network([99, 50], [], "gaussian")
    assert network.shapes == [(50, 100)]
    assert LARGEST == 5000
    NaturalGradient(network)
    with pytest.raises(ValueError, match=r"P² numbers: the network 99-51 .* has P = 5100 parameters, and at most 5000"):
        NaturalGradient(Network([99, 51], [], "gaussian"))


@np.errstate(over="ignore", invalid="ignore")
def test_natural_gradient_where_it_cannot_go_on(like, rng):
    network = make_network()
    optimizer = NaturalGradient(network, NaturalGradientSettings(lambda0=1.0))
    state = optimizer.init(to(like, random_parameters(rng, network)))
    X, Y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    X[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"X\[2, 1\] is nan"):
        optimizer.step(state, Batch(*to(like, X, Y)))
    X[2, 1], Y[2, 1] = 0, 1e30 if is_float32(like) else 1e200  # finite, but its square is not
    with pytest.raises(Diverged, match=r"iteration 1: the objective h is inf"):
        optimizer.step(state, Batch(*to(like, X, Y)))
    with pytest.raises(ValueError, match=r"layer 1 has shape \(2, 5\), expected \(4, 4\)"):
        optimizer.init(random_parameters(rng, network)[::-1])
    # inputs that are 0 say nothing about the weights on them: their rows of F are 0
    optimizer = NaturalGradient(network, NaturalGradientSettings(lambda0=0.0, eta=0.0))
    state = optimizer.init(state.parameters)
    match = r"iteration 1: F \+ \(λ\+η\)I is not positive definite .* λ\+η = 0; .*lambda0"
    with pytest.raises(ValueError, match=match):
        optimizer.step(state, Batch(*to(like, np.zeros((5, 3)), rng.standard_normal((5, 2)))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lambda0", value) for value in (-1.0, math.nan, math.inf)],
        *[("omega", value) for value in (0.0, 1.1, math.nan)],
        *[("T1", value) for value in (0, 1.5)],
        ("eta", -1e-9),
    ],
)
def test_constants_of_the_natural_gradient_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value}"):
        NaturalGradientSettings(**{name: value})
