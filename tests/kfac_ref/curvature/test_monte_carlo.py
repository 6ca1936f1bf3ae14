"""The Monte-Carlo estimate of the Fisher and its standard error."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network, passes
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass, backward, forward
from kfac_ref.curvature import cotangents, fisher
from tests.conftest import assert_close, assert_home, is_float32, random_parameters, to
from tests.dense import case_derivative, case_forward, case_outcomes, dense_fisher, flatten

NAMES = ["bernoulli", "categorical", "gaussian"]


def make(rng, name, cases=6):
    network = Network([2, 3, 3], ["tanh"], name)
    return network, random_parameters(rng, network), rng.standard_normal((cases, 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [100, 1000])
def test_is_within_4_standard_errors(rng, name, samples):
    network, W, X = make(rng, name)
    estimate, exact = fisher.monte_carlo(ForwardPass(network, W, X), samples, (samples,)), dense_fisher(network, W, X)
    assert np.all(np.abs(estimate.value - exact) <= 4 * estimate.standard_error)


@pytest.mark.parametrize("name", NAMES)
def test_error_falls_as_one_over_the_root_of_samples_and_is_as_stated(rng, name):
    """Over 40 estimates each: 16 times the samples, a quarter of the error; and the errors are those stated."""
    network, W, X = make(rng, name)
    exact, errors = dense_fisher(network, W, X), {}
    for samples in (25, 400):
        estimates = [fisher.monte_carlo(ForwardPass(network, W, X), samples, (samples, k)) for k in range(40)]
        off = np.array([e.value - exact for e in estimates])
        errors[samples] = np.sqrt(np.mean(off**2))
        stated = np.sqrt(np.mean([e.standard_error**2 for e in estimates]))
        assert errors[samples] == pytest.approx(stated, rel=0.15)
    assert errors[25] / errors[400] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_standard_error_against_that_of_the_distribution(rng, name):
    """Var of the entries of 𝒟θ 𝒟θᵀ over all targets of each case, x being given: over N² samples it is the variance."""
    network, W, X = make(rng, name)
    variance, samples = 0.0, 20_000
    for x in X:
        p, y = zip(*case_outcomes(name, case_forward(network, W, x)[2]), strict=True)
        squares = np.array([np.outer(D, D) for D in (case_derivative(network, W, x, t) for t in y)])
        mean = np.einsum("r,rpq->pq", p, squares)
        variance = variance + np.einsum("r,rpq->pq", p, (squares - mean) ** 2) / len(X) ** 2 / samples
    estimate = fisher.monte_carlo(ForwardPass(network, W, X), samples, (4,))
    np.testing.assert_allclose(
        estimate.standard_error, np.sqrt(variance), rtol=0.05, atol=1e-3 * np.sqrt(variance.max())
    )


@pytest.mark.parametrize("name", NAMES)
def test_against_a_loop_over_the_draws(like, rng, name):
    """The mean and the sample variance of 𝒟θ 𝒟θᵀ, and of 𝒟θ (𝒟θᵀV), draw by draw and case by case."""
    network, W, X = make(rng, name)
    forward_pass, samples, key = ForwardPass(network, *to(like, W, X), 4), 5, (8, 1)
    V = rng.standard_normal((sum(p * q for p, q in network.shapes), 2))
    Dz = np.concatenate(
        [
            np.concatenate([to_numpy(piece) for piece in cotangents.sampled(forward_pass, samples, key)(rows, acts.z)])
            for rows, acts in forward_pass.chunks()
        ],
        axis=1,
    ).astype(float)
    D = np.array([[derivative(network, W, x, dz) for x, dz in zip(X, row, strict=True)] for row in Dz])
    for vectors, q in (
        (None, np.einsum("rnp,rnq->rnpq", D, D)),
        (to(like, V), np.einsum("rnp,rnk->rnpk", D, D @ V)),
    ):
        estimate = fisher.monte_carlo(forward_pass, samples, key, vectors)
        assert_close(estimate.value, q.mean((0, 1)), like)
        error = np.sqrt(q.var(0, ddof=1).sum(0) / samples) / len(X)
        # a variance is a difference of squares: half of the digits
        assert_close(estimate.standard_error, error, like, tol=1e-2 if is_float32(like) else 1e-6)


def derivative(network, W, x, dz) -> np.ndarray:
    """Jᵀ𝒟z of one case."""
    activities = forward(network, W, x[None, :])
    return flatten([g.T @ a for g, a in zip(backward(network, W, activities, dz[None, :]), activities.a, strict=True)])


@pytest.mark.parametrize("entries", [1000, 200, 1])
def test_chunks_and_memory_change_nothing(monkeypatch, like64, rng, entries):
    network, W, X = make(rng, "categorical")
    whole = fisher.monte_carlo(ForwardPass(network, *to(like64, W, X)), 7, (2,))
    assert_home(whole.value, like64)
    for module in (passes, fisher, cotangents):
        monkeypatch.setattr(module, "ENTRIES", entries)
    parts = fisher.monte_carlo(ForwardPass(network, *to(like64, W, X), 4), 7, (2,))
    assert_close(parts.value, to_numpy(whole.value), like64)
    assert_close(parts.standard_error, to_numpy(whole.standard_error), like64, 1e-8)


def test_two_samples_at_least(rng):
    network, W, X = make(rng, "gaussian")
    with pytest.raises(ValueError, match="samples must be at least 2, or there is no standard error; got 1"):
        fisher.monte_carlo(ForwardPass(network, W, X), 1, (1,))
