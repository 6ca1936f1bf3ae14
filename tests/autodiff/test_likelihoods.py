"""The table of likelihoods."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from autodiff import LIKELIHOODS, arrays
from autodiff.arrays import to_numpy
from autodiff.likelihoods import at_positions, likelihood
from tests.conftest import assert_close, assert_home, is_float32, random_targets, to, tolerance
from tests.dense import case_F_R, case_loss, case_mean

NAMES = sorted(LIKELIHOODS)
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=NAMES)
def R(request):
    return LIKELIHOODS[request.param]


def probabilities_as_targets(rng, name, m, d):
    """Targets that are not one-hot, where the likelihood takes them."""
    Y = random_targets(rng, name, m, d)
    return rng.dirichlet(np.ones(d), m) if name == "categorical" else Y


@pytest.mark.parametrize("d", [1, 4])
def test_values_against_one_case_at_a_time(like, rng, R, d):
    z, Y, v = rng.standard_normal((6, d)), probabilities_as_targets(rng, R.name, 6, d), rng.standard_normal((3, 6, d))
    there, y = to(like, z), to(like, Y)
    losses = np.array([case_loss(R.name, *pair) for pair in zip(z, Y, strict=True)])
    means = np.array([case_mean(R.name, row) for row in z])
    F = np.array([case_F_R(R.name, row) for row in z])
    assert_close(R.loss(there, y), losses, like)
    assert_close(R.nll(there, y), losses + R.constant(d), like)
    assert_close(R.mean(there), means, like)
    assert_close(R.derivative(there, y), means - Y, like)
    assert_close(R.fisher_product(there, to(like, v)), np.einsum("mij,rmj->rmi", F, v), like)


def test_derivative_by_differences(rng, R):
    z, Y, step = 2 * rng.standard_normal((5, 4)), probabilities_as_targets(rng, R.name, 5, 4), 1e-6
    columns = [(R.nll(z + step * e, Y) - R.nll(z - step * e, Y)) / (2 * step) for e in np.eye(4)]
    np.testing.assert_allclose(R.derivative(z, Y), np.stack(columns, axis=1), atol=1e-8)


def test_fisher_is_the_hessian(rng, R):
    """For natural parameters F_R is the Hessian of the loss in z, whatever y."""
    z, v, step = 2 * rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), 1e-6
    Y = random_targets(rng, R.name, 5, 4)
    difference = (R.derivative(z + step * v, Y) - R.derivative(z - step * v, Y)) / (2 * step)
    np.testing.assert_allclose(R.fisher_product(z, v), difference, atol=1e-8)


@pytest.mark.parametrize("d", [1, 4])
def test_root_of_the_fisher(like, rng, R, d):
    """B Bᵀ = F_R, B built column by column."""
    z = 2 * rng.standard_normal((5, d))
    basis = np.repeat(np.eye(d)[:, None, :], 5, axis=1)  # the r-th direction is e_r in every case
    columns = R.fisher_root_product(to(like, z), to(like, basis))
    assert_home(columns, like)
    B = np.moveaxis(to_numpy(columns), 0, -1)  # (m, d, d)
    F = np.array([case_F_R(R.name, row) for row in z])
    np.testing.assert_allclose(B @ np.swapaxes(B, 1, 2), F, rtol=0, atol=tolerance(like))


@pytest.mark.parametrize("name", ["categorical", "bernoulli"])
def test_fisher_is_the_expectation_over_all_outcomes(rng, name):
    """F_R = Σ_y r(y|z) 𝒟z 𝒟zᵀ over the d classes or the 2^d outcomes; their probabilities, e^−nll, sum to 1."""
    R, d = LIKELIHOODS[name], 4
    z = 1.5 * rng.standard_normal((3, d))
    outcomes = np.eye(d) if name == "categorical" else np.array(list(itertools.product([0.0, 1.0], repeat=d)))
    total, F = np.zeros(3), np.zeros((3, d, d))
    for y in outcomes:
        Y = np.tile(y, (3, 1))
        probability, D = np.exp(-R.nll(z, Y)), R.derivative(z, Y)
        total += probability
        F += probability[:, None, None] * D[:, :, None] * D[:, None, :]
    np.testing.assert_allclose(total, 1, rtol=1e-13)
    for v in np.eye(d):
        np.testing.assert_allclose(R.fisher_product(z, np.tile(v, (3, 1))), F @ v, atol=1e-14)


def test_gaussian_density(like, rng):
    z, Y = rng.standard_normal((2, 5, 3))
    expected = -scipy.stats.norm.logpdf(Y, loc=z).sum(axis=1)
    assert_close(LIKELIHOODS["gaussian"].nll(*to(like, z, Y)), expected, like)


def test_samples_have_the_models_moments(like, R):
    """Mean E[y|z] and covariance F_R, each within 5 standard errors."""
    n, z = 20_000, np.array([0.5, -1.0, 1.5])
    y = R.sample(to(like, np.tile(z, (n, 1))), (3, 2, 1))
    assert_home(y, like)
    y = to_numpy(y).astype(np.float64)
    if R.name == "categorical":
        assert np.all(y.sum(axis=1) == 1)
    if R.name != "gaussian":
        assert set(np.unique(y)) == {0.0, 1.0}
    centred = y - case_mean(R.name, z)
    products = centred[:, :, None] * centred[:, None, :]
    assert np.all(np.abs(centred.mean(axis=0)) < 5 * centred.std(axis=0) / np.sqrt(n))
    assert np.all(np.abs(products.mean(axis=0) - case_F_R(R.name, z)) < 5 * products.std(axis=0) / np.sqrt(n))


def test_samples_are_a_function_of_the_key(like, R):
    z = to(like, np.zeros((30, 4)))
    one, again, other = (to_numpy(R.sample(z, key)) for key in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)


@pytest.mark.parametrize("u", [0.0, "largest"])
def test_samples_of_uniform_numbers_at_the_ends(like, monkeypatch, u):
    """A class or an outcome of probability 0 is never drawn, and some class always is."""
    largest = np.nextafter(np.float32(1), np.float32(0)) if is_float32(like) else np.nextafter(1.0, 0.0)
    value = float(largest) if u == "largest" else u
    monkeypatch.setattr(arrays, "uniform", lambda key, shape, like: to(like, np.full(shape, value)))
    z = np.array([[-1e4, 0.0, 0.0, -1e4], [1e4, 0.0, 0.0, 0.0], [-1e4, -1e4, 1e4, -1e4], [0.1, 0.2, 0.3, -1e4]])
    y = to_numpy(LIKELIHOODS["categorical"].sample(to(like, z), (0,)))
    assert np.all(y.sum(axis=1) == 1)
    assert np.all(y[z == -1e4] == 0)
    y = to_numpy(LIKELIHOODS["bernoulli"].sample(to(like, z), (0,)))
    assert np.all(y[z == -1e4] == 0)
    assert np.all(y[z == 1e4] == 1)


# --- at large z ----------------------------------------------------------------------------------------------------

MAGNITUDES = [88.0, 104.0, 710.0, 1e4, 1e30]


@pytest.mark.parametrize("size", MAGNITUDES)
def test_bernoulli_at_large_z(like, size):
    """Losses are 0 on the right side and |z| on the wrong one; the derivative is 0 or ±1; the variance is 0."""
    R = LIKELIHOODS["bernoulli"]
    z, Y = to(like, np.array([[size], [-size], [size], [-size]])), to(like, np.array([[1.0], [0.0], [0.0], [1.0]]))
    with np.errstate(all="raise", under="ignore"):
        assert_close(R.nll(z, Y), np.array([0, 0, size, size]), like)
        assert_close(R.derivative(z, Y), np.array([[0.0], [0.0], [1.0], [-1.0]]), like)
        for function in (R.fisher_product, R.fisher_root_product):
            assert_close(function(z, to(like, np.ones((4, 1)))), np.zeros((4, 1)), like)


@pytest.mark.parametrize("size", MAGNITUDES)
def test_categorical_at_large_z(like, size):
    R = LIKELIHOODS["categorical"]
    z = to(like, size * np.array([[1.0, 0, -1], [1, 0, -1], [1, 1, -1], [1, 1, 1], [-1, -1, -1]]))
    first, last = [1.0, 0, 0], [0.0, 0, 1]
    Y = to(like, np.array([first, last, first, first, last]))
    third = 1 / 3
    p = np.array([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [third, third, third], [third, third, third]])
    v = np.array([1.0, -2.0, 3.0])
    F = np.array([np.diag(row) - np.outer(row, row) for row in p])
    with np.errstate(all="raise", under="ignore"):
        losses = R.nll(z, Y)
        assert_close(R.derivative(z, Y), p - to_numpy(Y), like)
        assert_close(R.fisher_product(z, to(like, np.tile(v, (5, 1)))), F @ v, like)
        roots = R.fisher_root_product(z, to(like, np.tile(v, (5, 1))))
    np.testing.assert_allclose(to_numpy(losses), [0, 2 * size, np.log(2), np.log(3), np.log(3)], rtol=1e-6, atol=1e-6)
    assert_close(roots, np.einsum("mi,i->mi", np.sqrt(p), v) - p * (np.sqrt(p) @ v)[:, None], like)


@pytest.mark.parametrize("size", MAGNITUDES)
def test_gaussian_at_large_z(like, size):
    if size > 1e18 and is_float32(like):
        pytest.skip("½‖y − z‖² itself is beyond float32")
    R = LIKELIHOODS["gaussian"]
    z, Y = to(like, np.array([[size, -size]])), to(like, np.zeros((1, 2)))
    with np.errstate(all="raise", under="ignore"):
        assert_close(R.loss(z, Y), np.array([size**2]), like)
        assert_close(R.derivative(z, Y), np.array([[size, -size]]), like)
        assert_close(R.fisher_product(z, to(like, np.ones((1, 2)))), np.ones((1, 2)), like)


def test_bernoulli_variance_keeps_its_digits():
    """σ(z)σ(−z) = e^−z to relative precision at z = 40, where 1 − σ(z) is 0 in float64."""
    v = LIKELIHOODS["bernoulli"].fisher_product(np.array([[40.0, -40.0, 700.0]]), np.ones((1, 3)))
    np.testing.assert_allclose(v, np.exp([[-40.0, -40.0, -700.0]]), rtol=1e-12)


# --- names and targets ---------------------------------------------------------------------------------------------


def test_names():
    assert likelihood("gaussian") is LIKELIHOODS["gaussian"]
    assert likelihood(LIKELIHOODS["gaussian"]) is LIKELIHOODS["gaussian"]
    with pytest.raises(ValueError, match='unknown likelihood "bernouli"; did you mean "bernoulli"'):
        likelihood("bernouli")


def test_targets_in_range(rng, R):
    R.check_targets(random_targets(rng, R.name, 5, 3))
    R.check_targets(probabilities_as_targets(rng, R.name, 5, 3).astype(np.float32))


def test_targets_out_of_range():
    bad = np.array([[0.0, 1.0], [1.5, -0.5]])
    for name in ("bernoulli", "categorical"):
        with pytest.raises(ValueError, match=rf"targets\[1, 0\] = 1.5, but the {name} likelihood takes .* 0 and 1"):
            LIKELIHOODS[name].check_targets(bad, "targets")
    LIKELIHOODS["gaussian"].check_targets(bad)
    with pytest.raises(ValueError, match=r"row 1 of Y sums to 1\.5"):
        LIKELIHOODS["categorical"].check_targets(np.array([[1.0, 0.0], [0.5, 1.0]]))


def test_targets_that_are_not_numbers(R):
    with pytest.raises(ValueError, match=r"Y\[0, 1\]"):
        R.check_targets(np.array([[0.5, np.nan]]))


# --- several positions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 4])
def test_positions_are_independent(like, rng, R, d):
    """Values of 3 positions are those of the positions alone; L is their sum."""
    T, m = 3, 5
    z, v = rng.standard_normal((m, T, d)), rng.standard_normal((2, m, T, d))
    Y = probabilities_as_targets(rng, R.name, m * T, d).reshape(m, T, d)
    several, there, y = at_positions(R, T), to(like, z.reshape(m, -1)), to(like, Y.reshape(m, -1))

    def alone(function, *operands):
        return np.stack([function(*(x[..., t, :] for x in operands)) for t in range(T)], axis=-2)

    assert_close(several.loss(there, y), alone(lambda z, y: R.loss(z, y)[:, None], z, Y).sum((-1, -2)), like)
    for name, operands in (
        ("mean", (z,)),
        ("derivative", (z, Y)),
        ("fisher_product", (z, v)),
        ("fisher_root_product", (z, v)),
    ):
        found = getattr(several, name)(*(to(like, x.reshape(*x.shape[:-2], -1)) for x in operands))
        expected = alone(getattr(R, name), *operands)
        assert_close(found, expected.reshape(*expected.shape[:-2], -1), like)
    assert several.constant(T * d) == pytest.approx(T * R.constant(d))
    assert at_positions(R, 1) is R


def test_samples_of_positions_follow_the_distribution(rng, R):
    T, d, m = 2, 3, 40_000
    z = np.broadcast_to(rng.standard_normal(T * d), (m, T * d)).copy()
    several = at_positions(R, T)
    y = several.sample(z, (1, 2))
    assert y.shape == z.shape
    np.testing.assert_allclose(y.mean(0), several.mean(z)[0], atol=5 / np.sqrt(m))
    # positions do not depend on each other
    first, second = y[:, :d] - y[:, :d].mean(0), y[:, d:] - y[:, d:].mean(0)
    assert np.abs(first.T @ second / m).max() < 5 / np.sqrt(m)


def test_targets_of_positions_are_checked():
    R = at_positions(LIKELIHOODS["categorical"], 2)
    good = np.array([[1.0, 0, 0, 1]])
    R.check_targets(good)
    assert float(R.excess(good)) <= 1e-12 and R.mistakes(np.array([[2.0, 1, 2, 1]]), good) == 0.5
    bad = np.array([[1.0, 0, 0, 1], [1, 0, 0.5, 0]])
    assert float(R.excess(bad)) == 0.5
    with pytest.raises(ValueError, match=r"row 1 of Y, position 1, sums to 0\.5"):
        R.check_targets(bad)
