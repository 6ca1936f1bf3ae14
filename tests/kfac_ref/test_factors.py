"""The Kronecker factors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import Affine, Network
from autodiff.arrays import from_numpy, to_numpy
from autodiff.passes import ForwardPass
from kfac_ref import factors
from kfac_ref.factors import Factors
from tests.conftest import assert_close, assert_home, random_parameters, sampled_targets, to
from tests.dense import case_F_R, case_forward, case_mean, dense_factors, dense_fisher, split
from tests.strategies import problems


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


def exact_factors(network: Network, W, X, chunk_size: int = 5000) -> Factors:
    """Factors whose expectation over y is exact: each case is repeated with the d targets E[y|z] − √d b_c, b_c the
    columns of the symmetric square root of F_R, so that the mean of 𝒟z 𝒟zᵀ is F_R."""
    name, d = network.likelihood.name, network.sizes[-1]
    repeated, targets = np.repeat(X, d, axis=0), []
    for x in X:
        z = case_forward(network, W, x)[2]
        values, vectors = np.linalg.eigh(case_F_R(name, z))
        root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
        targets += [case_mean(name, z) - np.sqrt(d) * column for column in root.T]
    targets = np.array(targets)
    forward_pass = ForwardPass(network, W, repeated, chunk_size)
    return factors.estimate(forward_pass, lambda rows, z: targets[rows], len(repeated), tridiagonal=True)


def blocks_of_the_fisher(network: Network, W, X):
    return split(dense_fisher(network, W, X), [p * q for p, q in network.shapes])


def assert_blocks_exact(network: Network, W, X, pairs):
    ours, F = exact_factors(network, W, X), blocks_of_the_fisher(network, W, X)
    for i, j in pairs:
        made = np.kron(ours.A[i - 1, j - 1], ours.G[i, j])
        np.testing.assert_allclose(made, F[i, j], rtol=0, atol=1e-12 * max(1, np.abs(F[i, j]).max()))


@settings(max_examples=60)
@given(problems(max_layers=4, max_width=4, max_cases=1))
def test_exact_for_one_case(p):
    """ā is constant under the expectation, so that even the blocks off the diagonal are exact; any likelihood."""
    pairs = [(i, j) for i in range(1, p.network.layers + 1) for j in (i, i + 1) if j <= p.network.layers]
    assert_blocks_exact(p.network, p.W, p.X, pairs)


def test_exact_for_deep_linear_networks_under_the_gaussian_likelihood(rng):
    """g_i does not depend on x."""
    network = Network([3, 4, 3, 2], "identity", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((9, 3))
    assert_blocks_exact(network, W, X, [(1, 1), (2, 2), (3, 3), (1, 2), (2, 3)])


def test_exact_for_one_linear_layer(rng):
    network = Network([4, 3], [], "gaussian")
    assert_blocks_exact(network, random_parameters(rng, network), rng.standard_normal((9, 4)), [(1, 1)])


def test_not_exact_otherwise(rng):
    """So the tests above could fail: with 9 cases and tanh the approximation is one."""
    network = Network([3, 4, 2], "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((9, 3))
    ours, F = exact_factors(network, W, X), blocks_of_the_fisher(network, W, X)
    assert np.abs(np.kron(ours.A[0, 0], ours.G[1, 1]) - F[1, 1]).max() > 1e-3


def test_sampled_factors_estimate_the_exact_ones(rng):
    """G by Monte Carlo agrees with the exact G to 5 standard errors."""
    network, W, _, _ = make(rng, "categorical")
    x, n = rng.standard_normal(3), 20_000
    exact = exact_factors(network, W, x[None, :])
    forward_pass = ForwardPass(network, W, np.tile(x, (n, 1)))
    ours = factors.estimate(forward_pass, lambda rows, z: network.likelihood.sample(z, (5, 2, 1)), n, True)
    for index, block in ours.G.items():
        # the sampled g g^T take as many values as there are classes, all of the order of their mean
        assert np.abs(block - exact.G[index]).max() < 5 * np.abs(exact.G[index]).max() / np.sqrt(n) * 2


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
