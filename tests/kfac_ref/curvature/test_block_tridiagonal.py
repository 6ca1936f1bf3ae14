"""F̂⁻¹."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import to_numpy
from kfac_ref.curvature import block_tridiagonal, damping
from kfac_ref.curvature.factors import Factors
from tests.conftest import assert_all_close, assert_close, random_parameters, to, tolerance
from tests.dense import (
    assemble,
    damped_blocks,
    dense_diagonal_inverse,
    dense_factors,
    dense_tridiagonal_inverse,
    flatten,
    kronecker_block,
    split,
    unflatten,
)

GAMMA = 0.4
SIZES = [[4, 3], [3, 1], [3, 4, 2], [2, 1, 2], [3, 2, 3, 2], [2, 3, 2, 1, 3]]


def make(rng, sizes):
    network = Network(sizes, "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((20, sizes[0]))
    return network, *dense_factors(network, W, X, rng.standard_normal((20, sizes[-1])))


def invert(like, A, G):
    factors = Factors(
        {(i, j): to(like, a) for (i, j), a in A.items() if j - i in (0, 1)},
        {(i, j): to(like, g) for (i, j), g in G.items() if j - i in (0, 1)},
    )
    return block_tridiagonal.invert(factors, damping.factorise(factors, GAMMA))


def as_matrix(inverse, network) -> np.ndarray:
    """The inverse, applied to each basis vector, as one matrix."""
    P = sum(p * q for p, q in network.shapes)
    return np.stack([flatten(inverse.apply(unflatten(e, network))) for e in np.eye(P)], axis=1)


@pytest.mark.parametrize("sizes", SIZES)
def test_apply_is_the_dense_matrix(like, rng, sizes):
    network, A, G = make(rng, sizes)
    V = [rng.standard_normal(shape) for shape in network.shapes]
    U = invert(like, A, G).apply(to(like, V))
    assert_all_close(U, unflatten(dense_tridiagonal_inverse(A, G, GAMMA) @ flatten(V), network), like)


@pytest.mark.parametrize("sizes", SIZES)
def test_what_defines_it(rng, sizes):
    """F̂⁻¹ is symmetric, positive definite and block-tridiagonal, and F̂ agrees with F̃ on the tridiagonal blocks."""
    network, A, G = make(rng, sizes)
    inverse, layers = as_matrix(invert(np.zeros(0), A, G), network), network.layers
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-12)
    assert np.linalg.eigvalsh(inverse).min() > 0
    widths = [p * q for p, q in network.shapes]
    F_hat, A, G = np.linalg.inv(inverse), *damped_blocks(A, G, GAMMA)
    for (i, j), block in split(inverse, widths).items():
        if abs(i - j) > 1:
            assert np.abs(block).max() < 1e-13
    for (i, j), block in split(F_hat, widths).items():
        if abs(i - j) <= 1:
            np.testing.assert_allclose(block, kronecker_block(A, G, i, j), atol=1e-11)
    if layers > 2:  # away from them it does not: the approximation is one
        assert np.abs(split(F_hat, widths)[1, 3] - kronecker_block(A, G, 1, 3)).max() > 1e-4


def test_two_layers_are_inverted_exactly(like, rng):
    """All blocks of F̃ are tridiagonal, so that F̂ = F̃."""
    network, A, G = make(rng, [3, 4, 2])
    V = [rng.standard_normal(shape) for shape in network.shapes]
    damped = damped_blocks(A, G, GAMMA)
    F = assemble({(i, j): kronecker_block(*damped, i, j) for i in (1, 2) for j in (1, 2)}, 2)
    U = invert(like, A, G).apply(to(like, V))
    assert_all_close(U, unflatten(np.linalg.solve(F, flatten(V)), network), like)


def test_one_layer_is_the_block_diagonal_inverse(like, rng):
    network, A, G = make(rng, [4, 3])
    V = [rng.standard_normal(shape) for shape in network.shapes]
    U = invert(like, A, G).apply(to(like, V))
    assert_all_close(U, unflatten(dense_diagonal_inverse(A, G, GAMMA) @ flatten(V), network), like)


def test_layers_that_determine_each_other(like):
    """With all factors I, layer 1's derivative is a function of layer 2's, and Σ_{1|2} = I − I = 0: its denominators
    count as 1, so that nothing becomes infinite. Then U_1 = V_1 − V_2 and U_2 = V_2 − U_1."""
    A = {(i, j): np.eye(3) for i in (0, 1) for j in (0, 1)}
    G = {(i, j): np.eye(2) for i in (1, 2) for j in (1, 2)}
    factors = Factors({i: to(like, a) for i, a in A.items()}, {i: to(like, g) for i, g in G.items()})
    V = [np.arange(6.0).reshape(2, 3), np.ones((2, 3))]
    U = block_tridiagonal.invert(factors, damping.factorise(factors, 0.0)).apply(to(like, V))
    assert_all_close(U, [V[0] - V[1], V[1] - (V[0] - V[1])], like)


def test_without_correlations_it_is_the_block_diagonal_inverse(like, rng):
    network, A, G = make(rng, [3, 2, 3, 2])
    G = {index: g * (index[0] == index[1]) for index, g in G.items()}
    V = [rng.standard_normal(shape) for shape in network.shapes]
    U = invert(like, A, G).apply(to(like, V))
    assert_all_close(U, unflatten(dense_diagonal_inverse(A, G, GAMMA) @ flatten(V), network), like)


@pytest.mark.parametrize("sizes", SIZES)
def test_what_defines_the_approximation(like, rng, sizes):
    """F̂'s factors on the tridiagonal blocks are those given, Â and Ĝ are symmetric, and the inverse of the dense F̂, by
    NumPy, is block-tridiagonal."""
    network, A, G = make(rng, sizes)
    A, G = damped_blocks(A, G, GAMMA)
    near = [{(i, j): to(like, b) for (i, j), b in blocks.items() if j - i in (0, 1)} for blocks in (A, G)]
    ours = block_tridiagonal.approximate(Factors(*near))
    assert set(ours.A) == set(A) and set(ours.G) == set(G)
    for blocks, given in ((ours.A, A), (ours.G, G)):
        for (i, j), block in blocks.items():
            if abs(i - j) <= 1:
                assert_close(block, given[i, j], like)
            assert_close(block.T, to_numpy(blocks[j, i]), like)
    F = assemble(
        {(i, j): np.kron(to_numpy(ours.A[i - 1, j - 1]), to_numpy(block)) for (i, j), block in ours.G.items()},
        network.layers,
    )
    blocks = split(np.linalg.inv(F.astype(float)), [p * q for p, q in network.shapes])
    for (i, j), block in blocks.items():
        if abs(i - j) > 1:
            assert np.abs(block).max() < tolerance(like) * max(np.abs(b).max() for b in blocks.values())
