"""F̃, and F̆ and F̂ by their factors: products, dense matrices and inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, factors, kronecker_fisher
from kfac_ref.curvature.factors import Factors
from tests.conftest import assert_all_close, assert_close, random_parameters, to
from tests.dense import (
    damped_blocks,
    dense_diagonal_inverse,
    dense_exact_G,
    dense_factors,
    dense_fisher,
    dense_kronecker,
    dense_tridiagonal_inverse,
    flatten,
    unflatten,
)
from tests.strategies import problems

SIZES = [[4, 3], [3, 4, 2], [2, 1, 2], [3, 2, 3, 2], [2, 3, 2, 1, 3]]


def make(rng, sizes):
    network = Network(sizes, "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((20, sizes[0]))
    return network, *dense_factors(network, W, X, rng.standard_normal((20, sizes[-1])))


def there(like, A, G) -> Factors:
    return Factors({i: to(like, a) for i, a in A.items()}, {i: to(like, g) for i, g in G.items()})


def upper(blocks):
    """The blocks as a running average keeps them."""
    return {(i, j): block for (i, j), block in blocks.items() if i <= j}


@pytest.mark.parametrize("keep", [dict, upper])
@pytest.mark.parametrize("sizes", SIZES)
def test_dense_product_and_inverse(like, rng, sizes, keep):
    """Also where the blocks below the diagonal are not stored."""
    network, A, G = make(rng, sizes)
    ours, V = there(like, keep(A), keep(G)), [rng.standard_normal(shape) for shape in network.shapes]
    F = dense_kronecker(A, G)
    assert_close(kronecker_fisher.dense(ours), F, like)
    assert_all_close(kronecker_fisher.product(ours, to(like, V)), unflatten(F @ flatten(V), network), like)
    damped, F = damping.damp(ours, 1.0), dense_kronecker(*damped_blocks(A, G, 1.0))
    assert_close(kronecker_fisher.dense(damped), F, like)
    U = kronecker_fisher.invert(damped).apply(to(like, V))
    assert_all_close(U, unflatten(np.linalg.inv(F) @ flatten(V), network), like)


def test_blocks_that_are_absent_are_zero(like, rng):
    network, A, G = make(rng, [3, 2, 3, 2])
    near = {i: a for i, a in A.items() if abs(i[0] - i[1]) < 2}, {i: g for i, g in G.items() if abs(i[0] - i[1]) < 2}
    zero = [{i: b * (abs(i[0] - i[1]) < 2) for i, b in blocks.items()} for blocks in (A, G)]
    V = [rng.standard_normal(shape) for shape in network.shapes]
    F, ours = dense_kronecker(*zero), there(like, *near)
    assert_close(kronecker_fisher.dense(ours), F, like)
    assert_all_close(kronecker_fisher.product(ours, to(like, V)), unflatten(F @ flatten(V), network), like)


@pytest.mark.parametrize("norm", ["trace", "frobenius"])
def test_damp_is_what_the_inverses_are_damped_by(like, rng, norm):
    """The inverses of the diagonal blocks are those of `damping.factorise`; the other blocks are as they were."""
    _, A, G = make(rng, [3, 2, 3, 2])
    ours = there(like, A, G)
    damped, factorised = damping.damp(ours, 0.7, norm), damping.factorise(ours, 0.7, norm)
    for i in range(1, 4):
        for R, block in ((factorised.A[i - 1], damped.A[i - 1, i - 1]), (factorised.G[i - 1], damped.G[i, i])):
            assert_close(R @ block @ R.T, np.eye(R.shape[0]), like)
    assert all(damped.A[i] is ours.A[i] for i in ours.A if i[0] != i[1])
    assert all(damped.G[i] is ours.G[i] for i in ours.G if i[0] != i[1])
    assert ours.A[0, 0] is not damped.A[0, 0]


def test_what_is_not_positive_definite_has_no_inverse(like, rng):
    """One case: every factor has rank one."""
    network = Network([3, 2, 2], "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((1, 3))
    with pytest.raises(ValueError, match="F̃ is not positive definite, so it has no inverse; damp its factors"):
        kronecker_fisher.invert(factors.exact(ForwardPass(network, *to(like, W, X))))


# --- F̆ and F̂ by their factors ----------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(problems(max_layers=5, max_width=4), st.sampled_from([0.3, 1.0, 4.0]))
def test_all_three_against_dense_algebra(p, gamma):
    """Damped: F̃, F̆ and F̂ dense, as products and as inverse products, 1e-9 relative. F̆ and F̂ are the inverses, by NumPy,
    of inverses built from dense Ψ and Σ."""
    A, _ = dense_factors(p.network, p.W, p.X, p.Y)
    G = dense_exact_G(p.network, p.W, p.X)
    assume(min(np.trace(G[i, i]) for i in range(1, p.network.layers + 1)) > 1e-12)  # dead units: see test_damping
    damped = damping.damp(factors.exact(ForwardPass(p.network, p.W, p.X)), gamma)
    roots = damping.factorise(factors.exact(ForwardPass(p.network, p.W, p.X)), gamma)
    F = dense_kronecker(*damped_blocks(A, G, gamma))
    inverses = {
        "F̃": (damped, kronecker_fisher.invert(damped), np.linalg.inv(F)),
        "F̆": (block_diagonal.approximate(damped), block_diagonal.invert(roots), dense_diagonal_inverse(A, G, gamma)),
        "F̂": (
            block_tridiagonal.approximate(damped),
            block_tridiagonal.invert(damped, roots),
            dense_tridiagonal_inverse(A, G, gamma),
        ),
    }
    v = p.rng.standard_normal(len(F))
    V = unflatten(v, p.network)
    for name, (ours, inverse, expected) in inverses.items():
        matrix = np.linalg.inv(expected)
        assert relative(kronecker_fisher.dense(ours), matrix) < 1e-9, name
        assert relative(flatten(kronecker_fisher.product(ours, V)), matrix @ v) < 1e-9, name
        assert relative(flatten(inverse.apply(V)), expected @ v) < 1e-9, name
        assert relative(flatten(inverse.apply(kronecker_fisher.product(ours, V))), v) < 1e-9, name


def relative(actual, desired) -> float:
    return float(np.abs(actual - desired).max() / np.abs(desired).max())


@pytest.mark.parametrize("sizes", SIZES)
def test_approximations_on_every_library(like, rng, sizes):
    network, A, G = make(rng, sizes)
    damped, V = damping.damp(there(like, A, G), 1.0), [rng.standard_normal(shape) for shape in network.shapes]
    for approximate, inverse in (
        (block_diagonal.approximate, dense_diagonal_inverse),
        (block_tridiagonal.approximate, dense_tridiagonal_inverse),
    ):
        F = np.linalg.inv(inverse(A, G, 1.0))
        assert_close(kronecker_fisher.dense(approximate(damped)), F, like)
        U = kronecker_fisher.product(approximate(damped), to(like, V))
        assert_all_close(U, unflatten(F @ flatten(V), network), like)


def test_undamped(rng):
    """With more cases than units F̂ exists without damping."""
    _, A, G = make(rng, [2, 3, 2, 2])
    ours = there(np.zeros(0), upper(A), upper(G))
    F_hat = kronecker_fisher.dense(block_tridiagonal.approximate(ours))
    expected = np.linalg.inv(dense_tridiagonal_inverse(A, G, 0.0))
    np.testing.assert_allclose(F_hat, expected, atol=1e-9 * np.abs(expected).max())


def test_exact_for_deep_linear_networks(rng):
    """F̃ = F there (§3.1), the dense matrix of all blocks."""
    network = Network([3, 2, 4, 2], "identity", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((9, 3))
    F, F_tilde = dense_fisher(network, W, X), kronecker_fisher.dense(factors.exact(ForwardPass(network, W, X)))
    np.testing.assert_allclose(F_tilde, F, rtol=0, atol=1e-12 * np.abs(F).max())


def test_singular_factors_are_named(like, rng):
    """Two cases and three layers of 4 units: Ψ needs an inverse of Ā_{1,1} that there is not."""
    network = Network([3, 4, 4, 2], "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((2, 3))
    ours = factors.exact(ForwardPass(network, *to(like, W, X)))
    with pytest.raises(ValueError, match=r"the factor A\[1,1\] is not positive definite; F̂ needs it damped"):
        block_tridiagonal.approximate(ours)
    kronecker_fisher.dense(block_tridiagonal.approximate(damping.damp(ours, 0.1)))
