"""The exact Fisher."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse.linalg import LinearOperator, cg

from autodiff import Network, passes
from autodiff.passes import ForwardPass, backward, forward
from kfac_ref.curvature import fisher
from tests.conftest import assert_all_close, assert_close, make_like, random_parameters, random_targets, to
from tests.dense import (
    case_derivative,
    case_F_R,
    case_forward,
    case_outcomes,
    dense_empirical,
    dense_fisher,
    flatten,
    split,
    unflatten,
)
from tests.strategies import problems

NAMES = ["bernoulli", "categorical", "gaussian"]


def make(rng, name):
    network = Network([3, 4, 3, 3], ["tanh", "softplus"], name)
    directions = [[rng.standard_normal(shape) for shape in network.shapes] for _ in range(3)]
    return network, random_parameters(rng, network), rng.standard_normal((8, 3)), directions


@pytest.mark.parametrize("cases", [None, 8, 5, 1])
@pytest.mark.parametrize("chunk_size", [100, 3])
@pytest.mark.parametrize("name", NAMES)
def test_forms_and_product_against_the_dense_matrix(like, rng, name, chunk_size, cases):
    network, W, X, directions = make(rng, name)
    F = dense_fisher(network, W, X[: cases or 8])
    V = np.stack([flatten(v) for v in directions], axis=1)
    parameters, inputs, *there = to(like, W, X, *directions)
    forward_pass = ForwardPass(network, parameters, inputs, chunk_size)
    assert_close(fisher.quadratic_forms(forward_pass, there, cases), V.T @ F @ V, like, dtype="float64")
    Fv = fisher.product(forward_pass, there[0], cases)
    assert_all_close(Fv, unflatten(F @ V[:, 0], network), like)


def test_directions_are_left_alone(rng):
    network, W, X, directions = make(rng, "bernoulli")
    before = [v.copy() for v in directions[0]]
    fisher.product(ForwardPass(network, W, X), directions[0])
    assert all(np.array_equal(a, b) for a, b in zip(directions[0], before, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_is_the_expectation_of_squared_derivatives_over_the_models_targets(rng, name):
    """F = E[𝒟θ 𝒟θᵀ], y from the model: over all targets, of which each has probability r(y|z), or for the Gaussian
    over the two targets z ± √d e_c for each output c, whose second moment is that of the distribution."""
    network, W, X, _ = make(rng, name)
    P = sum(p * q for p, q in network.shapes)
    expectation = np.zeros((P, P))
    for x in X:
        for probability, y in case_outcomes(name, case_forward(network, W, x)[2]):
            activities = forward(network, W, x[None, :])
            g = backward(network, W, activities, network.likelihood.derivative(activities.z, y[None, :]))
            D = flatten([g_i.T @ a for g_i, a in zip(g, activities.a, strict=True)])
            expectation += probability * np.outer(D, D) / len(X)
    forward_pass = ForwardPass(network, W, X)
    columns = [flatten(fisher.product(forward_pass, unflatten(e, network))) for e in np.eye(P)]
    np.testing.assert_allclose(np.array(columns).T, expectation, atol=1e-12)


@settings(max_examples=60)
@given(problems(max_layers=4, max_width=5))
def test_form_by_differences(p):
    """vᵀFv = mean of (Jv)ᵀ F_R (Jv), with Jv by differences of the outputs."""
    v, step, name = p.direction(), 1e-5, p.network.likelihood.name
    ahead, behind = (
        np.array([case_forward(p.network, [W + s * step * d for W, d in zip(p.W, v, strict=True)], x)[2] for x in p.X])
        for s in (1, -1)
    )
    Jv = (ahead - behind) / (2 * step)
    z = [case_forward(p.network, p.W, x)[2] for x in p.X]
    expected = np.mean([j @ case_F_R(name, row) @ j for j, row in zip(Jv, z, strict=True)])
    ours = float(fisher.quadratic_forms(ForwardPass(p.network, p.W, p.X), [v])[0, 0])
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-8)


@settings(max_examples=60)
@given(problems())
def test_forms_are_products_and_chunks_change_nothing(p):
    """uᵀ(Fv), by forward and backward passes, is uᵀFv by forward-mode passes alone, for every chunk size."""
    u, v = p.direction(), p.direction()
    Fv = flatten(fisher.product(ForwardPass(p.network, p.W, p.X), v))
    forms = fisher.quadratic_forms(ForwardPass(p.network, p.W, p.X), [u, v])
    size = np.linalg.norm(Fv) + np.sqrt(abs(forms[0, 0] * forms[1, 1]))
    # where a softmax is saturated, F_R (Jv) cancels to little; rounding is that of JᵀJv, before it
    plain = Network(p.network.sizes, p.network.activations, "gaussian")
    before = np.linalg.norm(flatten(fisher.product(ForwardPass(plain, p.W, p.X), v)))
    assert abs(flatten(u) @ Fv - forms[0, 1]) <= 1e-12 * max(size, 1e-3)
    np.testing.assert_allclose(forms, forms.T, atol=1e-14 * max(1, np.abs(forms).max()))
    for chunk_size in range(1, len(p.X) + 1):
        forward_pass = ForwardPass(p.network, p.W, p.X, chunk_size)
        np.testing.assert_allclose(
            fisher.quadratic_forms(forward_pass, [u, v]), forms, rtol=1e-12, atol=1e-13 * max(1, np.abs(forms).max())
        )
        np.testing.assert_allclose(
            flatten(fisher.product(forward_pass, v)), Fv, rtol=1e-12, atol=1e-13 * (size + before)
        )


# --- the LinearOperator ----------------------------------------------------------------------------------------------


def relative(actual, desired) -> float:
    """The largest difference, relative to the largest entry, if that is not 0."""
    return float(np.abs(actual - desired).max() / (np.abs(desired).max() or 1.0))


@pytest.mark.parametrize("entries", [2**23, 100, 1])
@pytest.mark.parametrize("chunk_size", [100, 3])
@pytest.mark.parametrize("name", NAMES)
def test_matmat_against_the_dense_matrix(monkeypatch, like, rng, name, chunk_size, entries):
    """All columns at once, a few at a time or one by one, as memory allows."""
    monkeypatch.setattr(passes, "ENTRIES", entries)
    network, W, X, _ = make(rng, name)
    Y, V = random_targets(rng, name, 8, 3), rng.standard_normal((sum(p * q for p, q in network.shapes), 5))
    parameters, inputs, targets, there = to(like, W, X, Y, V)
    forward_pass = ForwardPass(network, parameters, inputs, chunk_size)
    assert_close(fisher.matmat(forward_pass, there), dense_fisher(network, W, X) @ V, like)
    assert_close(fisher.matmat(forward_pass, there, targets), dense_empirical(network, W, X, Y) @ V, like)
    assert_close(fisher.matmat(forward_pass, there[:, :0]), V[:, :0], like)


@settings(max_examples=120)
@given(problems(max_layers=4, max_width=4))
def test_operator_against_the_dense_matrix(p):
    F, E = dense_fisher(p.network, p.W, p.X), dense_empirical(p.network, p.W, p.X, p.Y)
    forward_pass = ForwardPass(p.network, p.W, p.X, 4)
    operator = fisher.operator(forward_pass)
    assert isinstance(operator, LinearOperator) and operator.shape == F.shape
    v, V = p.rng.standard_normal(len(F)), p.rng.standard_normal((len(F), 3))
    assert relative(operator @ v, F @ v) < 1e-9
    assert relative(operator.T @ V, F @ V) < 1e-9
    assert relative(fisher.operator(forward_pass, damping=0.3) @ V, F @ V + 0.3 * V) < 1e-9
    assert relative(fisher.operator(forward_pass, targets=p.Y) @ V, E @ V) < 1e-9
    # the routes to F agree: by F_R between J and Jᵀ, by its square root, and uᵀFv by forward-mode passes alone
    assert relative(operator @ np.eye(len(F)), fisher.dense(forward_pass)) < 1e-9
    u = [unflatten(V[:, r], p.network) for r in range(3)]
    assert relative(fisher.quadratic_forms(forward_pass, u), V.T @ (operator @ V)) < 1e-9


def test_operator_is_solved_with_by_scipy(rng):
    network, W, X, _ = make(rng, "categorical")
    F, b = dense_fisher(network, W, X), rng.standard_normal(sum(p * q for p, q in network.shapes))
    solution, info = cg(fisher.operator(ForwardPass(network, W, X), damping=0.1), b, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(solution, np.linalg.solve(F + 0.1 * np.eye(len(F)), b), rtol=1e-8)


def test_operator_on_cupy(rng):
    like = make_like("cupy-float64")
    from cupyx.scipy.sparse.linalg import LinearOperator as CuPyOperator

    network, W, X, directions = make(rng, "bernoulli")
    operator = fisher.operator(ForwardPass(network, *to(like, W, X)), damping=0.1)
    assert isinstance(operator, CuPyOperator)
    V = np.stack([flatten(v) for v in directions], axis=1)
    expected = dense_fisher(network, W, X) @ V + 0.1 * V
    assert_close(operator @ to(like, V), expected, like)
    assert_close(operator @ to(like, V[:, 0]), expected[:, 0], like)


def test_operator_refuses_targets_of_another_batch(rng):
    network, W, X, _ = make(rng, "gaussian")
    with pytest.raises(ValueError, match="X has 8 cases and Y has 7"):
        fisher.operator(ForwardPass(network, W, X), targets=np.zeros((7, 3)))


# --- the dense matrix and its blocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [2**23, 300, 1])
@pytest.mark.parametrize("name", NAMES)
def test_dense_and_blocks_on_every_library(monkeypatch, like, rng, name, entries):
    """Also where memory allows but a few cases, or one, at once."""
    monkeypatch.setattr(passes, "ENTRIES", entries)
    monkeypatch.setattr(fisher, "ENTRIES", entries)
    network, W, X, _ = make(rng, name)
    Y = random_targets(rng, name, 8, 3)
    parameters, inputs, targets = to(like, W, X, Y)
    forward_pass = ForwardPass(network, parameters, inputs, 5)
    widths = [p * q for p, q in network.shapes]
    for expected, ours, given_targets in (
        (dense_fisher(network, W, X), fisher.dense(forward_pass), None),
        (dense_empirical(network, W, X, Y), fisher.dense_empirical(forward_pass, targets), targets),
    ):
        assert_close(ours, expected, like)
        for (i, j), block in split(expected, widths).items():
            assert_close(fisher.block(forward_pass, i, j, given_targets), block, like)


@settings(max_examples=120)
@given(problems(max_layers=4, max_width=5))
def test_dense_and_blocks_against_jacobians(p):
    forward_pass = ForwardPass(p.network, p.W, p.X, 4)
    F, E = dense_fisher(p.network, p.W, p.X), dense_empirical(p.network, p.W, p.X, p.Y)
    assert relative(fisher.dense(forward_pass), F) < 1e-9
    assert relative(fisher.dense_empirical(forward_pass, p.Y), E) < 1e-9
    widths = [a * b for a, b in p.network.shapes]
    for (i, j), block in split(F, widths).items():
        assert relative(fisher.block(forward_pass, i, j), block) < 1e-9
    for (i, j), block in split(E, widths).items():
        assert relative(fisher.block(forward_pass, i, j, targets=p.Y), block) < 1e-9


@settings(max_examples=40)
@given(problems(max_layers=3, max_width=3, max_cases=3))
def test_dense_is_the_sum_over_all_targets(p):
    """Another route: 𝒟θ 𝒟θᵀ of every y that can be, with its probability."""
    expected, name = 0.0, p.network.likelihood.name
    for x in p.X:
        for probability, y in case_outcomes(name, case_forward(p.network, p.W, x)[2]):
            D = case_derivative(p.network, p.W, x, y)
            expected = expected + probability * np.outer(D, D) / len(p.X)
    assert relative(fisher.dense(ForwardPass(p.network, p.W, p.X)), expected) < 1e-9


@settings(max_examples=40)
@given(problems(max_layers=3, max_width=3, max_cases=4))
def test_dense_by_differences(p):
    """J of each case by differences of the outputs, in nothing but forward passes."""
    expected, theta, step = 0.0, flatten(p.W), 1e-5
    for x in p.X:

        def z(vector, x=x):
            return case_forward(p.network, unflatten(vector, p.network), x)[2]

        J = np.stack([(z(theta + step * e) - z(theta - step * e)) / (2 * step) for e in np.eye(len(theta))], axis=1)
        expected = expected + J.T @ case_F_R(p.network.likelihood.name, z(theta)) @ J / len(p.X)
    assert relative(fisher.dense(ForwardPass(p.network, p.W, p.X)), expected) < 1e-6


def test_blocks_are_those_of_a_layer_that_exists(rng):
    network, W, X, _ = make(rng, "gaussian")
    for i, j in ((0, 1), (1, 4)):
        with pytest.raises(ValueError, match=r"there is no layer [04]: the layers of the network .* are 1 … 3"):
            fisher.block(ForwardPass(network, W, X), i, j)
