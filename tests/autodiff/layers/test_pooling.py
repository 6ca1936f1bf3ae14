"""Pooling, means over locations, and flatten."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.layers.pooling import Flatten, MaxPool, packed
from tests.autodiff.layers.checks import check

WINDOWS = {
    "side by side": ({"size": [2, 2]}, (2, 4, 6)),
    "not to the edge": ({"size": 2}, (2, 3, 5)),
    "overlapping": ({"size": [3, 2], "stride": [1, 1]}, (2, 4, 3)),
    "with gaps": ({"size": [1, 2], "stride": [2, 3]}, (2, 4, 6)),
    "the whole image": ({"size": [3, 2]}, (2, 3, 2)),
    "one pixel": ({"size": [1, 1]}, (2, 2, 3)),
}


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("kind", ["average-pool", "max-pool"])
def test_pools_against_one_window_at_a_time(kind, case, like, rng):
    keys, shape = WINDOWS[case]
    check({"kind": kind} | keys, shape, like, rng)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        *[("global-mean", (2, 3, 4)), ("global-mean", (1, 1, 1))],
        *[("mean-over-positions", (4, 3)), ("mean-over-positions", (1, 2))],
        *[("flatten", (4,)), ("flatten", (3, 4)), ("flatten", (2, 3, 4))],
    ],
    ids=str,
)
def test_means_and_flatten_against_one_case_at_a_time(kind, shape, like, rng):
    check({"kind": kind}, shape, like, rng)


def test_of_equal_ones_the_first_has_the_derivative(rng):
    layer = MaxPool(input=(1, 2, 2), size=(2, 2))
    x = packed(np.array([[[[0.0, 3.0], [3.0, 3.0]]]]), layer.input)
    value, tape = layer.forward(None, x)
    assert value[0, 0, 0, 0] == 3
    Dx = layer.pull(None, tape, np.full((1, 1, 1, 1), 5.0))
    np.testing.assert_array_equal(Dx[0, :, :, 0], [[0, 5], [0, 0]])
    np.testing.assert_array_equal(layer.push(None, tape, np.arange(4.0).reshape(1, 1, 2, 2, 1), [None]), [[[[[1.0]]]]])


def test_a_flat_image_is_in_the_order_of_its_description(rng):
    x = rng.standard_normal((4, 2, 3, 5))
    layer = Flatten(input=(2, 3, 5))
    np.testing.assert_array_equal(layer.forward(None, packed(x, layer.input))[0], x.reshape(4, -1))
