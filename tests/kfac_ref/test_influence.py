"""Influence functions with EKFAC, against dense matrices and retraining."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass
from kfac_ref import influence
from kfac_ref.curvature import targets as drawn_targets
from kfac_ref.influence import Influence
from tests.conftest import assert_close, is_float32, random_parameters, random_targets, to
from tests.dense import case_derivative, case_mean, dense_empirical, dense_fisher, split
from tests.kfac_ref.curvature.test_shared_weights import NAMES, Dense
from tests.strategies import problems


def dense_scores(found: Influence, blocks, derivatives, queries, damping: float, corrected: bool = True) -> np.ndarray:
    """∇L_qᵀ (F_EKFAC + λI)⁻¹ ∇L_n by layers, (ℓ, Q, N), from dense matrices; the eigenvectors alone are ours."""
    basis, scores = found.curvature.basis, []
    ends = np.cumsum([0, *(p * q for p, q in found.training.network.shapes)])
    for i, (U_A, U_G) in enumerate(zip(basis.U_A, basis.U_G, strict=True), start=1):
        U = np.asarray(U_G) if U_A is None else np.kron(U_A, U_G)
        s = np.diag(U.T @ blocks(i) @ U) if corrected else np.kron(basis.s_A[i - 1], basis.s_G[i - 1])
        M = (U * s) @ U.T + damping * np.eye(len(s))
        part = slice(ends[i - 1], ends[i])
        scores.append(queries[:, part] @ np.linalg.solve(M, derivatives[:, part].T))
    return np.array(scores)


def case_derivatives(p) -> np.ndarray:
    return np.array([case_derivative(p.network, p.W, x, y) for x, y in zip(p.X, p.Y, strict=True)])


def assert_same(found, expected, tol: float = 1e-9) -> None:
    found = to_numpy(found)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tol * np.abs(expected).max())


@settings(max_examples=60)
@given(problems(max_layers=4, max_width=4, max_cases=6), st.sampled_from(influence.DIAGONALS), st.booleans())
def test_scores_against_dense_ekfac(p, diagonal, empirical):
    """Queries and training cases alike, with the exact and with the empirical Fisher, corrected diagonal or not."""
    found = Influence(p.network, p.W, p.X, p.Y, 0.03, "empirical" if empirical else "exact", diagonal)
    F = dense_empirical(p.network, p.W, p.X, p.Y) if empirical else dense_fisher(p.network, p.W, p.X)
    blocks, D = split(F, [a * b for a, b in p.network.shapes]), case_derivatives(p)
    assume(np.abs(D).max(axis=1).min() > 1e-5)  # y = E[y|z] but for rounding leaves no digits to compare
    expected = dense_scores(found, lambda i: blocks[i, i], D, D[:2], 0.03, diagonal == "ekfac")
    assert_same(found.on(p.X[:2], p.Y[:2]), expected)
    all_pairs = dense_scores(found, lambda i: blocks[i, i], D, D, 0.03, diagonal == "ekfac")
    assert_same(found.of_themselves(), np.diagonal(all_pairs, axis1=1, axis2=2))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4), st.integers(2, 9))
def test_linear_regression_against_the_dense_damped_fisher(seed, d, outputs, N):
    """One layer with the Gaussian likelihood, where EKFAC's matrix is F itself: no eigenvectors are shared here."""
    rng = np.random.default_rng(seed)
    network = Network([d, outputs], "identity", "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((N, d)), rng.standard_normal((N, outputs))
    D = np.array([case_derivative(network, W, x, y) for x, y in zip(X, Y, strict=True)])
    F = dense_fisher(network, W, X)
    expected = D @ np.linalg.solve(F + 0.1 * np.eye(len(F)), D.T)
    assert_same(Influence(network, W, X, Y, 0.1).on(X, Y)[0], expected)


@pytest.mark.parametrize("name", NAMES)
def test_shared_weights_and_full_blocks(name, like64):
    """Convolutions, sequences, recurrent layers, residual blocks; normalisations by their full blocks."""
    p = Dense.of(name, "categorical" if name != "sequence" else "gaussian")
    z = p.passed[0].z
    T = int(np.prod(p.network.output[:-1]))
    means = [[case_mean(p.network.likelihood.name, part) for part in row.reshape(T, -1)] for row in z]
    Dz = np.array(means).reshape(len(z), -1) - p.Y
    D = np.einsum("ncp,nc->np", p.jacobians(), Dz)
    found = Influence(p.network, *to(like64, p.W, p.X, p.Y), 0.05, chunk_size=3)
    there = Influence(p.network, p.W, p.X, p.Y, 0.05)
    expected = dense_scores(there, lambda i: p.block(i, i), D, D[:2], 0.05)
    assert_same(there.on(p.X[:2], p.Y[:2]), expected)
    assert_same(found.on(*to(like64, p.X[:2], p.Y[:2])), expected)
    all_pairs = dense_scores(there, lambda i: p.block(i, i), D, D, 0.05)
    assert_same(found.of_themselves(), np.diagonal(all_pairs, axis1=1, axis2=2))


def test_all_libraries_and_chunks(like, rng, monkeypatch):
    network = Network([3, 4, 2, 3], "tanh", "categorical")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), random_targets(rng, "categorical", 9, 3)
    expected = Influence(network, W, X, Y).on(X[:5], Y[:5])
    found = Influence(network, *to(like, W, X, Y))
    assert_close(found.on(*to(like, X[:5], Y[:5])), expected, like, tol=1e-3 if is_float32(like) else 1e-9)
    if isinstance(like, np.ndarray) and like.dtype == np.float64:
        monkeypatch.setattr(influence, "ENTRIES", 60)  # two queries, a few cases at once
        pieces = Influence(network, W, X, Y, chunk_size=4)
        assert_same(pieces.on(X[:5], Y[:5]), expected, 1e-12)


def test_targets_drawn_from_the_model(rng):
    """Those of `targets.drawn`, one for each case; other seeds, other draws."""
    network = Network([3, 4, 3], "tanh", "bernoulli")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), random_targets(rng, "bernoulli", 9, 3)
    forward_pass = ForwardPass(network, W, X)
    ((_, seen),) = forward_pass.chunks()
    sampled = drawn_targets.drawn(forward_pass, 9, (7, influence.SAMPLED_TARGETS))(slice(0, 9), seen.z)
    expected = Influence(network, W, X, sampled, 0.1, "empirical").curvature
    found = Influence(network, W, X, Y, 0.1, "sampled", seed=7, chunk_size=2).curvature
    other = Influence(network, W, X, Y, 0.1, "sampled", seed=8).curvature
    for a, b, c in zip(found.damped, expected.damped, other.damped, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
        assert not np.allclose(a, c)


def test_damping_by_itself_is_a_tenth_of_the_mean(rng):
    network = Network([3, 4, 3], "tanh", "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), rng.standard_normal((9, 3))
    F = split(dense_fisher(network, W, X), [a * b for a, b in network.shapes])
    undamped = Influence(network, W, X, Y, 1e-30).curvature.damped
    for i, (s, found) in enumerate(zip(undamped, Influence(network, W, X, Y).curvature.damped, strict=True), start=1):
        mean = np.trace(F[i, i]) / len(F[i, i])  # the trace is the same in every basis
        np.testing.assert_allclose(found - s, 0.1 * mean, rtol=1e-10)


def test_bad_input(rng):
    network = Network([3, 4, 3], "tanh", "categorical")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((5, 3)), np.eye(3)[[0, 1, 2, 0, 1]]
    with pytest.raises(ValueError, match="damping is 0"):
        Influence(network, W, X, Y, 0.0)
    with pytest.raises(ValueError, match="layer 1: the curvature is 0"):
        Influence(network, [W[0], 0 * W[1]], X, Y)
    Influence(network, [W[0], 0 * W[1]], X, Y, 0.1)
    with pytest.raises(ValueError, match="exact"):
        Influence(network, W, X, Y, fisher="exakt")
    with pytest.raises(ValueError, match="ekfac"):
        Influence(network, W, X, Y, diagonal="ekfak")
    with pytest.raises(ValueError, match="Y has shape"):
        Influence(network, W, X, Y, 0.1).on(X[:1], Y[:1, :2])
