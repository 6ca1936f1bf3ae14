"""F̆⁻¹."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from kfac_ref.curvature import block_diagonal, damping
from kfac_ref.curvature.factors import Factors
from tests.conftest import assert_all_close, random_parameters, to
from tests.dense import dense_diagonal_inverse, dense_factors, flatten, unflatten


@pytest.mark.parametrize("gamma", [0.2, 3.0])
@pytest.mark.parametrize("sizes", [[4, 3], [3, 1, 2], [3, 5, 4, 2]])
def test_apply_is_the_inverse_of_the_dense_matrix(like, rng, sizes, gamma):
    network = Network(sizes, "tanh", "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((20, sizes[0])), rng.standard_normal((20, sizes[-1]))
    A, G = dense_factors(network, W, X, Y)
    V = [rng.standard_normal(shape) for shape in network.shapes]
    diagonal = Factors(
        {i: to(like, a) for i, a in A.items() if i[0] == i[1]}, {i: to(like, g) for i, g in G.items() if i[0] == i[1]}
    )
    U = block_diagonal.invert(damping.factorise(diagonal, gamma)).apply(to(like, V))
    assert_all_close(U, unflatten(dense_diagonal_inverse(A, G, gamma) @ flatten(V), network), like)


def test_multiples_of_the_identity(like):
    """Ā = 4 I and G = I: π = 2, so that F̆ = (4 + 2γ)(1 + γ/2) I."""
    factors = Factors({(0, 0): to(like, 4 * np.eye(3))}, {(1, 1): to(like, np.eye(2))})
    U = block_diagonal.invert(damping.factorise(factors, 2.0)).apply([to(like, np.ones((2, 3)))])
    assert_all_close(U, [np.full((2, 3), 1 / 16)], like)


def test_approximate_keeps_the_diagonal_blocks(like, rng):
    network = Network([3, 2, 4, 2], "tanh", "gaussian")
    W, X, Y = random_parameters(rng, network), rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    A, G = dense_factors(network, W, X, Y)
    there = Factors({i: to(like, a) for i, a in A.items()}, {i: to(like, g) for i, g in G.items()})
    ours = block_diagonal.approximate(there)
    assert set(ours.A) == {(0, 0), (1, 1), (2, 2)} and set(ours.G) == {(1, 1), (2, 2), (3, 3)}
    assert all(ours.A[i] is there.A[i] for i in ours.A) and all(ours.G[i] is there.G[i] for i in ours.G)
