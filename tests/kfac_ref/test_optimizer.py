"""Algorithm 2."""

from __future__ import annotations

import copy
import math
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from autodiff import Network, arrays
from autodiff.arrays import to_numpy
from kfac_ref import KFAC, Batch, Diverged, Settings, optimizer, preset, refreshed
from kfac_ref.optimizer import reduction_ratio
from tests.conftest import (
    assert_all_close,
    assert_home,
    is_float32,
    make_like,
    random_parameters,
    random_targets,
    to,
)
from tests.dense import (
    case_forward,
    dense_diagonal_inverse,
    dense_factors,
    dense_fisher,
    dense_gradient,
    dense_tridiagonal_inverse,
    flatten,
    unflatten,
)

SMALL = {"T1": 2, "T2": 3, "T3": 5, "lambda0": 2.0, "eta": 0.01, "tau1": 0.5, "tau2": 0.7}
"""Periods so short that every rule is used within a few iterations."""


def make_network(likelihood: str = "gaussian") -> Network:
    return Network([3, 4, 3, 2], ["tanh", "logistic"], likelihood)


def draw_batch(rng, network: Network, m: int = 12):
    """A mini-batch of a problem that has something to learn."""
    X = rng.standard_normal((m, 3))
    if network.likelihood.name == "gaussian":
        return X, np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
    Y = (X[:, :2] > 0) * 1.0
    if network.likelihood.name == "categorical":
        Y = np.stack([Y[:, 0], 1 - Y[:, 0]], axis=1)
    return X, Y


def outputs(network, W, X):
    return np.array([case_forward(network, W, x)[2] for x in X])


# --- libraries, devices and dtypes ---------------------------------------------------------------------------------


def run(like, network, settings, iterations=7, seed=3, m=12, handed_in=True):
    """A run with the same mini-batches on every library; the sampled targets are handed in, or drawn by the step."""
    rng = np.random.default_rng(99)
    kfac = KFAC(network, settings)
    state = kfac.init(to(like, random_parameters(rng, network)), seed)
    records = []
    for _ in range(iterations):
        X, Y = draw_batch(rng, network, m)
        cases = math.ceil(settings.tau1 * m)
        sampled = random_targets(rng, network.likelihood.name, cases, 2)
        handed = to(like, sampled) if handed_in else None
        state, record = kfac.step(state, Batch(*to(like, X, Y)), handed)
        records.append(record)
    return state, records


def arrays_of(x):
    """Every array inside a state or record."""
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple)):
        return [a for part in x for a in arrays_of(part)]
    if is_dataclass(x):
        return [a for f in fields(x) for a in arrays_of(getattr(x, f.name))]
    return [x] if hasattr(x, "shape") else []


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_every_library_takes_the_same_steps(like, likelihood, inverse):
    network, settings = make_network(likelihood), Settings(**SMALL, inverse=inverse)
    state, records = run(like, network, settings)
    expected, _ = run(np.zeros(0), network, settings)
    # seven iterations in a row multiply roundings: one digit more than a single function is allowed
    tol = 1e-3 if is_float32(like) else 1e-9
    assert_all_close(state.parameters, expected.parameters, like, tol)
    assert_all_close(state.averaged, expected.averaged, like, tol)
    for x in arrays_of(state) + arrays_of(records):
        assert_home(x, like)
    for name in ("lam", "gamma"):
        assert type(getattr(state, name)) is float
    for name in ("h", "error", "alpha", "mu", "lam", "gamma", "rho", "model_change", "norm_delta"):
        assert all(type(getattr(record, name)) is float for record in records)


def test_everything_stays_where_it_is_with_drawn_targets(like):
    state, records = run(like, make_network("bernoulli"), Settings(**SMALL), handed_in=False)
    for x in arrays_of(state) + arrays_of(records):
        assert_home(x, like)
    assert all(math.isfinite(record.h) for record in records)


def test_constants_that_are_numpy_numbers_do_not_change_the_dtype():
    """np.float64 is a float, but unlike one it widens float32 arrays."""
    like = make_like("numpy-float32")
    widening = {name: np.float64(value) for name, value in SMALL.items() if isinstance(value, float)}
    settings = Settings(**(SMALL | widening), epsilon_max=np.float64(0.9), xi_max=np.float64(0.9))
    state, records = run(like, make_network(), settings)
    for x in arrays_of(state) + arrays_of(records):
        assert_home(x, like)


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
def test_one_transfer_per_iteration(like, monkeypatch, inverse):
    """One to the host at each iteration, a second where λ is adjusted, and none that is not counted."""
    counts = {"scalars": 0, "to_numpy": 0}

    def counting(name, function):
        def counted(*args):
            counts[name] += 1
            return function(*args)

        return counted

    monkeypatch.setattr(optimizer, "read_scalars", counting("scalars", arrays.read_scalars))
    monkeypatch.setattr(arrays, "to_numpy", counting("to_numpy", arrays.to_numpy))
    network, settings = make_network(), Settings(**SMALL, inverse=inverse)
    rng = np.random.default_rng(5)
    kfac = KFAC(network, settings)
    state = kfac.init(to(like, random_parameters(rng, network)))
    for k in range(1, 8):
        batch = Batch(*to(like, *draw_batch(rng, network)))
        counts.update(scalars=0, to_numpy=0)
        state, _ = kfac.step(state, batch)
        expected = 2 if k % settings.T1 == 0 else 1
        assert counts == {"scalars": expected, "to_numpy": expected}


# --- a pure function of state and batch ----------------------------------------------------------------------------


def test_the_state_is_not_modified(rng):
    network, settings = make_network(), Settings(**SMALL)
    kfac, state = KFAC(network, settings), run(np.zeros(0), network, settings)[0]
    batch = Batch(*draw_batch(rng, network))
    before, cases = copy.deepcopy(state), copy.deepcopy(batch)
    one, _ = kfac.step(state, batch)
    again, _ = kfac.step(state, batch)
    for a, b in zip(arrays_of(state) + list(batch), arrays_of(before) + list(cases), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("k", "lam", "gamma", "seed", "restart"):
        assert getattr(state, name) == getattr(before, name)
    for a, b in zip(arrays_of(one), arrays_of(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_seed_decides_the_sampled_targets():
    network, settings = make_network("bernoulli"), Settings(**SMALL)
    one, again, other = (
        flatten(run(np.zeros(0), network, settings, seed=seed, handed_in=False)[0].parameters) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-6


def test_each_iteration_draws_other_targets(monkeypatch):
    keys = []
    network = make_network()
    spied = replace(network.likelihood, noise=lambda key, shape, like: keys.append(tuple(key)) or np.zeros(shape))
    network = Network([3, 4, 3, 2], ["tanh", "logistic"], spied)
    run(np.zeros(0), network, Settings(**SMALL, chunk_size=4), iterations=3, seed=8, handed_in=False)
    assert len(set(keys)) == len(keys) >= 3
    assert {key[0] for key in keys} == {8}


@pytest.mark.parametrize("handed_in", [True, False], ids=["targets handed in", "targets drawn"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_chunks_change_nothing_but_rounding(likelihood, handed_in):
    """6 of the 12 cases serve for the factors; chunks of 5 and 1 divide them."""
    network = make_network(likelihood)
    ends = [
        flatten(run(np.zeros(0), network, Settings(**SMALL, chunk_size=c), handed_in=handed_in)[0].parameters)
        for c in (5000, 12, 7, 5, 1)
    ]
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=0, atol=1e-9)


# --- the rules, one by one -----------------------------------------------------------------------------------------


def test_init():
    network = make_network()
    W = [np.ones(shape) for shape in network.shapes]
    state = KFAC(network, Settings(lambda0=8.0, eta=1.0)).init(W, seed=4)
    assert (state.k, state.lam, state.gamma, state.seed, state.restart) == (0, 8.0, 3.0, 4, 0)
    assert state.delta is state.factors is state.inverse is None
    assert all(a is b for a, b in zip(state.parameters, W, strict=True))
    with pytest.raises(ValueError, match=r"layer 1 has shape \(3, 5\), expected \(4, 4\)"):
        KFAC(network).init(W[1:] + W[:1])
    assert KFAC(network).settings == Settings()


def test_without_momentum_the_step_is_along_delta(rng):
    state, records = run(np.zeros(0), make_network(), Settings(**SMALL, momentum=False))
    assert all(record.mu == 0 for record in records)
    np.testing.assert_allclose(flatten(state.delta), records[-1].alpha * flatten(records[-1].direction), rtol=1e-14)


def test_with_momentum_mu_is_0_at_the_first_iteration_only():
    _, records = run(np.zeros(0), make_network(), Settings(**SMALL))
    assert [record.mu == 0 for record in records] == [True] + [False] * 6


def test_the_inverse_is_kept_between_refreshes():
    """T₃ = 5: computed at k = 1, 2, 3 and 5, 10; T₂ is so long that no other γ brings its own."""
    network, settings = make_network(), Settings(**(SMALL | {"T2": 100}))
    rng, kfac = np.random.default_rng(1), KFAC(network, settings)
    state = kfac.init(random_parameters(rng, network))
    kept = []
    for _ in range(10):
        before = state.inverse
        state, _ = kfac.step(state, Batch(*draw_batch(rng, network)))
        kept.append(state.inverse is before)
    assert [k for k, same in enumerate(kept, start=1) if not same] == [1, 2, 3, 5, 10]


def test_refreshed():
    """As after a resume: the inverse is computed at once and ε counts from here, so that the old factors go."""
    network, settings = make_network(), Settings(**(SMALL | {"T2": 100}))
    rng, kfac = np.random.default_rng(1), KFAC(network, settings)
    state = kfac.init(random_parameters(rng, network))
    for _ in range(6):
        state, _ = kfac.step(state, Batch(*draw_batch(rng, network)))
    restarted = refreshed(state)
    assert (restarted.inverse, restarted.restart, restarted.k) == (None, 6, 6)
    X, Y = draw_batch(rng, network)
    sampled = rng.standard_normal((6, 2))
    after, record = kfac.step(restarted, Batch(X, Y), sampled)
    A, G = dense_factors(network, state.parameters, X[:6], sampled)
    np.testing.assert_allclose(after.factors.A[1, 2], A[1, 2], atol=1e-12)
    np.testing.assert_allclose(after.factors.G[3, 3], G[3, 3], atol=1e-12)
    inverse = dense_tridiagonal_inverse(A, G, state.gamma)
    np.testing.assert_allclose(flatten(record.direction), -inverse @ flatten(record.gradient), atol=1e-10)
    # the second update after it averages with ε = ½
    X, Y = draw_batch(rng, network)
    last, _ = kfac.step(after, Batch(X, Y), sampled)
    second, _ = dense_factors(network, after.parameters, X[:6], sampled)
    np.testing.assert_allclose(last.factors.A[1, 1], (A[1, 1] + second[1, 1]) / 2, atol=1e-12)


def test_averages_of_iterates(rng):
    """From iteration 3 on a plain mean of θ_3, θ_4, … until ξ reaches its bound; before that θ itself."""
    network, settings = make_network(), Settings(**SMALL, average_from=3, xi_max=0.99)
    kfac = KFAC(network, settings)
    state, thetas = kfac.init(random_parameters(rng, network)), []
    for k in range(1, 9):
        state, _ = kfac.step(state, Batch(*draw_batch(rng, network)))
        thetas.append(flatten(state.parameters))
        expected = thetas[-1] if k < 3 else np.mean(thetas[2:], axis=0)
        np.testing.assert_allclose(flatten(state.averaged), expected, rtol=1e-12, atol=1e-14)


def test_reduction_ratio():
    assert reduction_ratio(2.0, 1.5, -1.0) == 0.5
    assert reduction_ratio(2.0, 2.0, -1.0) == 0
    assert reduction_ratio(2.0, 2.1, -1.0) == -math.inf
    assert reduction_ratio(2.0, math.nan, -1.0) == -math.inf
    assert reduction_ratio(2.0, math.inf, -1.0) == -math.inf
    assert math.isnan(reduction_ratio(2.0, 2.0, 0.0))


def test_a_step_at_the_minimum_is_no_step():
    """A linear model fitted exactly, without decay: the gradient is 0, and so is δ."""
    network = Network([2, 1], [], "gaussian")
    kfac = KFAC(network, Settings(**(SMALL | {"eta": 0.0})))
    W, X = [np.array([[1.0, -1.0, 0.5]])], np.random.default_rng(0).standard_normal((8, 2))
    Y = X @ W[0][:, :2].T + 0.5
    state = kfac.init(W)
    for _ in range(3):
        state, record = kfac.step(state, Batch(X, Y))
        np.testing.assert_allclose(state.parameters[0], W[0], atol=1e-14)
        assert record.norm_delta < 1e-14


def test_it_optimises():
    """A linear least-squares problem is solved to its minimum, from lstsq, within 60 iterations at full batch."""
    rng = np.random.default_rng(0)
    network = Network([3, 2], [], "gaussian")
    X, Y = rng.standard_normal((50, 3)), rng.standard_normal((50, 2))
    kfac = KFAC(network, preset("paper", eta=0.0, lambda0=1.0, tau1=1.0, tau2=1.0))
    state = kfac.init([np.zeros((2, 4))])
    for _ in range(60):
        state, _ = kfac.step(state, Batch(X, Y))
    solution = np.linalg.lstsq(np.hstack([X, np.ones((50, 1))]), Y, rcond=None)[0].T
    np.testing.assert_allclose(state.parameters[0], solution, atol=1e-8)


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300], ids=["nan", "inf", "huge"])
@pytest.mark.parametrize("first", [True, False], ids=["first iteration", "later"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence(like, inverse, value, first):
    """Cases that are not finite are to blame themselves; those whose squared error is not make h diverge."""
    network, settings = make_network(), Settings(**SMALL, inverse=inverse)
    rng, kfac = np.random.default_rng(2), KFAC(network, settings)
    state = kfac.init(to(like, random_parameters(rng, network)))
    if not first:
        state, _ = kfac.step(state, Batch(*to(like, *draw_batch(rng, network))))
    X, Y = draw_batch(rng, network)
    name, bad = ("X", X) if math.isnan(value) else ("Y", Y)
    bad[0, 0] = value
    if np.isfinite(to_numpy(to(like, bad))[0, 0]):
        expected, said = Diverged, f"iteration {state.k + 1}: .*objective"
    else:
        expected, said = ValueError, rf"{name}\[0, 0\] is (nan|inf), expected finite"
    with pytest.raises(expected, match=said):
        kfac.step(state, Batch(*to(like, X, Y)))
    assert all(np.all(np.isfinite(to_numpy(W))) for W in state.parameters)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_of_the_parameters(like):
    network = make_network()
    rng, kfac = np.random.default_rng(2), KFAC(network, Settings(**SMALL))
    W = random_parameters(rng, network)
    W[1][0, 0] = np.nan
    with pytest.raises(Diverged, match="iteration 1: the objective h is nan"):
        kfac.step(kfac.init(to(like, W)), Batch(*to(like, *draw_batch(rng, network))))


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
def test_a_singular_factor_names_its_layer(like, inverse):
    """Without any damping, inputs of which one is always 0 leave Ā_{0,0} singular."""
    network, settings = make_network(), Settings(**(SMALL | {"lambda0": 0.0, "eta": 0.0}), inverse=inverse)
    rng, kfac = np.random.default_rng(2), KFAC(network, settings)
    X, Y = draw_batch(rng, network)
    X[:, 1] = 0
    state = kfac.init(to(like, random_parameters(rng, network)))
    with pytest.raises(ValueError, match=r"layer 1: the factor A\[0,0\] is not positive definite .* gamma = 0"):
        kfac.step(state, Batch(*to(like, X, Y)))


def test_sampled_targets_of_the_wrong_shape(rng):
    network = make_network()
    kfac = KFAC(network, Settings(**SMALL))
    state, batch = kfac.init(random_parameters(rng, network)), Batch(*draw_batch(rng, network))
    for shape in ((5, 2), (12, 2), (6, 3)):
        with pytest.raises(ValueError, match=r"sampled targets have shape .*, expected \(6, 2\)"):
            kfac.step(state, batch, np.zeros(shape))


def test_batches_of_the_wrong_shape(rng):
    network = make_network()
    kfac = KFAC(network)
    state = kfac.init(random_parameters(rng, network))
    for X, Y, message in (
        ((4, 2), (4, 2), r"X has shape \(4, 2\), expected \(cases, 3\)"),
        ((4, 3), (4, 1), r"Y has shape \(4, 1\), expected \(cases, 2\)"),
        ((4, 3), (5, 2), "X has 4 cases and Y has 5"),
        ((0, 3), (0, 2), "no cases"),
    ):
        with pytest.raises(ValueError, match=message):
            kfac.step(state, Batch(np.zeros(X), np.zeros(Y)))


def test_dead_units_do_no_harm(like):
    """ReLU units that never fire leave G_{1,1} = 0, for which π is 1; γ > 0 keeps it definite."""
    network = Network([3, 4, 2], "relu", "gaussian")
    rng, kfac = np.random.default_rng(2), KFAC(network, Settings(**SMALL))
    W = random_parameters(rng, network)
    W[0][:, -1] = -100
    state = kfac.init(to(like, W))
    for _ in range(3):
        state, record = kfac.step(state, Batch(*to(like, *draw_batch(rng, network))))
        assert math.isfinite(record.h)
        assert all(np.all(np.isfinite(to_numpy(w))) for w in state.parameters)


# --- the choice of γ -----------------------------------------------------------------------------------------------

CHOICE = {"T1": 100, "T2": 4, "omega": 0.5, "lambda0": 0.3}
"""The fourth iteration tries γ, γ/4 and 4γ; λ is as it was at first."""


def as_matrix(inverse, network) -> np.ndarray:
    """F₀⁻¹ applied to every unit vector."""
    P = sum(p * q for p, q in network.shapes)
    return np.stack([flatten(inverse.apply(unflatten(e, network))) for e in np.eye(P)], axis=1)


def fourth_iteration(settings: Settings, gamma: float):
    """The state before it, the state after it, its record, and what each candidate gives by dense algebra: γ, F₀⁻¹ from
    the factors of the state after, δ, and M(δ) − M(0). Where no inverse is due, γ itself has the old one."""
    network, rng = make_network(), np.random.default_rng(5)
    kfac = KFAC(network, settings)
    state = replace(kfac.init(random_parameters(rng, network)), gamma=gamma)
    for _ in range(3):
        state, _ = kfac.step(state, Batch(*draw_batch(rng, network)))
    X, Y = draw_batch(rng, network)
    after, record = kfac.step(state, Batch(X, Y))

    gradient = dense_gradient(network, state.parameters, X, Y, settings.eta)
    F = dense_fisher(network, state.parameters, X[: math.ceil(settings.tau2 * len(X))])
    M = F + (settings.lambda0 + settings.eta) * np.eye(len(F))
    invert = dense_tridiagonal_inverse if settings.tridiagonal else dense_diagonal_inverse
    candidates = []
    for candidate in (gamma / 4, gamma, 4 * gamma):
        old = candidate == gamma and 4 % settings.T3 != 0
        inverse = as_matrix(state.inverse, network) if old else invert(after.factors.A, after.factors.G, candidate)
        columns = [-inverse @ gradient, flatten(state.delta)] if settings.momentum else [-inverse @ gradient]
        U = np.stack(columns, axis=1)
        delta = -U @ np.linalg.solve(U.T @ M @ U, U.T @ gradient)
        change = 0.5 * delta @ M @ delta + gradient @ delta
        candidates.append(SimpleNamespace(gamma=candidate, inverse=inverse, delta=delta, change=change))
    return state, after, record, candidates


@pytest.mark.parametrize("momentum", [True, False], ids=["momentum", "no momentum"])
@pytest.mark.parametrize("T3", [2, 6], ids=["inverses due", "between inversions"])
@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize(("gamma", "wins"), [(10.0, 0), (2.0, 1), (0.05, 2)])
def test_the_gamma_with_the_lowest_model_is_kept(gamma, wins, inverse, T3, momentum):
    """With its inverse and its δ. A γ that is too large gives way to ω₂γ, one too small to γ/ω₂."""
    settings = Settings(**(SMALL | CHOICE | {"T3": T3}), inverse=inverse, momentum=momentum)
    state, after, record, candidates = fourth_iteration(settings, gamma)
    best = candidates[wins]
    assert all(best.change < other.change - 1e-3 for other in candidates if other is not best)
    assert after.gamma == record.gamma == pytest.approx(best.gamma, rel=1e-12)
    assert record.model_change == pytest.approx(best.change, rel=1e-8)
    close = {"rtol": 1e-8, "atol": 1e-10}
    np.testing.assert_allclose(flatten(after.delta), best.delta, **close)
    np.testing.assert_allclose(flatten(after.parameters), flatten(state.parameters) + best.delta, **close)
    np.testing.assert_allclose(as_matrix(after.inverse, make_network()), best.inverse, **close)


@pytest.mark.parametrize("gamma", [10.0, 2.0, 0.05])
@pytest.mark.parametrize("inverted", [True, False])
def test_candidates_between_inversions(inverted, gamma):
    """T₂ = 4 divides 4, T₃ = 6 does not. In the authors' program all candidates then share the old inverse, so that the
    first, ω₂γ, wins and nothing is inverted; in the paper each has its own, and the old one stays if γ itself wins."""
    settings = Settings(**(SMALL | CHOICE | {"T3": 6}), candidates_inverted=inverted)
    state, after, record, candidates = fourth_iteration(settings, gamma)
    if inverted:
        best = min(candidates, key=lambda candidate: candidate.change)
        assert after.gamma == pytest.approx(best.gamma, rel=1e-12)
        assert (after.inverse is state.inverse) == (best.gamma == gamma)
        inverse = best.inverse
    else:
        assert after.inverse is state.inverse
        assert after.gamma == pytest.approx(gamma / 4, rel=1e-12)
        inverse = candidates[1].inverse
    gradient = flatten(record.gradient)
    np.testing.assert_allclose(flatten(record.direction), -inverse @ gradient, rtol=1e-8, atol=1e-10)
