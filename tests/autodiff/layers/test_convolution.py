"""Convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate2d

from autodiff.layers.convolution import Convolution
from autodiff.layers.dense import Dense
from autodiff.layers.pooling import packed
from tests.autodiff.layers.checks import check

CASES = {
    "plain": ({"out": 3, "kernel": [2, 3], "activation": "tanh"}, (2, 4, 5)),
    "without bias": ({"out": 2, "kernel": [2, 2], "bias": False, "activation": "relu"}, (2, 3, 4)),
    "padded": ({"out": 2, "kernel": [3, 3], "padding": [1, 2], "activation": "logistic"}, (2, 3, 4)),
    "one channel, padded": ({"out": 2, "kernel": 2, "padding": 1}, (1, 3, 3)),
    "stride": ({"out": 2, "kernel": [2, 1], "stride": [2, 3], "activation": "softplus"}, (2, 5, 6)),
    "a stride that leaves pixels out": ({"out": 2, "kernel": [2, 2], "stride": [3, 3]}, (3, 4, 7)),
    "dilated": ({"out": 2, "kernel": [2, 2], "dilation": [2, 3], "activation": "tanh"}, (2, 4, 5)),
    "dilated downwards": ({"out": 2, "kernel": [2, 3], "dilation": [3, 1], "stride": [1, 2]}, (2, 5, 5)),
    "all at once": (
        {"out": 2, "kernel": [2, 3], "stride": [2, 1], "padding": [1, 1], "dilation": [2, 2], "bias": False},
        (3, 4, 4),
    ),
    "one location": ({"out": 3, "kernel": [3, 2], "activation": "tanh"}, (2, 3, 2)),
    "one pixel": ({"out": 3, "kernel": [1, 1]}, (2, 1, 1)),
    "a row": ({"out": 2, "kernel": [1, 2], "activation": "tanh"}, (2, 1, 4)),
    "a column": ({"out": 2, "kernel": [2, 1], "activation": "tanh"}, (2, 4, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_against_one_location_at_a_time(case, like, rng):
    keys, shape = CASES[case]
    check({"kind": "conv"} | keys, shape, like, rng)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_as_scipy_correlates(mode, rng):
    """A cross-correlation, summed over channels, as deep learning has it: the kernel is not turned around."""
    c, k, x = 3, 3, rng.standard_normal((4, 3, 6, 5))
    padding = {"valid": 0, "same": 1, "full": 2}[mode]
    layer = Convolution(input=(c, 6, 5), out=2, kernel=k, padding=padding)
    W = rng.standard_normal(layer.shape)
    y, _ = layer.forward(W, packed(x, layer.input))
    for case, image in zip(x, y, strict=True):
        for unit, row in enumerate(W):
            kernels = row[:-1].reshape(c, k, k)
            expected = sum(correlate2d(case[i], kernels[i], mode) for i in range(c)) + row[-1]
            np.testing.assert_allclose(image[..., unit], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_with_one_location_it_is_the_dense_layer(bias, rng):
    """On the image as a vector: values, both derivatives, rows and their moment, from the same W."""
    shape, m = (3, 4, 2), 5
    layer = Convolution(input=shape, out=4, kernel=shape[1:], bias=bias, activation="tanh")
    dense = Dense(input=(24,), out=4, bias=bias, activation="tanh")
    assert layer.shape == dense.shape and layer.locations == 1 and layer.output == (4, 1, 1)
    W, V, x = rng.standard_normal(layer.shape), rng.standard_normal(layer.shape), rng.standard_normal((m, *shape))
    dx, Dy = rng.standard_normal((1, m, *shape)), rng.standard_normal((m, 4))
    (y, tape), (z, kept) = layer.forward(W, packed(x, shape)), dense.forward(W, x.reshape(m, -1))
    close = {"rtol": 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(y.reshape(m, 4), z, **close)
    np.testing.assert_array_equal(layer.rows(tape), dense.rows(kept))
    np.testing.assert_allclose(layer.moment(tape), dense.moment(kept), **close)
    g, also = layer.backward(W, tape, Dy.reshape(m, 1, 1, 4)), dense.backward(W, kept, Dy)
    np.testing.assert_allclose(g, also, **close)
    np.testing.assert_allclose(layer.gradient(tape, g), dense.gradient(kept, also), **close)
    Dx = np.moveaxis(layer.pull(W, tape, g), -1, 1).reshape(m, -1)
    np.testing.assert_allclose(Dx, dense.pull(W, kept, also), **close)
    dy = layer.push(W, tape, packed(dx, shape), [V]).reshape(1, m, 4)
    np.testing.assert_allclose(dy, dense.push(W, kept, dx.reshape(1, m, -1), [V]), **close)


@pytest.mark.parametrize("order", ["channels first", "channels last", "a part"])
def test_images_may_lie_in_memory_as_they_like(order, rng):
    """A patch's row is copied as a whole where pixels lie behind each other, and images are brought in order else."""
    layer = Convolution(input=(2, 4, 5), out=3, kernel=(2, 3), stride=(1, 2))
    W, x = rng.standard_normal(layer.shape), rng.standard_normal((3, 4, 5, 2))
    expected, tape = layer.forward(W, x)
    if order == "channels first":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1)
    elif order == "a part":
        larger = np.full((3, 6, 8, 2), np.nan)
        larger[:, 1:5, 2:7, :] = x
        x = larger[:, 1:5, 2:7, :]
    value, other = layer.forward(W, x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(other.a, tape.a)


def test_what_an_input_sees_and_feeds():
    """For initial weights: a kernel's entries times channels."""
    layer = Convolution(input=(3, 8, 8), out=5, kernel=(2, 4))
    assert (layer.fan_in, layer.fan_out) == (24, 40)


def test_the_largest_array_is_the_patches_or_the_padded_image():
    """With a stride beyond the kernel more pixels are looked over than seen."""
    layer = Convolution(input=(3, 8, 8), out=5, kernel=(2, 4), padding=(1, 1))
    assert layer.entries == 9 * 7 * (24 + 1)
    assert Convolution(input=(3, 8, 8), out=5, kernel=1, padding=1, stride=5).entries == 3 * 10 * 10
