"""The three passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import Affine, Network, passes
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass, backward, forward, forward_mode
from tests.conftest import assert_all_close, assert_close, random_affine, random_parameters, to
from tests.dense import case_forward, case_J, case_jacobians, flatten
from tests.strategies import problems

ACTIVATIONS = {
    "tanh": ["tanh", "tanh"],
    "mixed": ["logistic", "softplus"],
    "relu, identity": ["relu", "identity"],
    "affine": ["affine logistic", "tanh"],
    "one layer": [],
}


@pytest.fixture(params=sorted(ACTIVATIONS))
def problem(request, rng, like):
    """A network in NumPy and the same on `like`'s device; the affine activations hold arrays, so they differ."""
    names = ACTIVATIONS[request.param]
    sizes = [4, 5, 3, 2] if names else [4, 3]
    plain = [random_affine(rng, n.split()[1], d) if " " in n else n for n, d in zip(names, sizes[1:], strict=False)]
    there = [p if isinstance(p, str) else Affine(p.base, *to(like, p.Omega, p.omega, p.Phi)) for p in plain]
    network = Network(sizes, plain, "bernoulli")
    W, X = random_parameters(rng, network), rng.standard_normal((6, 4))
    return network, Network(sizes, there, "bernoulli"), W, X


def test_forward(problem, like):
    network, there, W, X = problem
    activities = forward(there, *to(like, W, X))
    a, _, z = zip(*(case_forward(network, W, x) for x in X), strict=True)
    assert_close(activities.z, np.array(z), like)
    assert_all_close(activities.a, [np.array([row[i] for row in a]) for i in range(network.layers)], like)


def test_backward(problem, like, rng):
    network, there, W, X = problem
    Dz = rng.standard_normal((6, network.sizes[-1]))
    parameters, inputs, cotangent = to(like, W, X, Dz)
    g = backward(there, parameters, forward(there, parameters, inputs), cotangent)
    D = [case_jacobians(network, W, x) for x in X]
    expected = [np.array([D[m][i].T @ Dz[m] for m in range(6)]) for i in range(network.layers)]
    assert_all_close(g, expected, like)


def test_forward_mode(problem, like, rng):
    network, there, W, X = problem
    directions = [[rng.standard_normal(shape) for shape in network.shapes] for _ in range(3)]
    parameters, inputs, *v = to(like, W, X, *directions)
    J = forward_mode(there, parameters, forward(there, parameters, inputs), v)
    expected = np.array([[case_J(network, W, x) @ flatten(d) for x in X] for d in directions])
    assert_close(J, expected, like)


def test_backward_of_several_cotangents_is_that_of_each(problem, like, rng):
    network, there, W, X = problem
    Dz = rng.standard_normal((3, 6, network.sizes[-1]))
    parameters, inputs, cotangents = to(like, W, X, Dz)
    forward_pass = ForwardPass(there, parameters, inputs)
    ((_, activities),) = forward_pass.chunks()
    D = [case_jacobians(network, W, x) for x in X]
    g = [np.array([[D[m][i].T @ dz[m] for m in range(6)] for dz in Dz]) for i in range(network.layers)]
    assert_all_close(forward_pass.backward(activities, cotangents), g, like)
    a = [np.array([case_forward(network, W, x)[0][i] for x in X]) for i in range(network.layers)]
    sums = [np.array([g_r.T @ a_i for g_r in g_i]) for g_i, a_i in zip(g, a, strict=True)]
    assert_all_close(forward_pass.pull_back(activities, cotangents), sums, like)


@settings(max_examples=200)
@given(problems())
def test_forward_mode_by_differences(p):
    v, step = p.direction(), 1e-5
    Jv = forward_mode(p.network, p.W, forward(p.network, p.W, p.X), [v])[0]
    ahead, behind = (
        forward(p.network, [W + sign * step * d for W, d in zip(p.W, v, strict=True)], p.X).z for sign in (1, -1)
    )
    scale = max(1.0, np.max(np.abs(ahead)))
    np.testing.assert_allclose(Jv, (ahead - behind) / (2 * step), rtol=0, atol=1e-6 * scale)


@settings(max_examples=200)
@given(problems())
def test_forward_mode_and_backward_are_transposes(p):
    """⟨u, Jv⟩ = ⟨Jᵀu, v⟩."""
    v, activities = p.direction(), forward(p.network, p.W, p.X)
    u = p.rng.standard_normal(activities.z.shape)
    Jv = forward_mode(p.network, p.W, activities, [v])[0]
    g = backward(p.network, p.W, activities, u)
    Jtu = [g_i.T @ a for g_i, a in zip(g, activities.a, strict=True)]
    left, right = np.sum(u * Jv), sum(np.sum(x * y) for x, y in zip(Jtu, v, strict=True))
    scale = np.linalg.norm(u) * np.linalg.norm(Jv) + np.linalg.norm(flatten(Jtu))
    assert abs(left - right) <= 1e-12 * scale


@settings(max_examples=50)
@given(problems())
def test_forward_mode_of_several_directions_is_that_of_each(p):
    directions, activities = [p.direction() for _ in range(3)], forward(p.network, p.W, p.X)
    together = forward_mode(p.network, p.W, activities, directions)
    for r, v in enumerate(directions):
        np.testing.assert_allclose(
            together[r], forward_mode(p.network, p.W, activities, [v])[0], rtol=1e-12, atol=1e-13
        )


# --- batches in chunks ---------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(problems())
def test_chunks_cover_the_first_cases_in_order(p):
    m, whole = len(p.X), forward(p.network, p.W, p.X)
    for chunk_size in range(1, m + 2):
        for cases in range(1, m + 1):
            rows, parts = zip(*ForwardPass(p.network, p.W, p.X, chunk_size).chunks(cases), strict=True)
            assert [i for r in rows for i in range(m)[r]] == list(range(cases))
            assert all(len(part.z) <= max(chunk_size, 1) for part in parts)
            for i in range(p.network.layers):
                together = np.concatenate([part.a[i] for part in parts])
                np.testing.assert_allclose(together, whole.a[i][:cases], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(np.concatenate([q.z for q in parts]), whole.z[:cases], rtol=1e-12, atol=1e-13)


def test_a_batch_in_one_chunk_is_passed_forward_once(monkeypatch, rng):
    """§8: the activities are shared by all who need them; a larger batch is passed forward again, chunk by chunk."""
    calls = []
    monkeypatch.setattr(passes, "forward", lambda *args: calls.append(len(args[2])) or forward(*args))
    network = Network([2, 3, 1], "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((7, 2))
    shared = ForwardPass(network, W, X, chunk_size=7)
    list(shared.chunks()), list(shared.chunks(3)), list(shared.chunks())
    assert calls == [7]
    calls.clear()
    chunked = ForwardPass(network, W, X, chunk_size=3)
    list(chunked.chunks()), list(chunked.chunks(4))
    assert calls == [3, 3, 1, 3, 1]


def test_head_is_the_first_cases(like, rng):
    network = Network([2, 3, 2], "softplus", "gaussian")
    W, X, Dz = random_parameters(rng, network), rng.standard_normal((5, 2)), rng.standard_normal((2, 2))
    parameters, inputs, cotangent = to(like, W, X, Dz)
    head = forward(network, parameters, inputs).head(2)
    apart = forward(network, parameters, to(like, X[:2]))
    assert_close(head.z, to_numpy(apart.z), like)
    assert_all_close(
        backward(network, parameters, head, cotangent),
        [to_numpy(g) for g in backward(network, parameters, apart, cotangent)],
        like,
    )
    assert head.head(9) is head


def test_smaller_chunks_of_the_same_batch(rng):
    network = Network([2, 3, 1], "tanh", "gaussian")
    whole = ForwardPass(network, random_parameters(rng, network), rng.standard_normal((7, 2)), chunk_size=5)
    assert whole.limited(5) is whole and whole.limited(100) is whole
    assert [rows.stop - rows.start for rows, _ in whole.limited(3).chunks()] == [3, 3, 1]
    assert whole.limited(0).chunk_size == 1


def test_what_goes_through_a_chunk_together_is_bounded(monkeypatch, rng):
    """By the largest of their arrays: (cases of a chunk) × (widest layer), or the largest W_i."""
    network = Network([50, 3, 4], "tanh", "gaussian")
    W, X = random_parameters(rng, network), rng.standard_normal((100, 50))
    monkeypatch.setattr(passes, "ENTRIES", 2000)
    assert ForwardPass(network, W, X).together == 2000 // (100 * 4)
    assert ForwardPass(network, W, X, chunk_size=10).together == 2000 // (51 * 3)
    monkeypatch.setattr(passes, "ENTRIES", 100)
    assert ForwardPass(network, W, X).together == 1
