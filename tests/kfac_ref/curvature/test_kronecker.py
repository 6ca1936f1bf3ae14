"""Kronecker-product algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodiff.arrays import to_numpy
from kfac_ref.curvature import kronecker
from tests.conftest import assert_all_close, assert_close, positive_definite, to


def test_vec_stacks_columns(like):
    X = np.array([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]])
    x = kronecker.vec(to(like, X))
    assert_close(x, np.arange(1.0, 7.0), like)
    assert_close(kronecker.unvec(x, (2, 3)), X, like)


def test_flatten_stacks_the_layers(like):
    V = [np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([[5.0, 6.0, 7.0]])]
    theta = kronecker.flatten(to(like, V))
    assert_close(theta, np.arange(1.0, 8.0), like)
    assert_all_close(kronecker.unflatten(theta, [(2, 2), (1, 3)]), V, like)
    with pytest.raises(ValueError, match=r"a vector in the order of θ has shape \(6,\) here; got \(7,\)"):
        kronecker.unflatten(theta, [(2, 2), (1, 2)])


def test_dense(like, rng):
    A, B = rng.standard_normal((2, 3)), rng.standard_normal((4, 1))
    assert_close(kronecker.dense(*to(like, A, B)), np.kron(A, B), like)


def test_as_block_puts_moments_where_the_product_has_them(like, rng):
    """With a sum of products A_{a,b} B_{g,h} the block is the sum of the Kronecker products."""
    A, B = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 4, 2))
    expected = sum(np.kron(a, b) for a, b in zip(A, B, strict=True))
    assert_close(kronecker.as_block(to(like, np.einsum("nab,ngh->abgh", A, B))), expected, like)


@pytest.mark.parametrize(("p", "q"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_product(like, rng, p, q):
    A, B, X = rng.standard_normal((q, q)), rng.standard_normal((p, p)), rng.standard_normal((p, q))
    dense = np.kron(A, B) @ X.flatten(order="F")
    assert_close(kronecker.product(*to(like, A, B, X)), dense.reshape((p, q), order="F"), like)
    assert_close(kronecker.vec(kronecker.product(*to(like, A, B, X))), dense, like)


def test_product_of_matrices_that_are_not_square(like, rng):
    """Ψᴬ and Ψᴳ map between layers of different widths."""
    A, B, X = rng.standard_normal((2, 4)), rng.standard_normal((5, 3)), rng.standard_normal((3, 4))
    dense = np.kron(A, B) @ X.flatten(order="F")
    assert_close(kronecker.product(*to(like, A, B, X)), dense.reshape((5, 2), order="F"), like)


def smaller(rng, A: np.ndarray) -> np.ndarray:
    """A symmetric C with 0 ≤ C ≤ 0.8 A."""
    L, n = np.linalg.cholesky(A), len(A)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return L @ (Q * rng.uniform(0, 0.8, n)) @ Q.T @ L.T


def inverse_square_root(rng, A: np.ndarray) -> np.ndarray:
    """Some R with RᵀR = A⁻¹: any serves, so not the one that the project uses."""
    Q, _ = np.linalg.qr(rng.standard_normal(A.shape))
    values, vectors = np.linalg.eigh(A)
    return Q @ np.diag(values**-0.5) @ vectors.T


def solve_both_ways(like, rng, p: int, q: int, sign: int, clip: bool):
    A, B, X = positive_definite(rng, q), positive_definite(rng, p), rng.standard_normal((p, q))
    C, D = smaller(rng, A), smaller(rng, B)
    R_A, R_B = inverse_square_root(rng, A), inverse_square_root(rng, B)
    there = kronecker.factorise_pair(*to(like, R_A, R_B, C, D), sign=sign, clip=clip).solve(to(like, X))
    dense = np.linalg.solve(np.kron(A, B) + sign * np.kron(C, D), X.flatten(order="F"))
    return there, dense.reshape((p, q), order="F")


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("p", "q"), [(1, 1), (1, 5), (4, 1), (4, 5)])
def test_pair_inverse(like, rng, p, q, sign, clip):
    there, dense = solve_both_ways(like, rng, p, q, sign, clip)
    assert_close(there, dense, like)


@given(st.integers(1, 8), st.integers(1, 8), st.sampled_from([1, -1]), st.booleans(), st.integers(0, 2**32 - 1))
def test_pair_inverse_of_any_size(p, q, sign, clip, seed):
    there, dense = solve_both_ways(np.zeros(0), np.random.default_rng(seed), p, q, sign, clip)
    np.testing.assert_allclose(there, dense, rtol=0, atol=1e-11 * max(1, np.abs(dense).max()))


def test_pair_inverse_of_indefinite_C(like, rng):
    """App. B asks for definite A and B alone; with C = −A/2 and D = B, A⊗B + C⊗D = ½ A⊗B."""
    A, B, X = positive_definite(rng, 3), positive_definite(rng, 2), rng.standard_normal((2, 3))
    R_A, R_B = inverse_square_root(rng, A), inverse_square_root(rng, B)
    there = kronecker.factorise_pair(*to(like, R_A, R_B, -A / 2, B), sign=1).solve(to(like, X))
    assert_close(there, 2 * np.linalg.solve(B, X) @ np.linalg.inv(A), like)


def test_clip_of_a_singular_pair(like):
    """A⊗B − C⊗D with A = B = I, C = diag(2, ½), D = diag(1, ½): the spectrum of C is clipped to (1, ½), and the
    denominator that is then 1 − 1·1 = 0 counts as 1."""
    eye, C, D = np.eye(2), np.diag([2.0, 0.5]), np.diag([1.0, 0.5])
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    there = kronecker.factorise_pair(*to(like, eye, eye, C, D), sign=-1, clip=True).solve(to(like, X))
    s1, s2 = np.array([1.0, 0.5]), np.array([1.0, 0.5])
    denominators = 1 - np.outer(s2, s1)
    assert denominators[0, 0] == 0
    denominators[0, 0] = 1
    assert_close(there, X / denominators, like)


def test_without_clip_a_singular_pair_is_not_hidden(like):
    eye = np.eye(2)
    with np.errstate(divide="ignore", invalid="ignore"):
        pair = kronecker.factorise_pair(*to(like, eye, eye, eye, eye), sign=-1)
        pencils = [kronecker.pencil(*to(like, eye, eye), reduced=True)] * 2
        reduced = kronecker.pair_inverse(*pencils, sign=-1)
    assert np.all(np.isinf(to_numpy(pair.reciprocals))) and np.all(np.isinf(to_numpy(reduced.reciprocals)))


# --- reduced pencils -------------------------------------------------------------------------------------------------


def difference(rng, n: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """A positive definite A (n, n), and H (n, r) with HHᵀ ≤ 0.8 A."""
    A, H = positive_definite(rng, n), rng.standard_normal((n, r))
    return A, H * np.sqrt(0.8 / np.linalg.eigvals(np.linalg.solve(A, H @ H.T)).real.max())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("ranks", [(2, 1), (4, 3), (6, 2), (5, 7)])
def test_reduced_pencils(like, rng, ranks, sign):
    """(A⊗B ± HHᵀ⊗KKᵀ)⁻¹ where H and K are tall, square or wide, beside the dense inverse and the full pencils."""
    (A, H), (B, K), X = difference(rng, 4, ranks[0]), difference(rng, 3, ranks[1]), rng.standard_normal((3, 4))
    R_A, R_B = inverse_square_root(rng, A), inverse_square_root(rng, B)
    operands = to(like, R_A, H), to(like, R_B, K)
    dense = np.linalg.solve(np.kron(A, B) + sign * np.kron(H @ H.T, K @ K.T), X.flatten(order="F"))
    for reduced in (True, False):
        pencils = [kronecker.pencil(*operand, reduced=reduced) for operand in operands]
        there = kronecker.pair_inverse(*pencils, sign=sign, clip=sign < 0).solve(to(like, X))
        assert_close(there, dense.reshape((3, 4), order="F"), like)


def test_a_reduced_pencil_is_no_larger_than_it_must_be(rng):
    A, H = difference(rng, 5, 2)
    found = kronecker.pencil(inverse_square_root(rng, A), H, reduced=True)
    assert found.K.shape == (5, 2) and found.s.shape == (2,)
    np.testing.assert_allclose(found.inverse, np.linalg.inv(A), atol=1e-12)
    np.testing.assert_allclose(found.K.T @ A @ found.K, np.diag(found.s), atol=1e-12)


def test_clip_of_a_singular_reduced_pair(like):
    """As with full pencils a denominator that is 0 counts as 1: nothing is added to A⁻¹⊗B⁻¹ there."""
    eye, H, K = np.eye(2), np.diag([2.0, 0.5]) ** 0.5, np.eye(2)[:, :1]
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    pencils = [kronecker.pencil(*to(like, eye, x), reduced=True) for x in (H, K)]
    there = kronecker.pair_inverse(*pencils, sign=-1, clip=True).solve(to(like, X))
    assert_close(there, np.array([[1.0, 2.0 / (1 - 0.5)], [3.0, 4.0]]), like)
