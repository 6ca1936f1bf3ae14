"""𝒟z for the exact, sampled and empirical expectation over y."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network, passes
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass
from kfac_ref.curvature import cotangents
from tests.conftest import assert_home, random_parameters, random_targets, to, tolerance
from tests.dense import case_F_R, case_mean, case_outcomes

NAMES = ["bernoulli", "categorical", "gaussian"]


def make(rng, name, like, chunk_size=100, cases=7):
    network = Network([3, 4, 3], "tanh", name)
    W, X = random_parameters(rng, network), rng.standard_normal((cases, 3))
    return ForwardPass(network, *to(like, W, X), chunk_size), random_targets(rng, name, cases, 3)


def gathered(forward_pass, Dz) -> tuple[np.ndarray, np.ndarray]:
    """z (N, d) and 𝒟z (r, N, d) of all cases and pieces, on the host."""
    z, parts = [], []
    for rows, activities in forward_pass.chunks():
        z.append(to_numpy(activities.z))
        pieces = list(Dz(rows, activities.z))
        for piece in pieces:
            assert_home(piece, forward_pass.X)
        parts.append(np.concatenate([to_numpy(piece) for piece in pieces]))
    return np.concatenate(z), np.concatenate(parts, axis=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("entries", [2**23, 60, 1])
def test_exact_has_the_moments_of_the_models_distribution(monkeypatch, like, rng, name, entries):
    """Σ_r 𝒟z 𝒟zᵀ = F_R, in one piece or in as many as there are columns."""
    monkeypatch.setattr(passes, "ENTRIES", entries)
    forward_pass, _ = make(rng, name, like, chunk_size=4)
    z, Dz = gathered(forward_pass, cotangents.exact(forward_pass))
    expected = np.array([case_F_R(name, row.astype(float)) for row in z])
    np.testing.assert_allclose(np.einsum("rmc,rmd->mcd", Dz, Dz), expected, rtol=0, atol=tolerance(like))
    assert Dz.shape == (3, 7, 3)


def test_pieces_hold_as_many_as_go_together(monkeypatch, rng):
    forward_pass, Y = make(rng, "gaussian", np.zeros(0))
    monkeypatch.setattr(passes, "ENTRIES", 2 * 7 * 4)
    ((rows, activities),) = forward_pass.chunks()
    assert [len(piece) for piece in cotangents.exact(forward_pass)(rows, activities.z)] == [2, 1]
    assert [len(piece) for piece in cotangents.sampled(forward_pass, 5, (1,))(rows, activities.z)] == [2, 2, 1]
    assert [len(piece) for piece in cotangents.empirical(forward_pass, Y)(rows, activities.z)] == [1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk_size", [100, 3])
def test_empirical_is_the_derivative_with_the_datas_targets(like, rng, name, chunk_size):
    forward_pass, Y = make(rng, name, like, chunk_size)
    z, Dz = gathered(forward_pass, cotangents.empirical(forward_pass, to(like, Y)))
    expected = [case_mean(name, row.astype(float)) - y for row, y in zip(z, Y, strict=True)]
    np.testing.assert_allclose(Dz[0], expected, rtol=0, atol=tolerance(like))


def test_empirical_takes_targets_of_the_batch_alone(like, rng):
    forward_pass, Y = make(rng, "gaussian", like)
    with pytest.raises(ValueError, match="X has 7 cases and Y has 6"):
        cotangents.empirical(forward_pass, to(like, Y[:6]))
    with pytest.raises(ValueError, match=r"Y has shape \(7, 2\), expected \(cases, 3\): the network has 3 outputs"):
        cotangents.empirical(forward_pass, to(like, Y[:, :2]))
    with pytest.raises(TypeError, match="Y is a list"):
        cotangents.empirical(forward_pass, Y.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_sampled_targets_follow_the_models_distribution(rng, name):
    """Mean and covariance of 𝒟z to 5 standard errors, and for a discrete y only values that 𝒟z can have."""
    forward_pass, samples = make(rng, name, np.zeros(0), cases=2)[0], 20_000
    z, Dz = gathered(forward_pass, cotangents.sampled(forward_pass, samples, (3, 1)))
    assert Dz.shape == (samples, 2, 3)
    for m, row in enumerate(z):
        F_R = case_F_R(name, row)
        assert np.abs(Dz[:, m].mean(0)).max() < 5 * np.sqrt(np.diag(F_R).max() / samples)
        squares = np.einsum("rc,rd->rcd", Dz[:, m], Dz[:, m])
        assert np.all(np.abs(squares.mean(0) - F_R) <= 5 * squares.std(0) / np.sqrt(samples) + 1e-12)
        if name != "gaussian":
            possible = np.array([case_mean(name, row) - y for _, y in case_outcomes(name, row)])
            assert np.abs(Dz[:100, m, None] - possible).max(2).min(1).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_sampled_targets_do_not_depend_on_chunks_or_pieces(monkeypatch, like, rng, name):
    whole, _ = make(rng, name, like)
    expected = gathered(whole, cotangents.sampled(whole, 6, (3, 1)))[1]
    for chunk_size, entries in ((100, 1), (3, 2**23), (2, 50), (1, 1)):
        monkeypatch.setattr(passes, "ENTRIES", entries)
        monkeypatch.setattr(cotangents, "ENTRIES", entries)
        parts = ForwardPass(whole.network, whole.parameters, whole.X, chunk_size)
        Dz = gathered(parts, cotangents.sampled(parts, 6, (3, 1)))[1]
        np.testing.assert_allclose(Dz, expected, rtol=0, atol=tolerance(like))
    assert np.abs(gathered(whole, cotangents.sampled(whole, 6, (3, 2)))[1] - expected).max() > 0.1
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def test_there_is_at_least_one_sample(rng):
    with pytest.raises(ValueError, match="samples must be at least 1; got 0"):
        cotangents.sampled(make(rng, "gaussian", np.zeros(0))[0], 0, (1,))
