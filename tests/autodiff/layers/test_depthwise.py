"""Depthwise convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.layers.convolution import Convolution
from autodiff.layers.depthwise import DepthwiseConvolution
from autodiff.layers.pooling import packed
from tests.autodiff.layers.checks import check

CASES = {
    "plain": ({"kernel": [2, 3], "activation": "tanh"}, (2, 4, 5)),
    "without bias": ({"kernel": [2, 2], "bias": False, "activation": "relu"}, (3, 3, 4)),
    "padded": ({"kernel": [3, 3], "padding": [1, 2], "activation": "logistic"}, (2, 3, 4)),
    "stride": ({"kernel": 2, "stride": [2, 3], "activation": "softplus"}, (2, 5, 6)),
    "dilated": ({"kernel": [2, 2], "dilation": [2, 3], "padding": 1}, (2, 4, 5)),
    "one channel": ({"kernel": [2, 2]}, (1, 3, 3)),
    "one location": ({"kernel": [3, 2]}, (2, 3, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_against_one_location_at_a_time(case, like, rng):
    keys, shape = CASES[case]
    check({"kind": "depthwise-conv"} | keys, shape, like, rng)


def test_it_is_a_convolution_whose_kernels_are_0_for_other_channels(rng):
    c, shape = 3, (3, 5, 4)
    layer = DepthwiseConvolution(input=shape, kernel=(2, 3), padding=(1, 0), activation="tanh")
    full = Convolution(input=shape, out=c, kernel=(2, 3), padding=(1, 0), activation="tanh")
    W, x = rng.standard_normal(layer.shape), packed(rng.standard_normal((4, *shape)), shape)
    kernels = np.zeros((c, c, 6))
    kernels[np.arange(c), np.arange(c)] = W[:, :-1]
    wide = np.concatenate([kernels.reshape(c, -1), W[:, -1:]], axis=1)
    np.testing.assert_allclose(layer.forward(W, x)[0], full.forward(wide, x)[0], rtol=1e-13, atol=1e-13)


def test_it_has_no_rows(rng):
    """Channels have rows of their own."""
    layer = DepthwiseConvolution(input=(2, 3, 3), kernel=(2, 2))
    _, tape = layer.forward(rng.standard_normal(layer.shape), rng.standard_normal((4, 3, 3, 2)))
    assert not layer.kronecker
    with pytest.raises(NotImplementedError, match="kind depthwise-conv has no rows"):
        layer.rows(tape)
