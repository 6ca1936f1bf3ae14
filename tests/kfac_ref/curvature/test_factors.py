"""The Kronecker factors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings

from autodiff import Affine, Network
from autodiff.arrays import from_numpy, to_numpy
from autodiff.passes import ForwardPass
from kfac_ref.curvature import factors
from kfac_ref.curvature.factors import Factors
from tests.conftest import assert_close, assert_home, random_parameters, sampled_targets, to
from tests.dense import case_forward, case_outcomes, dense_exact_G, dense_factors, dense_fisher, split
from tests.strategies import problems

NAMES = ["bernoulli", "categorical", "gaussian"]
EMPTY = np.zeros(0)


def make(rng, name="bernoulli", cases=7):
    network = Network([3, 5, 4, 2], ["tanh", "logistic"], name)
    W, X = random_parameters(rng, network), rng.standard_normal((cases, 3))
    z = np.array([case_forward(network, W, x)[2] for x in X])
    return network, W, X, sampled_targets(rng, name, z)


@pytest.mark.parametrize("chunk_size", [100, 5, 2])
@pytest.mark.parametrize("tridiagonal", [False, True])
def test_against_outer_products(like, rng, tridiagonal, chunk_size):
    """Only the first 5 of the 7 cases count."""
    network, W, X, sampled = make(rng)
    parameters, inputs, targets = to(like, W, X, sampled[:5])
    forward_pass = ForwardPass(network, parameters, inputs, chunk_size)
    ours = factors.estimate(forward_pass, lambda rows, z: targets[rows, :], 5, tridiagonal)
    A, G = dense_factors(network, W, X[:5], sampled[:5])
    reach = 1 if tridiagonal else 0
    assert set(ours.A) == {(i, j) for i, j in A if 0 <= j - i <= reach}
    assert set(ours.G) == {(i, j) for i, j in G if 0 <= j - i <= reach}
    for index, block in ours.A.items():
        assert_close(block, A[index], like)
    for index, block in ours.G.items():
        assert_close(block, G[index], like)
    assert ours.layers == 3


def test_sample_is_asked_for_each_chunk(rng):
    network, W, X, sampled = make(rng)
    asked = []

    def sample(rows, z):
        asked.append((rows.start, rows.stop, z.shape))
        np.testing.assert_allclose(z, [case_forward(network, W, x)[2] for x in X[rows]], rtol=1e-12)
        return sampled[rows]

    factors.estimate(ForwardPass(network, W, X, 3), sample, 5, tridiagonal=False)
    assert asked == [(0, 3, (3, 2)), (3, 5, (2, 2))]


# --- where the blocks Ā_{i−1,i−1} ⊗ G_{i,i} are exact (§3.1) ----------------------------------------------------------


def blocks_of_the_fisher(network: Network, W, X):
    return split(dense_fisher(network, W, X), [p * q for p, q in network.shapes])


def assert_blocks_exact(network: Network, W, X):
    """Every block, to 1e-12 of its largest entry."""
    ours, F = factors.exact(ForwardPass(network, W, X)), blocks_of_the_fisher(network, W, X)
    assert len(F) == network.layers**2
    for (i, j), block in F.items():
        made = np.kron(ours.A[i - 1, j - 1], ours.G[i, j])
        np.testing.assert_allclose(made, block, rtol=0, atol=1e-12 * np.abs(block).max())


@settings(max_examples=100)
@given(problems(max_layers=4, max_width=4, max_cases=1))
def test_exact_for_one_case(p):
    """ā is constant under the expectation, so that even the blocks off the diagonal are exact; any likelihood."""
    # of units that are saturated φ′ = φ(1 − φ) has few digits left, to which 1e-12 would not apply
    assume(all(np.abs(block).max() > 1e-6 for block in blocks_of_the_fisher(p.network, p.W, p.X).values()))
    assert_blocks_exact(p.network, p.W, p.X)


@pytest.mark.parametrize("sizes", [[3, 4, 3, 2], [2, 2], [5, 1, 6], [2, 3, 4, 3, 2, 1]])
def test_exact_for_deep_linear_networks_under_the_gaussian_likelihood(rng, sizes):
    """g_i does not depend on x."""
    network = Network(sizes, "identity", "gaussian")
    assert_blocks_exact(network, random_parameters(rng, network), rng.standard_normal((9, sizes[0])))


def test_exact_for_one_linear_layer(rng):
    network = Network([4, 3], [], "gaussian")
    assert_blocks_exact(network, random_parameters(rng, network), rng.standard_normal((9, 4)))


def test_not_exact_otherwise(rng):
    """So the tests above could fail: with 9 cases and tanh the approximation is one."""
    network = Network([3, 4, 2], "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((9, 3))
    ours, F = factors.exact(ForwardPass(network, W, X)), blocks_of_the_fisher(network, W, X)
    assert np.abs(np.kron(ours.A[0, 0], ours.G[1, 1]) - F[1, 1]).max() > 1e-3


# --- the exact, empirical and sampled factors, all blocks ------------------------------------------------------------


def assert_factors(ours: Factors, A, G, like=EMPTY, tol=None):
    """Every block and no other."""
    for blocks, expected in ((ours.A, A), (ours.G, G)):
        assert set(blocks) == set(expected)
        for index, block in blocks.items():
            assert_close(block, expected[index], like, tol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk_size", [100, 3])
def test_exact_and_empirical_on_every_library(like, rng, name, chunk_size):
    network, W, X, Y = make(rng, name)
    parameters, inputs, targets = to(like, W, X, Y)
    forward_pass = ForwardPass(network, parameters, inputs, chunk_size)
    A, G = dense_factors(network, W, X, Y)
    assert_factors(factors.exact(forward_pass), A, dense_exact_G(network, W, X), like)
    assert_factors(factors.empirical(forward_pass, targets), A, G, like)


@settings(max_examples=120)
@given(problems(max_layers=4, max_width=5))
def test_exact_and_empirical_against_jacobians(p):
    A, G = dense_factors(p.network, p.W, p.X, p.Y)
    for chunk_size in (100, 4):
        forward_pass = ForwardPass(p.network, p.W, p.X, chunk_size)
        assert_factors(factors.exact(forward_pass), A, dense_exact_G(p.network, p.W, p.X), tol=1e-12)
        assert_factors(factors.empirical(forward_pass, p.Y), A, G, tol=1e-12)


@settings(max_examples=40)
@given(problems(max_layers=3, max_width=3, max_cases=3))
def test_exact_is_the_sum_over_all_targets(p):
    """Another route: every y that can be, with its probability."""
    expected = {}
    for x in p.X:
        for probability, y in case_outcomes(p.network.likelihood.name, case_forward(p.network, p.W, x)[2]):
            _, G = dense_factors(p.network, p.W, [x], [y])
            for index, block in G.items():
                expected[index] = expected.get(index, 0.0) + probability * block / len(p.X)
    ours = factors.exact(ForwardPass(p.network, p.W, p.X))
    for index, block in ours.G.items():
        assert_close(block, expected[index], EMPTY, 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_sampled_factors_estimate_the_exact_ones(rng, name):
    """Over 50 estimates the mean agrees with the exact G to 4 standard errors, and the error is 4 times smaller (to
    a quarter, as 50 repetitions determine it) with 16 times as many samples."""
    network, W, X, _ = make(rng, name)
    forward_pass, exact, errors = ForwardPass(network, W, X), dense_exact_G(network, W, X), {}
    weights = {index: rng.standard_normal(block.shape) for index, block in exact.items()}  # a number of each block
    for samples in (10, 160):
        estimates = [factors.sampled(forward_pass, samples, (samples, k)) for k in range(50)]
        off = np.array([[np.sum(weights[index] * (e.G[index] - exact[index])) for index in exact] for e in estimates])
        assert np.all(np.abs(off.mean(0)) <= 4 * off.std(0, ddof=1) / np.sqrt(50))
        errors[samples] = np.sqrt(np.mean(off**2))
    assert errors[10] / errors[160] == pytest.approx(4, rel=0.25)


def test_sampled_factors_use_the_model_alone(like, rng):
    """All blocks, on the device; those of Ā are exact."""
    network, W, X, _ = make(rng)
    ours = factors.sampled(ForwardPass(network, *to(like, W, X), 3), 2, (1, 2))
    A, G = dense_factors(network, W, X, X[:, :2])
    assert set(ours.G) == set(G)
    for index, block in ours.A.items():
        assert_close(block, A[index], like)
    for block in ours.G.values():
        assert_home(block, like)


def test_pairs():
    """(i, j) as stored, else the transposes of (j, i), else nothing."""
    A = {
        (0, 0): np.ones((2, 2)),
        (0, 1): np.arange(6.0).reshape(2, 3),
        (1, 1): np.ones((3, 3)),
        (2, 2): np.ones((1, 1)),
    }
    G = {(1, 1): np.eye(3), (1, 2): np.arange(12.0).reshape(3, 4), (2, 2): np.eye(4), (3, 3): np.eye(1)}
    f = Factors(A, G)
    assert f.pair(1, 2) == (A[0, 1], G[1, 2])
    a, g = f.pair(2, 1)
    assert np.array_equal(a, A[0, 1].T) and np.array_equal(g, G[1, 2].T)
    assert f.pair(1, 3) is None and f.pair(3, 1) is None


# --- running averages ----------------------------------------------------------------------------------------------


def test_running_average(like, rng):
    def random_factors():
        A = {(0, 0): rng.standard_normal((3, 3)), (0, 1): rng.standard_normal((3, 2))}
        return Factors(A, {(1, 1): rng.standard_normal((2, 2))})

    old, new = random_factors(), random_factors()

    def there(f: Factors) -> Factors:
        return Factors(
            {i: from_numpy(a, like) for i, a in f.A.items()}, {i: from_numpy(g, like) for i, g in f.G.items()}
        )

    ours = factors.running_average(there(old), there(new), 0.8)
    for name in ("A", "G"):
        for index, block in getattr(ours, name).items():
            assert_close(block, 0.8 * getattr(old, name)[index] + 0.2 * getattr(new, name)[index], like)
    assert set(ours.A) == set(old.A)


def test_first_average_is_the_new_one(rng):
    _, W, X, sampled = make(rng)
    new = factors.estimate(ForwardPass(make(rng)[0], W, X), lambda rows, z: sampled[rows], 7, True)
    assert factors.running_average(None, new, 0.5) is new
    assert factors.running_average(new, new, 0.0) is new


def test_averaging_weight_is_a_plain_mean_at_first():
    """With ε = 1 − 1/k the average of the first 20 is their mean; then it forgets at 0.95."""
    average = 0.0
    for k in range(1, 21):
        epsilon = factors.averaging_weight(k, 0.95)
        average = epsilon * average + (1 - epsilon) * k**2
        assert average == pytest.approx(np.mean(np.arange(1, k + 1) ** 2), rel=1e-12)
    assert [factors.averaging_weight(k, 0.95) for k in (20, 21, 1000)] == [0.95, 0.95, 0.95]
    assert factors.averaging_weight(10, 0.5) == 0.5


def test_affine_activations_on_every_library(like, rng):
    """The activities that enter Ā are the reparameterised ones."""
    phi = Affine(Network([1, 1, 1], "tanh", "gaussian").activations[0], 2 * np.eye(4), np.ones(4), np.eye(4) / 2)
    there = Affine(phi.base, *to(like, phi.Omega, phi.omega, phi.Phi))
    network, W = Network([3, 4, 2], [phi], "gaussian"), [rng.standard_normal((4, 4)), rng.standard_normal((2, 5))]
    X, Y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    parameters, inputs, targets = to(like, W, X, Y)
    forward_pass = ForwardPass(Network([3, 4, 2], [there], "gaussian"), parameters, inputs)
    ours = factors.estimate(forward_pass, lambda rows, z: targets[rows, :], 5, True)
    A, G = dense_factors(network, W, X, Y)
    assert_home(ours.A[1, 1], like)
    assert_close(ours.A[1, 1], A[1, 1], like)
    assert_close(ours.G[1, 2], G[1, 2], like)
    assert to_numpy(ours.A[0, 0])[-1, -1] == pytest.approx(1)
