"""Layouts of a layer's matrix and vector, against loops over entries."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle.layouts import arrangements, orders

D, N = 3, 2
W = np.array([[11.0, 12.0, 10.0], [21.0, 22.0, 20.0], [31.0, 32.0, 30.0]])
"""(3, 2 + 1): entry rc is in row r and column c, the bias is column 0 and stands last."""
WEIGHTS, BIAS = W[:, :2], W[:, 2]


def read(theirs, bias: str, layout: str | None, part: str = ""):
    """The one reading of theirs that is called so."""
    found = [a for a in arrangements(theirs, D, N, part) if (a.bias, a.layout) == (bias, layout)]
    assert len(found) == 1
    return found[0]


def test_the_project_s_own_needs_no_conversion():
    a = read(W, "last", None)
    np.testing.assert_array_equal(a.matrix, W)
    assert a.own and a.cost == min(b.cost for b in arrangements(W, D, N))


def test_bias_first():
    a = read(np.column_stack([BIAS, WEIGHTS]), "first", None)
    np.testing.assert_array_equal(a.matrix, W)
    assert not a.own


def test_bias_absent():
    a = read(WEIGHTS, "absent", None)
    np.testing.assert_array_equal(a.matrix, WEIGHTS)
    assert not a.own


def test_weights_and_bias_apart():
    weights, bias = read(WEIGHTS, "separate", None, "weight"), read(BIAS, "separate", None, "bias")
    np.testing.assert_array_equal(weights.matrix, WEIGHTS)
    np.testing.assert_array_equal(bias.matrix, BIAS[:, None])
    assert weights.own and bias.own


def test_transposed():
    np.testing.assert_array_equal(read(W.T, "last", "transposed").matrix, W)
    np.testing.assert_array_equal(read(np.vstack([BIAS, WEIGHTS.T]), "first", "transposed").matrix, W)
    np.testing.assert_array_equal(read(WEIGHTS.T, "separate", "transposed", "weight").matrix, WEIGHTS)


@pytest.mark.parametrize(
    ("theirs", "bias", "layout"),
    [
        ([11, 21, 31, 12, 22, 32, 10, 20, 30], "last", "flat, column-major"),
        ([11, 12, 10, 21, 22, 20, 31, 32, 30], "last", "flat, row-major"),
        ([10, 20, 30, 11, 21, 31, 12, 22, 32], "first", "flat, column-major"),
        ([10, 11, 12, 20, 21, 22, 30, 31, 32], "first", "flat, row-major"),
        ([11, 12, 21, 22, 31, 32, 10, 20, 30], "last", "flat, row-major, bias after the weights"),
        ([10, 20, 30, 11, 12, 21, 22, 31, 32], "first", "flat, row-major, bias before the weights"),
    ],
)
def test_flat(theirs, bias, layout):
    np.testing.assert_array_equal(read(np.array(theirs, dtype=float), bias, layout).matrix, W)


def test_a_shape_that_is_none_of_a_layer_s_has_no_reading():
    assert not list(arrangements(np.ones((4, 5)), D, N))


def test_a_reading_is_of_float64():
    assert all(a.matrix.dtype == np.float64 for a in arrangements(W.astype(np.float32), D, N))


@pytest.mark.parametrize(
    ("bias", "layout", "expected"),
    [
        ("last", "column-major", [11, 21, 31, 12, 22, 32, 10, 20, 30]),
        ("last", "row-major", [11, 12, 10, 21, 22, 20, 31, 32, 30]),
        ("last", "row-major weights, then the bias", [11, 12, 21, 22, 31, 32, 10, 20, 30]),
        ("first", "the bias, then row-major weights", [10, 20, 30, 11, 12, 21, 22, 31, 32]),
        ("first", "column-major", [10, 20, 30, 11, 21, 31, 12, 22, 32]),
        ("first", "row-major", [10, 11, 12, 20, 21, 22, 30, 31, 32]),
        ("absent", "column-major", [11, 21, 31, 12, 22, 32]),
        ("absent", "row-major", [11, 12, 21, 22, 31, 32]),
    ],
)
def test_orders_of_a_vector(bias, layout, expected):
    vec = W.flatten(order="F")  # the project's: columns stacked, the bias last
    (order,) = [o for o in orders(D, N) if (o.bias, o.layout) == (bias, layout)]
    np.testing.assert_array_equal(vec[order.index], expected)


def test_the_project_s_own_order_is_the_simplest():
    found = orders(D, N)
    own = min(found, key=lambda o: o.cost)
    np.testing.assert_array_equal(own.index, np.arange(D * (N + 1)))
    assert (own.cost, own.bias, own.layout) == (0.0, "last", "column-major")
    assert len({tuple(o.index) for o in found}) == len(found)
