"""EKFAC's diagonal and the exact damped inverse of a Kronecker product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass
from kfac_ref.curvature import ekfac, factors
from tests.conftest import assert_all_close, assert_close, random_parameters, random_targets, to, tolerance
from tests.dense import (
    case_derivative,
    case_forward,
    case_outcomes,
    dense_empirical,
    dense_exact_G,
    dense_factors,
    dense_fisher,
    flatten,
    split,
    unflatten,
)
from tests.strategies import problems

NAMES = ["bernoulli", "categorical", "gaussian"]


def make(rng, name, like, chunk_size=100):
    network = Network([3, 4, 2, 3], "tanh", name)
    W, X, Y = random_parameters(rng, network), rng.standard_normal((9, 3)), random_targets(rng, name, 9, 3)
    return network, W, X, Y, ForwardPass(network, *to(like, W, X), chunk_size)


def dense_U(basis: ekfac.Eigenbasis) -> list[np.ndarray]:
    """U_A⊗U_G of each layer, on the host, in float64."""
    U_A, U_G = ([to_numpy(U).astype(float) for U in side] for side in (basis.U_A, basis.U_G))
    return [np.kron(A, G) for A, G in zip(U_A, U_G, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_eigenbasis(like, rng, name):
    """It diagonalises Ā⊗G, with the eigenvalues as a matrix of W's shape."""
    network, W, X, Y, forward_pass = make(rng, name, like)
    A, G = dense_factors(network, W, X, Y)[0], dense_exact_G(network, W, X)
    basis = ekfac.eigenbasis(factors.exact(forward_pass))
    diagonals = basis.kronecker_diagonal()
    assert [tuple(s.shape) for s in diagonals] == network.shapes
    for i, (U, s) in enumerate(zip(dense_U(basis), diagonals, strict=True), start=1):
        expected = U.T @ np.kron(A[i - 1, i - 1], G[i, i]) @ U
        assert_close(s, unvec(np.diag(expected), s.shape), like)
        off_diagonal = expected - np.diag(np.diag(expected))
        np.testing.assert_allclose(off_diagonal, 0, atol=tolerance(like))


def unvec(x, shape) -> np.ndarray:
    return np.reshape(x, tuple(shape), order="F")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk_size", [100, 4])
def test_diagonal_is_that_of_the_fisher_in_the_eigenbasis(like, rng, name, chunk_size):
    """s_i = diag(Uᵀ F_{i,i} U), with the exact and with the empirical Fisher's dense block."""
    network, W, X, Y, forward_pass = make(rng, name, like, chunk_size)
    basis, widths = ekfac.eigenbasis(factors.exact(forward_pass)), [p * q for p, q in network.shapes]
    for dense, ours in (
        (dense_fisher(network, W, X), ekfac.diagonal(forward_pass, basis)),
        (dense_empirical(network, W, X, Y), ekfac.diagonal(forward_pass, basis, to(like, Y))),
    ):
        blocks = split(dense, widths)
        expected = [np.diag(U.T @ blocks[i, i] @ U) for i, U in enumerate(dense_U(basis), start=1)]
        assert_all_close(ours, [unvec(s, shape) for s, shape in zip(expected, network.shapes, strict=True)], like)


@settings(max_examples=40)
@given(problems(max_layers=3, max_width=3, max_cases=3))
def test_diagonal_is_a_second_moment_of_derivatives(p):
    """E[(U_Gᵀ 𝒟W_i U_A)²] over the cases and all their targets."""
    forward_pass, name = ForwardPass(p.network, p.W, p.X, 2), p.network.likelihood.name
    basis = ekfac.eigenbasis(factors.exact(forward_pass))
    expected = [0.0] * p.network.layers
    for x in p.X:
        for probability, y in case_outcomes(name, case_forward(p.network, p.W, x)[2]):
            D = unflatten(case_derivative(p.network, p.W, x, y), p.network)
            for i, DW in enumerate(D):
                rotated = basis.U_G[i].T @ DW @ basis.U_A[i]
                expected[i] = expected[i] + probability * rotated**2 / len(p.X)
    for s, e in zip(ekfac.diagonal(forward_pass, basis), expected, strict=True):
        np.testing.assert_allclose(s, e, rtol=0, atol=1e-9 * e.max())


@pytest.mark.parametrize("lam", [0.05, 2.0])
@pytest.mark.parametrize("name", NAMES)
def test_products_and_solves_against_dense_algebra(like, rng, name, lam):
    network, W, X, Y, forward_pass = make(rng, name, like)
    A, G = dense_factors(network, W, X, Y)[0], dense_exact_G(network, W, X)
    basis = ekfac.eigenbasis(factors.exact(forward_pass))
    V = [rng.standard_normal(shape) for shape in network.shapes]
    kronecker = [np.kron(A[i - 1, i - 1], G[i, i]) for i in range(1, 4)]
    diagonal = ekfac.diagonal(forward_pass, basis)
    vectors = [np.asarray(to_numpy(s), dtype=float).flatten(order="F") for s in diagonal]
    rotated = [(U * s) @ U.T for U, s in zip(dense_U(basis), vectors, strict=True)]
    for s, matrices in ((basis.kronecker_diagonal(), kronecker), (diagonal, rotated)):
        solved = [np.linalg.inv(M + lam * np.eye(len(M))) @ flatten([v]) for M, v in zip(matrices, V, strict=True)]
        products = [(M + lam * np.eye(len(M))) @ flatten([v]) for M, v in zip(matrices, V, strict=True)]
        undamped = [M @ flatten([v]) for M, v in zip(matrices, V, strict=True)]
        there = to(like, V)
        for ours, expected in (
            (ekfac.solve(basis, s, there, lam), solved),
            (ekfac.product(basis, s, there, lam), products),
            (ekfac.product(basis, s, there), undamped),
        ):
            shaped = [unvec(e, shape) for e, shape in zip(expected, network.shapes, strict=True)]
            assert_all_close(ours, shaped, like)


@settings(max_examples=100)
@given(problems(max_layers=4, max_width=4))
def test_the_exact_damped_inverse_of_any_problem(p):
    """(Ā⊗G + λI)⁻¹, whatever the ranks of the factors, 1e-9 relative."""
    basis, V = ekfac.eigenbasis(factors.exact(ForwardPass(p.network, p.W, p.X))), p.direction()
    A, G = dense_factors(p.network, p.W, p.X, p.Y)[0], dense_exact_G(p.network, p.W, p.X)
    U = ekfac.solve(basis, basis.kronecker_diagonal(), V, 0.01)
    for i, (u, v) in enumerate(zip(U, V, strict=True), start=1):
        M = np.kron(A[i - 1, i - 1], G[i, i])
        expected = unvec(np.linalg.inv(M + 0.01 * np.eye(len(M))) @ flatten([v]), v.shape)
        np.testing.assert_allclose(u, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@settings(max_examples=60)
@given(problems(max_layers=4, max_width=4))
def test_no_diagonal_in_this_basis_is_nearer_to_the_block(p):
    """EKFAC is at least as near to F_{i,i} in Frobenius norm as K-FAC; where K-FAC is exact (N = 1) they agree."""
    forward_pass = ForwardPass(p.network, p.W, p.X)
    basis = ekfac.eigenbasis(factors.exact(forward_pass))
    F = split(dense_fisher(p.network, p.W, p.X), [a * b for a, b in p.network.shapes])
    diagonals = zip(ekfac.diagonal(forward_pass, basis), basis.kronecker_diagonal(), dense_U(basis), strict=True)
    for i, (ekfac_s, kfac_s, U) in enumerate(diagonals, start=1):
        off = [np.linalg.norm(F[i, i] - (U * s.flatten(order="F")) @ U.T) for s in (ekfac_s, kfac_s)]
        size = np.linalg.norm(F[i, i])
        assert off[0] <= off[1] + 1e-12 * size
        if len(p.X) == 1:
            assert off[0] <= 1e-12 * size and off[1] <= 1e-12 * size
