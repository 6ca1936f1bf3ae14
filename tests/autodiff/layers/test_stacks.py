"""Random stacks of all kinds of layers: the three passes, h and ∇h."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings

from autodiff import loss_and_gradient
from autodiff.layers import KINDS
from autodiff.network import described
from autodiff.objective import loss
from autodiff.passes import ForwardPass, backward, forward, forward_mode
from tests.conftest import assert_all_close, assert_close, make_like, to
from tests.dense import case_loss, flatten
from tests.stacks import KINDS as KINDS_OF_STACKS
from tests.stacks import stacks

ETA = 0.03


def test_every_kind_is_drawn():
    assert {kind for kinds in KINDS_OF_STACKS.values() for kind in kinds} == set(KINDS)


def moved(p, v, step):
    return [W + step * d for W, d in zip(p.W, v, strict=True)]


@settings(max_examples=300)
@given(stacks())
def test_forward_against_one_location_at_a_time(p):
    activities = forward(p.network, p.W, p.X)
    z = p.z.reshape(len(p.X), -1)
    np.testing.assert_allclose(activities.z, z, rtol=0, atol=1e-12 * max(1, np.abs(z).max()))
    assert (p.network.output, p.network.outputs) == (p.z.shape[1:], z.shape[1])
    flat = forward(p.network, p.W, p.X.reshape(len(p.X), -1))
    np.testing.assert_array_equal(flat.z, activities.z)


@settings(max_examples=50)
@given(stacks())
def test_h_is_the_sum_over_positions(p):
    name, (m, *_), C = p.network.likelihood.name, p.z.shape, p.z.shape[-1]
    pairs = zip(p.z.reshape(-1, C), p.Y.reshape(-1, C), strict=True)
    expected = sum(case_loss(name, z, y) for z, y in pairs) / m + 0.5 * ETA * np.sum(flatten(p.W) ** 2)
    assert abs(loss(ForwardPass(p.network, p.W, p.X), p.Y, ETA).h - expected) <= 1e-12 * max(1, expected)


@settings(max_examples=300)
@given(stacks())
def test_gradient_by_differences(p):
    """Central differences of h along two random directions, relative to ‖∇h‖."""

    def h(W):
        return float(loss(ForwardPass(p.network, W, p.X), p.Y, ETA).h)

    value, gradient = loss_and_gradient(ForwardPass(p.network, p.W, p.X), p.Y, ETA)
    size, step = np.linalg.norm(flatten(gradient)), 1e-5
    for _ in range(2):
        v = p.direction()
        difference = (h(moved(p, v, step)) - h(moved(p, v, -step))) / (2 * step)
        # rounding of h itself, 1e-16 h / step, is allowed for
        allowed = 1e-6 * size + 1e-10 * max(1.0, float(value.h))
        assert abs(difference - flatten(gradient) @ flatten(v)) <= allowed


@settings(max_examples=300)
@given(stacks())
def test_forward_mode_by_differences(p):
    v, step = p.direction(), 1e-5
    Jv = forward_mode(p.network, p.W, forward(p.network, p.W, p.X), [v])[0]
    ahead, behind = (forward(p.network, moved(p, v, sign * step), p.X).z for sign in (1, -1))
    scale = max(1.0, np.max(np.abs(ahead)))
    np.testing.assert_allclose(Jv, (ahead - behind) / (2 * step), rtol=0, atol=1e-6 * scale)


@settings(max_examples=300)
@given(stacks())
def test_forward_mode_and_backward_are_transposes(p):
    """⟨u, Jv⟩ = ⟨Jᵀu, v⟩."""
    v, forward_pass = p.direction(), ForwardPass(p.network, p.W, p.X)
    ((_, activities),) = forward_pass.chunks()
    u = p.rng.standard_normal(activities.z.shape)
    Jv = forward_pass.forward_mode(activities, [v])[0]
    Jtu = forward_pass.pull_back(activities, u)
    left, right = np.sum(u * Jv), flatten(Jtu) @ flatten(v)
    scale = np.linalg.norm(u) * np.linalg.norm(Jv) + np.linalg.norm(flatten(Jtu))
    assert abs(left - right) <= 1e-12 * scale


@settings(max_examples=50)
@given(stacks())
def test_several_at_once_are_one_at_a_time(p):
    forward_pass = ForwardPass(p.network, p.W, p.X)
    ((_, activities),) = forward_pass.chunks()
    u, directions = p.rng.standard_normal((3, *activities.z.shape)), [p.direction() for _ in range(3)]
    together, pushed = forward_pass.pull_back(activities, u), forward_pass.forward_mode(activities, directions)
    g = backward(p.network, p.W, activities, u)
    for r in range(3):
        alone = flatten(forward_pass.pull_back(activities, u[r]))
        size = 1e-12 * max(1, np.abs(alone).max())
        np.testing.assert_allclose(flatten([V[r] for V in together]), alone, rtol=0, atol=size)
        for g_i, one in zip(g, backward(p.network, p.W, activities, u[r]), strict=True):
            np.testing.assert_allclose(g_i[r], one, rtol=0, atol=1e-12 * max(1, np.abs(one).max()))
        one = forward_pass.forward_mode(activities, directions[r : r + 1])[0]
        np.testing.assert_allclose(pushed[r], one, rtol=0, atol=1e-12 * max(1, np.abs(one).max()))


@settings(max_examples=50)
@given(stacks())
def test_cases_by_themselves(p):
    """𝒟θ of each case, and chunks of one case and heads of one."""
    forward_pass = ForwardPass(p.network, p.W, p.X)
    ((_, activities),) = forward_pass.chunks()
    u = p.rng.standard_normal(activities.z.shape)
    g = backward(p.network, p.W, activities, u)
    each = [layer.case_gradients(tape, g_i) for (layer, tape), g_i in zip(activities.weighted(), g, strict=True)]
    for i, (_, alone) in enumerate(ForwardPass(p.network, p.W, p.X, chunk_size=1).chunks()):
        expected = flatten(forward_pass.pull_back(alone, u[i : i + 1]))
        np.testing.assert_allclose(
            flatten([D[i] for D in each]), expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max())
        )
    first, only = activities.head(1), forward(p.network, p.W, p.X[:1])
    expected = flatten(forward_pass.pull_back(only, u[:1]))
    np.testing.assert_allclose(
        flatten(forward_pass.pull_back(first, u[:1])), expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max())
    )


@settings(max_examples=30)
@given(stacks())
def test_on_another_library_and_device(p):
    like, u, v = make_like("strict-float64"), p.rng.standard_normal(p.Y.shape), p.direction()
    here, (parameters, direction) = ForwardPass(p.network, p.W, p.X), to(like, p.W, v)
    there = ForwardPass(p.network, parameters, to(like, p.X))
    ((_, expected),), ((_, activities),) = here.chunks(), there.chunks()
    assert_close(activities.z, expected.z, like)
    assert_all_close(there.pull_back(activities, to(like, u)), here.pull_back(expected, u), like)
    assert_close(there.forward_mode(activities, [direction]), here.forward_mode(expected, [v]), like)
    value, gradient = loss_and_gradient(there, to(like, p.Y), ETA)
    same, expected_gradient = loss_and_gradient(here, p.Y, ETA)
    assert_close(value.h, same.h, like)
    assert_all_close(gradient, expected_gradient, like)


@settings(max_examples=100)
@given(stacks())
def test_descriptions_go_through_json(p):
    """And back to the same network."""
    again = described(json.loads(json.dumps(p.network.description())))
    assert again == p.network
    assert again.description() == p.network.description()
    assert str(again) == str(p.network)
