"""The table of activations, and affine reparameterisations of them."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import ACTIVATIONS, Affine
from autodiff.activations import activation
from autodiff.arrays import to_numpy
from tests import naive_layers
from tests.conftest import assert_close, assert_home, random_affine, to
from tests.dense import PHI, phi_of

NAMES = sorted(ACTIVATIONS)


def test_the_table_has_what_the_tests_know():
    assert sorted(PHI) == sorted(naive_layers.PHI) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_value_and_derivative(like, rng, name):
    s = np.linspace(-4, 4, 40).reshape(8, 5)  # 40 points, so that 0, ReLU's kink, is not among them
    tangent = rng.standard_normal((2, 8, 5))
    value, slope = PHI[name]
    phi = ACTIVATIONS[name]
    a, saved = phi.value(to(like, s))
    assert_close(a, value(s), like)
    assert_close(phi.push(saved, to(like, tangent)), slope(s) * tangent, like)
    assert_close(phi.pull(saved, to(like, tangent[0])), slope(s) * tangent[0], like)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_by_differences(name):
    s, step = np.linspace(-6, 6, 40), 1e-6
    phi = ACTIVATIONS[name]
    difference = (phi.value(s + step)[0] - phi.value(s - step)[0]) / (2 * step)
    np.testing.assert_allclose(phi.push(phi.value(s)[1], np.ones(40)), difference, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_overflows(like, name):
    s = np.array([-1e30, -1e4, -710.0, -104.0, -88.0, 88.0, 104.0, 710.0, 1e4, 1e30])
    limits = {  # values and slopes at −∞ and at ∞; None for unbounded values, which must be s itself
        "tanh": (-1, 1, 0, 0),
        "logistic": (0, 1, 0, 0),
        "relu": (0, None, 0, 1),
        "softplus": (0, None, 0, 1),
        "identity": (None, None, 1, 1),
    }[name]
    there = to(like, s)
    with np.errstate(all="raise", under="ignore"):
        a, saved = ACTIVATIONS[name].value(there)
        slope = ACTIVATIONS[name].push(saved, to(like, np.ones(10)))
    assert_home(a, like)
    a, slope, s = to_numpy(a), to_numpy(slope), to_numpy(there)
    below, above = slice(0, 5), slice(5, 10)
    for part, value, derivative in ((below, limits[0], limits[2]), (above, limits[1], limits[3])):
        # e^−88 = 6e-39: the functions are at their limits to within that
        np.testing.assert_allclose(a[part], s[part] if value is None else value, rtol=0, atol=1e-38)
        np.testing.assert_allclose(slope[part], derivative, rtol=0, atol=1e-38)


def test_softplus_slope_keeps_its_digits_where_it_is_small():
    s = np.array([-700.0, -300.0, -40.0])
    slope = ACTIVATIONS["softplus"].push(ACTIVATIONS["softplus"].value(s)[1], np.ones(3))
    np.testing.assert_allclose(slope, np.exp(s), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_affine(like, rng, name):
    d = 4
    plain = random_affine(rng, name, d)
    there = Affine(plain.base, *to(like, plain.Omega, plain.omega, plain.Phi))
    s, tangent = rng.standard_normal((6, d)), rng.standard_normal((2, 6, d))
    a, saved = there.value(to(like, s))
    values, slopes = zip(*(phi_of(plain, row) for row in s), strict=True)
    assert_close(a, np.array(values), like)
    assert_close(there.push(saved, to(like, tangent)), np.einsum("mij,rmj->rmi", slopes, tangent), like)
    assert_close(there.pull(saved, to(like, tangent[0])), np.einsum("mij,mi->mj", slopes, tangent[0]), like)


def test_logistic_is_an_affine_tanh(rng):
    """logistic(s) = ½ tanh(s/2) + ½ (§10)."""
    s, v = rng.standard_normal((2, 5, 3))
    made = Affine(ACTIVATIONS["tanh"], np.eye(3) / 2, np.full(3, 0.5), np.eye(3) / 2)
    (a, saved), (b, kept) = made.value(s), ACTIVATIONS["logistic"].value(s)
    np.testing.assert_allclose(a, b, rtol=1e-14)
    np.testing.assert_allclose(made.pull(saved, v), ACTIVATIONS["logistic"].pull(kept, v), rtol=1e-12, atol=1e-15)


def test_affine_of_affine(rng):
    inner, outer = random_affine(rng, "tanh", 3), random_affine(rng, "tanh", 3)
    nested = Affine(inner, outer.Omega, outer.omega, outer.Phi)
    s = rng.standard_normal((2, 3))
    np.testing.assert_allclose(nested.value(s)[0], [phi_of(nested, row)[0] for row in s], rtol=1e-12)


def test_names():
    assert activation("tanh") is ACTIVATIONS["tanh"]
    made = Affine(ACTIVATIONS["relu"], np.eye(2), np.zeros(2), np.eye(2))
    assert activation(made) is made
    assert made.name == "affine(relu)"
    with pytest.raises(ValueError, match='unknown activation "sigmoid"'):
        activation("sigmoid")
    with pytest.raises(TypeError, match="value, push and pull; got int"):
        activation(3)


@pytest.mark.parametrize("which", ["Omega", "Phi"])
def test_affine_shapes(which):
    parts = {"Omega": np.eye(2), "omega": np.zeros(2), "Phi": np.eye(2)} | {which: np.zeros((2, 3))}
    with pytest.raises(ValueError, match=rf"Affine: {which} has shape \(2, 3\), expected \(2, 2\)"):
        Affine(ACTIVATIONS["tanh"], **parts)
