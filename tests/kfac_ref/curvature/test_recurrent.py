"""Blocks of recurrent layers with correlations over time, in Algorithm 2 and in every array library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Settings
from kfac_ref.curvature import block_diagonal, damping, ekfac, factors, inverses, kronecker_fisher, recurrent
from kfac_ref.curvature.factors import TIMES, Kinds
from kfac_ref.curvature.inverses import PartitionedInverse
from kfac_ref.curvature.recurrent import StationaryInverse, SymmetricInverse
from tests.autodiff.layers.networks import made, parameters
from tests.conftest import assert_all_close, assert_close, random_targets, to
from tests.dense import flatten, unflatten

N, NAME = 6, "recurrent, all steps"
"""Two recurrent layers of 4 steps, and a dense layer on each step."""
CORRELATED = TIMES[1:]


def at_point(network: Network, seed: int = 3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, *network.input))
    Y = random_targets(rng, network.likelihood.name, N * 4, 3).reshape(N, -1)
    return parameters(network), X, Y


def block(damped, lagged, i: int, time: str) -> np.ndarray:
    """The dense chain of layer i, summed term by term or by the resolvent of Ψ."""
    A, G, one = damped.A[i - 1, i - 1], damped.G[i, i], lagged[i, i]
    V_0 = np.kron(A, G)
    if time == "symmetric":
        A_1, G_1 = ((M + M.T) / 2 for M in (one.A, one.G))
        Psi = np.kron(A_1 @ np.linalg.inv(A), G_1 @ np.linalg.inv(G))
        return V_0 + sum((1 - k / 4) * (M + M.T) for k in (1, 2, 3) for M in [np.linalg.matrix_power(Psi, k) @ V_0])
    Psi = np.kron(one.A @ np.linalg.inv(A), one.G @ np.linalg.inv(G))
    later = np.linalg.solve(np.eye(len(Psi)) - Psi, Psi @ V_0)
    return V_0 + later + later.T


def dense_inverse(network: Network, damped, lagged, time: str) -> np.ndarray:
    blocks = [block(damped, lagged, i, time) if i < 3 else np.kron(damped.A[2, 2], damped.G[3, 3]) for i in (1, 2, 3)]
    ends = np.cumsum([0, *(p * q for p, q in network.shapes)])
    found = np.zeros((ends[-1], ends[-1]))
    for start, end, one in zip(ends[:-1], ends[1:], blocks, strict=True):
        found[start:end, start:end] = np.linalg.inv(one)
    return found


def one_step_apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return sum(np.outer(x[n, t], y[n, t - 1]) for n in range(N) for t in range(1, 4))


def lagged_by_loops(network: Network, W, X, targets) -> dict:
    """Ā_1 and G_1 of the recurrent layers with these targets, case by case and step by step."""
    forward_pass = ForwardPass(network, W, X)
    ((_, activities),) = forward_pass.chunks()
    g = forward_pass.backward(activities, network.likelihood.derivative(activities.z, targets))
    found = {}
    for i in (1, 2):
        a, b = (x.reshape(N, 4, -1) for x in (activities.rows(i), g[i - 1]))
        found[i, i] = factors.Lagged(one_step_apart(a, a) / (4 * N), one_step_apart(b, b) / N, np.arange(4.0, 0, -1))
    return found


@pytest.mark.parametrize("time", CORRELATED)
def test_factors_and_inverse_in_every_library(time, like):
    network = made(NAME, "gaussian")
    W, X, Y = at_point(network)
    kinds = Kinds(time=time)
    found = factors.empirical(ForwardPass(network, to(like, W), to(like, X)), to(like, Y), kinds)
    expected = lagged_by_loops(network, W, X, Y)
    assert found.lagged.keys() == expected.keys()
    for index, one in expected.items():
        for name in ("A", "G", "pairs"):
            assert_close(getattr(found.lagged[index], name), getattr(one, name), like)
    plain = factors.empirical(ForwardPass(network, W, X), Y)
    inverse = inverses.invert(found, damping.factorise(found, 0.7), False, time)
    F_inverse = dense_inverse(network, damping.damp(plain, 0.7), expected, time)
    v = np.random.default_rng(2).standard_normal(len(F_inverse))
    assert_all_close(inverse.apply(to(like, unflatten(v, network))), unflatten(F_inverse @ v, network), like)
    damped = damping.damp(plain, 0.7)
    ours = recurrent.dense(*(to(like, x) for x in (damped.A[0, 0], damped.G[1, 1])), found.lagged[1, 1], time)
    assert_close(ours, block(damped, expected, 1, time), like)


@pytest.mark.parametrize("time", CORRELATED)
@pytest.mark.parametrize("tridiagonal", [False, True])
def test_parts_of_an_inverse(time, tridiagonal):
    """A recurrent layer of several steps is a part of its own; the others are as they were."""
    ends = [{"kind": "dense", "out": 4, "activation": "tanh"}, {"kind": "dense", "out": 2}]
    steps = [{"kind": "recurrent", "out": 3}, *ends]
    network = Network.of([{"kind": "dense", "out": 2}, *steps], (4, 3), "gaussian")
    forward_pass = ForwardPass(network, parameters(network), np.random.default_rng(0).standard_normal((N, 4, 3)))
    exact = factors.exact(forward_pass, Kinds(time=time))
    assert list(exact.lagged) == [(2, 2)]
    damped = damping.factorise(exact, 0.5)
    inverse, plain = (inverses.invert(exact, damped, tridiagonal, name) for name in (time, "independent"))
    assert isinstance(inverse, PartitionedInverse) and inverse.layers == [1, 1, 2]
    assert isinstance(inverse.parts[1], SymmetricInverse if time == "symmetric" else StationaryInverse)
    V = parameters(network, 5)
    for i, (u, v) in enumerate(zip(inverse.apply(V), plain.apply(V), strict=True)):
        assert (np.abs(u - v).max() < 1e-14) == (i != 1)
    assert exact.part(2, 4).lagged.keys() == {(1, 1)} and not exact.part(3, 4).lagged


def test_independent_is_expand_to_the_last_bit():
    network = made(NAME, "categorical")
    W, X, Y = at_point(network)
    settings = Settings(lambda0=0.5)
    states = [KFAC(network, s).init(W) for s in (settings, replace(settings, time="independent"))]
    for kfac, state in zip((KFAC(network, settings), KFAC(network, settings)), states, strict=True):
        assert not kfac.step(state, Batch(X, Y))[0].factors.lagged
    lagged = factors.empirical(ForwardPass(network, W, X), Y, Kinds(time="symmetric"))
    plain = factors.empirical(ForwardPass(network, W, X), Y)
    for ours, theirs in ((lagged.A, plain.A), (lagged.G, plain.G)):
        assert all(np.array_equal(ours[index], theirs[index]) for index in theirs)


@pytest.mark.parametrize("time", CORRELATED)
def test_three_iterations_against_dense_algebra(time):
    """Δ by the dense inverse of averaged chains; running averages keep Ā_1 and G_1 too."""
    network = made(NAME, "categorical")
    W, X, Y = at_point(network)
    sampled = random_targets(np.random.default_rng(8), "categorical", N * 4, 3).reshape(N, -1)
    s = Settings(time=time, tau1=1.0, lambda0=0.5, eta=1e-3, inverse="block-diagonal")
    kfac = KFAC(network, s)
    state, plain, lagged = kfac.init(W), None, {}
    for epsilon in (0.0, 1 / 2, 2 / 3):
        new = factors.empirical(ForwardPass(network, state.parameters, X), sampled)
        one = lagged_by_loops(network, state.parameters, X, sampled)
        plain = factors.running_average(plain, block_diagonal.approximate(new), epsilon)
        for index, x in one.items():
            old = lagged.get(index, x)
            pair = ((epsilon * getattr(old, n) + (1 - epsilon) * getattr(x, n)) for n in ("A", "G"))
            lagged[index] = factors.Lagged(*pair, x.pairs)
        F_inverse = dense_inverse(network, damping.damp(plain, state.gamma), lagged, time)
        state, record = kfac.step(state, Batch(X, Y), sampled=sampled)
        expected = -F_inverse @ flatten(record.gradient)
        np.testing.assert_allclose(flatten(record.direction), expected, atol=1e-10 * np.abs(expected).max())


def test_weights_of_cases_are_cases_repeated():
    network = made(NAME, "gaussian")
    W, X, Y = at_point(network)
    w = np.array([1.0, 2, 0, 3, 1, 1])
    kinds, index = Kinds(time="symmetric"), np.repeat(np.arange(N), w.astype(int))
    weighted = factors.empirical(ForwardPass(network, W, X, weights=w), Y, kinds)
    repeated = factors.empirical(ForwardPass(network, W, X[index]), Y[index], kinds)
    for ours, theirs in zip(weighted.lagged.values(), repeated.lagged.values(), strict=True):
        np.testing.assert_allclose(ours.A, theirs.A, atol=1e-14)
        np.testing.assert_allclose(ours.G, theirs.G, atol=1e-13)


def test_kfc_scales_them_too():
    network = made(NAME, "gaussian")
    W, X, _ = at_point(network)
    expand = factors.exact(ForwardPass(network, W, X), Kinds(time="stationary"))
    kfc = factors.kfc(expand, network)
    V = parameters(network, 5)
    for gamma in (0.1, 2.0):
        ours, theirs = (inverses.invert(f, damping.factorise(f, gamma), False, "stationary") for f in (kfc, expand))
        assert_all_close(ours.apply(V), theirs.apply(V), np.zeros(0), tol=1e-11)


def test_a_pair_of_eigenvalues_at_its_ends():
    """ψ = −1 with an even T makes η 0: that is replaced by 1, as App. B's denominators are."""
    one = np.ones((1, 1))
    lagged = factors.Lagged(-1.0000001 * one, one, np.array([2.0, 1.0]))
    assert recurrent.invert(one, one, lagged, "symmetric").apply([3 * one])[0] == pytest.approx(3.0)
    assert recurrent.eta(np.array([-1.0, 1.0]), lagged.pairs).tolist() == [0.0, 2.0]


# --- what does not go together ---------------------------------------------------------------------------------------


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match=r'unknown way to treat time \(time\) "stationery".*did you mean "stationary"'):
        Settings(time="stationery")
    with pytest.raises(ValueError, match="time symmetric goes with expand's factors; got sharing reduce"):
        Settings(time="symmetric", sharing="reduce")
    one_step = Network.of([{"kind": "recurrent", "out": 2, "activation": "identity"}], (1, 3), "gaussian")
    for network in (Network([3, 2], [], "gaussian"), one_step):
        with pytest.raises(ValueError, match=r"time stationary is for recurrent layers of several steps; .* has none"):
            KFAC(network, Settings(time="stationary"))


def test_what_has_no_correlations_over_time_refuses_them():
    network = made(NAME, "gaussian")
    W, X, _ = at_point(network)
    exact = factors.exact(ForwardPass(network, W, X), Kinds(time="symmetric"))
    for refusing in (ekfac.eigenbasis, kronecker_fisher.dense, kronecker_fisher.invert):
        with pytest.raises(ValueError, match=r"layer 1 has factors with correlations over time, and .* has none"):
            refusing(exact)
    plain = factors.exact(ForwardPass(network, W, X))
    with pytest.raises(
        ValueError, match=r"time symmetric needs factors one step apart, of .* Kinds\(time='symmetric'\)"
    ):
        inverses.invert(plain, damping.factorise(plain, 1.0), False, "symmetric")
    with pytest.raises(ValueError, match='unknown way to treat time "stationry"'):
        inverses.invert(exact, damping.factorise(exact, 1.0), False, "stationry")
    with pytest.raises(ValueError, match="a Kronecker product has none; use time independent"):
        kronecker_fisher.product(exact, W)
