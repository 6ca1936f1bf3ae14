"""validation.figures.variants: the matrices that stand in place of F₀, against dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autodiff.arrays import to_numpy
from kfac_ref import KFAC, Batch, Settings
from tests.conftest import is_float32, random_parameters, random_targets, to
from tests.dense import dense_empirical, dense_factors, flatten, split
from tests.kfac_ref.test_optimizer import SMALL, draw_batch, make_network
from validation.figures import variants
from validation.figures.variants import EigenbasisKFAC, EmpiricalKFAC
from validation.work import Work

SETTINGS = Settings(**SMALL, inverse="block-diagonal")  # τ₁ = ½, T₃ = 5, T₂ = 3
NAMES = ["bernoulli", "categorical", "gaussian"]


def tol(like) -> float:
    """Several iterations in a row multiply roundings."""
    return 1e-3 if is_float32(like) else 1e-9


def solved(network, blocks, gamma, gradient):
    """−(diag(blocks) + γ²I)⁻¹∇h, layer by layer."""
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    parts = zip(blocks, np.split(flatten(to_numpy(g) for g in gradient), ends), strict=True)
    return np.concatenate([-np.linalg.solve(block + gamma**2 * np.eye(len(block)), v) for block, v in parts])


def run(like, rng, likelihood, rescaled, iterations):
    """For each iteration: k, parameters before it, inputs and targets of the τ₁ part, state and record."""
    network = make_network(likelihood)
    kfac = EigenbasisKFAC(network, SETTINGS, rescaled)
    state = kfac.init(to(like, random_parameters(rng, network)))
    for k in range(1, iterations + 1):
        X, Y = draw_batch(rng, network)
        sampled = random_targets(rng, likelihood, 6, 2)
        before = [to_numpy(W).astype(float) for W in state.parameters]
        state, record = kfac.step(state, Batch(*to(like, X, Y)), to(like, sampled))
        yield k, network, before, X[:6], sampled, state, record


@pytest.mark.parametrize("likelihood", NAMES)
def test_exact_damping(like, rng, likelihood):
    """Δ = −(Ā⊗G + γ²I)⁻¹∇h, with Ā and G as they were when their eigenbasis was computed: at k = 1, 2, 3, 5."""
    A, G = None, None
    for k, network, W, X, sampled, _, record in run(like, rng, likelihood, False, 6):
        newA, newG = dense_factors(network, W, X, sampled)
        epsilon = min(1 - 1 / k, 0.95)
        A = newA if A is None else {i: epsilon * A[i] + (1 - epsilon) * newA[i] for i in A}
        G = newG if G is None else {i: epsilon * G[i] + (1 - epsilon) * newG[i] for i in G}
        if k in (1, 2, 3, 5):
            blocks = [np.kron(A[i - 1, i - 1], G[i, i]) for i in range(1, network.layers + 1)]
        expected = solved(network, blocks, record.gamma, record.gradient)
        actual = flatten(to_numpy(d) for d in record.direction)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tol(like) * np.abs(expected).max())


@pytest.mark.parametrize("likelihood", NAMES)
def test_ekfac(like, rng, likelihood):
    """The diagonal, in its basis, is the mean of the eigenvalues of Ā⊗G and of E[(Uᵀ𝒟θ)²] at each iteration since."""
    for k, network, W, X, sampled, state, record in run(like, rng, likelihood, True, 7):
        basis, parts = state.factors.basis, [p * q for p, q in network.shapes]
        sides = zip(basis.U_A, basis.U_G, strict=True)
        U = [np.kron(to_numpy(a).astype(float), to_numpy(g).astype(float)) for a, g in sides]
        F = split(dense_empirical(network, W, X, sampled), parts)
        measured = [np.diag(u.T @ F[i, i] @ u) for i, u in enumerate(U, start=1)]
        if k in (1, 2, 3, 5):
            A, G = state.factors.A, state.factors.G
            tilde = [np.kron(to_numpy(A[i - 1, i - 1]), to_numpy(G[i, i])) for i in range(1, network.layers + 1)]
            terms = [[np.diag(u.T @ block @ u) for u, block in zip(U, tilde, strict=True)]]
        terms.append(measured)
        s = [np.mean(layer, axis=0) for layer in zip(*terms, strict=True)]
        blocks = [(u * d) @ u.T for u, d in zip(U, s, strict=True)]
        expected = solved(network, blocks, record.gamma, record.gradient)
        actual = flatten(to_numpy(d) for d in record.direction)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tol(like) * np.abs(expected).max())
    assert len(terms) == 4  # Ā⊗G at k = 5, and k = 5, 6, 7


def test_the_factors_are_those_of_k_fac(rng):
    """With targets that are drawn, not handed in: the same ones."""
    network, X, Y = make_network("bernoulli"), *draw_batch(rng, make_network("bernoulli"))
    W = random_parameters(rng, network)
    states = []
    for kfac in (KFAC(network, SETTINGS), EigenbasisKFAC(network, replace(SETTINGS, chunk_size=5), True)):
        states.append(kfac.step(kfac.init(W, seed=5), Batch(X, Y))[0])
    for side in ("A", "G"):
        one, other = (getattr(state.factors, side) for state in states)
        assert one.keys() == other.keys()
        for index, block in one.items():
            np.testing.assert_allclose(other[index], block, rtol=1e-12, atol=1e-15)


def test_empirical_factors(rng):
    network = make_network("gaussian")
    kfac, (X, Y) = EmpiricalKFAC(network, SETTINGS), draw_batch(rng, network)
    W = random_parameters(rng, network)
    state, _ = kfac.step(kfac.init(W), Batch(X, Y))
    A, G = dense_factors(network, W, X[:6], Y[:6])
    for i in range(1, network.layers + 1):
        np.testing.assert_allclose(state.factors.A[i - 1, i - 1], A[i - 1, i - 1], atol=1e-13)
        np.testing.assert_allclose(state.factors.G[i, i], G[i, i], atol=1e-13)


def test_the_figure(tmp_path, monkeypatch):
    monkeypatch.setitem(variants.AMOUNT, True, {"iterations": 2, "seeds": (0, 1)})
    drawn = variants.draw(Work(tmp_path, quick=True))
    assert [row["method"] for row in drawn.summary] == list(variants.METHODS)
    rows = drawn.tables["runs"]
    assert len(rows) == 5 * 2 * 2
    # all begin at the same point, and each is another method
    assert len({row["error"] for row in rows}) == len(rows)
    assert all(0 < row["error"] < 100 for row in rows)
    assert len(drawn.figure.axes) == 2
    again = variants.draw(Work(tmp_path, quick=True))  # from what was kept
    assert again.tables == drawn.tables
