"""The error of a block's Kronecker approximation and its cumulants."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import Network, passes
from autodiff.passes import ForwardPass
from kfac_ref.curvature import cumulants, fisher
from tests.conftest import assert_close, random_parameters, to
from tests.dense import (
    case_forward,
    case_jacobians,
    case_mean,
    case_outcomes,
    dense_exact_G,
    dense_factors,
    dense_fisher,
    split,
)
from tests.strategies import problems

TERMS = ("error", "fourth", "first", "second")


def partitions(items):
    """All partitions of a list into blocks."""
    if not items:
        yield []
        return
    first, *rest = items
    for partition in partitions(rest):
        yield [[first], *partition]
        for k, block in enumerate(partition):
            yield [*partition[:k], [first, *block], *partition[k + 1 :]]


def joint_cumulant(weights, *variables) -> float:
    """κ = Σ over partitions of (−1)^{b−1} (b−1)! Π over the b blocks of the moment of the block's variables."""
    total = 0.0
    for partition in partitions(list(range(len(variables)))):
        b = len(partition)
        moments = [np.sum(weights * np.prod([variables[k] for k in block], axis=0)) for block in partition]
        total += (-1) ** (b - 1) * math.factorial(b - 1) * np.prod(moments)
    return total


def distribution(network: Network, W, X):
    """Every case and target: weights (n,), ā_0 … as columns (n, d+1), g_1 … as columns (n, d)."""
    weights, a, g, name = [], [], [], network.likelihood.name
    for x in X:
        abar, _, z = case_forward(network, W, x)
        D = case_jacobians(network, W, x)
        for probability, y in case_outcomes(name, z):
            weights.append(probability / len(X))
            a.append(abar)
            g.append([D_i.T @ (case_mean(name, z) - y) for D_i in D])
    layers = range(network.layers)
    return np.array(weights), *([np.array([row[i] for row in rows]) for i in layers] for rows in (a, g))


def by_definition(network: Network, W, X, i: int, j: int) -> dict[str, np.ndarray]:
    """The terms entry by entry, each cumulant from all its partitions: nothing is left out by Lemma 4."""
    weights, a, g = distribution(network, W, X)
    a1, a2, g1, g2 = a[i - 1], a[j - 1], g[i - 1], g[j - 1]
    widths = [range(m.shape[1]) for m in (a1, g1, a2, g2)]
    terms = {name: np.zeros((len(widths[0]) * len(widths[1]), len(widths[2]) * len(widths[3]))) for name in TERMS}
    for p, k, q, l in itertools.product(*widths):
        v = a1[:, p], a2[:, q], g1[:, k], g2[:, l]

        def mean(*variables):
            return np.sum(weights * np.prod(variables, axis=0))

        at = p * len(widths[1]) + k, q * len(widths[3]) + l
        terms["error"][at] = mean(*v) - mean(v[0], v[1]) * mean(v[2], v[3])
        terms["fourth"][at] = joint_cumulant(weights, *v)
        terms["first"][at] = mean(v[0]) * joint_cumulant(weights, v[1], v[2], v[3])
        terms["second"][at] = mean(v[1]) * joint_cumulant(weights, v[0], v[2], v[3])
    return terms


@settings(max_examples=25)
@given(problems(max_layers=3, max_width=2, max_cases=4))
def test_terms_by_definition(p):
    for i in range(1, p.network.layers + 1):
        for j in range(i, p.network.layers + 1):
            ours = cumulants.kronecker_error(ForwardPass(p.network, p.W, p.X, 3), i, j)
            expected = by_definition(p.network, p.W, p.X, i, j)
            size = np.abs(fisher.block(ForwardPass(p.network, p.W, p.X), i, j)).max()
            for name in TERMS:
                np.testing.assert_allclose(getattr(ours, name), expected[name], rtol=0, atol=1e-9 * size)


@settings(max_examples=100)
@given(problems(max_layers=4, max_width=4))
def test_the_terms_sum_to_the_error_of_the_dense_block(p):
    F = split(dense_fisher(p.network, p.W, p.X), [a * b for a, b in p.network.shapes])
    A, G = dense_factors(p.network, p.W, p.X, p.Y)[0], dense_exact_G(p.network, p.W, p.X)
    for (i, j), block in F.items():
        ours = cumulants.kronecker_error(ForwardPass(p.network, p.W, p.X, 4), i, j)
        error = block - np.kron(A[i - 1, j - 1], G[i, j])
        size = np.abs(block).max()
        np.testing.assert_allclose(ours.error, error, rtol=0, atol=1e-12 * size)
        np.testing.assert_allclose(ours.fourth + ours.first + ours.second, error, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "gaussian"])
@pytest.mark.parametrize("entries", [2**23, 1])
def test_on_every_library(monkeypatch, like, rng, name, entries):
    monkeypatch.setattr(passes, "ENTRIES", entries)
    monkeypatch.setattr(fisher, "ENTRIES", entries)
    network = Network([2, 3, 2], "tanh", name)
    W, X = random_parameters(rng, network), rng.standard_normal((5, 2))
    forward_pass = ForwardPass(network, *to(like, W, X))
    for i, j in ((1, 1), (1, 2), (2, 1)):
        ours, expected = cumulants.kronecker_error(forward_pass, i, j), by_definition(network, W, X, i, j)
        for term in TERMS:
            assert_close(getattr(ours, term), expected[term], like)


@settings(max_examples=40)
@given(problems(max_layers=3, max_width=4, max_cases=1))
def test_vanish_for_one_case(p):
    """ā is constant: every cumulant in which it appears is 0."""
    size = np.abs(dense_fisher(p.network, p.W, p.X)).max()
    ours = cumulants.kronecker_error(ForwardPass(p.network, p.W, p.X), 1, p.network.layers)
    for term in TERMS:
        assert np.abs(getattr(ours, term)).max() <= 1e-12 * size * (1 + np.sum(p.X**2))


def test_linear_networks_have_no_error(rng):
    """Deep and linear under the Gaussian likelihood: g does not depend on x, so that mixed cumulants vanish."""
    network = Network([3, 2, 3], "identity", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((9, 3))
    ours = cumulants.kronecker_error(ForwardPass(network, W, X), 1, 2)
    for term in TERMS:
        assert np.abs(getattr(ours, term)).max() < 1e-13


def test_the_block_is_one_that_exists(rng):
    network = Network([3, 2], [], "gaussian")
    with pytest.raises(ValueError, match="there is no layer 2"):
        cumulants.kronecker_error(ForwardPass(network, random_parameters(rng, network), np.zeros((1, 3))), 1, 2)
