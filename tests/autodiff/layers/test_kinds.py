"""Every kind of layer and random stacks of them: each pass against one location at a time, and its complex steps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import namespace, to_numpy
from autodiff.layers import KINDS
from autodiff.network import described
from autodiff.passes import ForwardPass, forward
from tests.autodiff.layers.networks import EXAMPLES, FLAT, conv, made, max_pool, parameters
from tests.conftest import assert_all_close, assert_close, to
from tests.naive_layers import Naive, jacobian
from validation.theorems.stacks import random_stack

M = 3


def batch(network: Network, seed: int = 5, m: int = M) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, *network.input))


def directions(network: Network, r: int, seed: int = 7) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(shape) for shape in network.shapes] for _ in range(r)]


def naive_output(layers, W, x) -> np.ndarray:
    """z of one case."""
    return Naive(W).through(layers, x).reshape(-1)


def naive_outputs(layers, W, X) -> np.ndarray:
    return np.stack([naive_output(layers, W, x) for x in X])


def naive_jacobian(layers, W, X) -> list[np.ndarray]:
    """dz/dW_i of each case: (m, d_ℓ, *shape of W_i) for each layer."""
    return [np.stack([jacobian(lambda *V, c=x: naive_output(layers, V, c), W, i) for x in X]) for i in range(len(W))]


def test_examples_have_every_kind():
    def kinds(layers):
        for layer in layers:
            yield layer["kind"]
            yield from kinds(layer.get("layers", []))

    assert {kind for _, layers in EXAMPLES.values() for kind in kinds(layers)} == {*KINDS, "residual"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_forward_against_loops(name, like):
    network = made(name)
    W, X = parameters(network), batch(network)
    z = forward(network, to(like, W), to(like, X)).z
    assert_close(z, naive_outputs(EXAMPLES[name][1], W, X), like)
    flat = forward(network, to(like, W), to(like, X.reshape(M, -1))).z
    assert_close(flat, naive_outputs(EXAMPLES[name][1], W, X), like)


@pytest.mark.parametrize("name", EXAMPLES)
def test_derivatives_against_differences(name, like64):
    """Backward for two cotangents together, forward-mode for two directions together, and 𝒟W of each case."""
    shape, layers = EXAMPLES[name]
    check_derivatives(Network.of(layers, shape, "gaussian"), layers, like64)


@pytest.mark.parametrize("seed", range(60))
def test_random_stacks(seed):
    shape, layers = random_stack(np.random.default_rng(seed))
    check_derivatives(Network.of(layers, shape, "gaussian"), layers, np.zeros(0))


def check_derivatives(network: Network, layers, like) -> None:
    W, X = parameters(network), batch(network)
    J = naive_jacobian(layers, W, X)
    forward_pass = ForwardPass(network, to(like, W), to(like, X))
    ((_, activities),) = forward_pass.chunks()
    Dz = np.random.default_rng(3).standard_normal((2, M, network.outputs))
    V = directions(network, 2)

    expected = [np.einsum("rmc,mcdp->rdp", Dz, J_i) for J_i in J]
    gradients = forward_pass.pull_back(activities, to(like, Dz))
    assert_all_close(gradients, expected, like)
    tangents = forward_pass.forward_mode(activities, [to(like, v) for v in V])
    expected_tangents = [sum(np.einsum("mcdp,dp->mc", J_i, v_i) for J_i, v_i in zip(J, v, strict=True)) for v in V]
    assert_close(tangents, np.array(expected_tangents), like)

    g = forward_pass.backward(activities, to(like, Dz))
    for i, (layer, tape) in enumerate(activities.weighted(), start=1):
        cases = layer.case_gradients(tape, g[i - 1])
        assert_close(cases, np.einsum("rmc,mcdp->rmdp", Dz, J[i - 1]), like)
        if layer.kronecker:
            a = to_numpy(activities.rows(i))
            assert a.shape == (M * layer.locations, layer.shape[1])
            assert_close(layer.moment(tape), a.T @ a, like, tol=1e-12)
            product = np.swapaxes(to_numpy(g[i - 1]), -1, -2) @ a
            assert_close(layer.gradient(tape, g[i - 1]), product, like, tol=1e-12)

    # the two are adjoint to each other: Σ 𝒟z·(Jv) = Σ (Jᵀ𝒟z)·v
    for r in range(2):
        left = np.sum(Dz[0] * to_numpy(tangents)[r])
        right = sum(np.sum(to_numpy(G)[0] * v) for G, v in zip(gradients, V[r], strict=True))
        assert abs(left - right) <= 1e-12 * max(1.0, abs(left))


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_cotangent_is_as_several(name, like):
    network = made(name)
    forward_pass = ForwardPass(network, to(like, parameters(network)), to(like, batch(network)))
    ((_, activities),) = forward_pass.chunks()
    Dz = to(like, np.random.default_rng(3).standard_normal((2, M, network.outputs)))
    together = forward_pass.pull_back(activities, Dz)
    for r in range(2):
        alone = forward_pass.pull_back(activities, Dz[r, ...])
        assert_all_close(alone, [to_numpy(G)[r] for G in together], like)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_first_cases_alone(name):
    network = made(name)
    W, X = parameters(network), batch(network, m=5)
    forward_pass = ForwardPass(network, W, X)
    ((rows, head),) = forward_pass.chunks(2)
    alone = ForwardPass(network, W, X[:2])
    ((_, activities),) = alone.chunks()
    assert rows == slice(0, 2)
    np.testing.assert_allclose(head.z, activities.z, rtol=1e-12)
    Dz = np.ones((2, network.outputs))
    for a, b in zip(forward_pass.pull_back(head, Dz), alone.pull_back(activities, Dz), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    Jv, Jv_alone = (p.forward_mode(x, directions(network, 2)) for p, x in ((forward_pass, head), (alone, activities)))
    np.testing.assert_allclose(Jv, Jv_alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EXAMPLES)
def test_chunks_change_nothing(name, monkeypatch):
    network = made(name)
    W, X, Dz = parameters(network), batch(network, m=5), np.ones((5, network.outputs))
    whole = ForwardPass(network, W, X)
    ((_, activities),) = whole.chunks()
    monkeypatch.setattr("autodiff.passes.KEPT", 2 * network.kept)
    chunked = ForwardPass(network, W, X)
    assert chunked.chunk_size == 2
    parts = [chunked.pull_back(a, Dz[rows]) for rows, a in chunked.chunks()]
    for total, each in zip(whole.pull_back(activities, Dz), zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(sum(each), total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EXAMPLES)
def test_results_are_at_home(name, like):
    network = made(name)
    forward_pass = ForwardPass(network, to(like, parameters(network)), to(like, batch(network)))
    ((_, activities),) = forward_pass.chunks()
    for x in forward_pass.backward(activities, activities.z):
        assert namespace(x) is namespace(like) and x.dtype == like.dtype


@pytest.mark.parametrize("name", EXAMPLES)
def test_descriptions_make_the_same_network(name):
    network = made(name)
    again = described(json.loads(json.dumps(network.description())))
    assert again.stages == network.stages and again.output == network.output
    assert str(again) == str(network)


def test_a_convolution_of_one_location_is_a_dense_layer():
    """Bit for bit: the same products of the same matrices."""
    rng = np.random.default_rng(0)
    W, X = rng.standard_normal((4, 13)), rng.standard_normal((5, 12))
    whole = Network.of([{"kind": "conv", "out": 4, "kernel": [3, 4]}, {"kind": "flatten"}], (1, 3, 4), "gaussian")
    dense = Network.of([{"kind": "dense", "out": 4}], (12,), "gaussian")
    channels = Network.of([{"kind": "conv", "out": 4, "kernel": 1}, {"kind": "flatten"}], (12, 1, 1), "gaussian")
    for network in (whole, channels):
        ours, plain = (ForwardPass(n, [W], X) for n in (network, dense))
        ((_, a),), ((_, b),) = ours.chunks(), plain.chunks()
        np.testing.assert_array_equal(a.z, b.z)
        np.testing.assert_array_equal(ours.pull_back(a, a.z)[0], plain.pull_back(b, b.z)[0])


def test_of_equal_ones_the_first_has_the_derivative():
    layers = [conv(1, 1, "identity", bias=False), max_pool(2), FLAT]
    network = Network.of(layers, (1, 2, 2), "gaussian")
    forward_pass = ForwardPass(network, [np.ones((1, 1))], np.array([[2.0, 2.0, 1.0, 2.0]]))
    ((_, activities),) = forward_pass.chunks()
    (g,) = forward_pass.backward(activities, np.ones((1, 1)))
    np.testing.assert_array_equal(g.ravel(), [1, 0, 0, 0])
