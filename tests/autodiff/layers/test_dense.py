"""Fully connected layers, on vectors and on sequences."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.layers.dense import Dense
from tests.autodiff.layers.checks import check

CASES = {
    "vector": ({"out": 3, "activation": "tanh"}, (4,)),
    "vector without bias": ({"out": 3, "bias": False, "activation": "relu"}, (4,)),
    "sequence": ({"out": 3, "activation": "logistic"}, (4, 2)),
    "sequence without bias": ({"out": 2, "bias": False, "activation": "softplus"}, (3, 4)),
    "one position": ({"out": 2}, (1, 3)),
    "one unit": ({"out": 1}, (1,)),
}


@pytest.mark.parametrize("case", CASES)
def test_against_one_location_at_a_time(case, like, rng):
    keys, shape = CASES[case]
    check({"kind": "dense"} | keys, shape, like, rng)


def test_a_sequence_is_its_positions_one_by_one(rng):
    W, x = rng.standard_normal((3, 5)), rng.standard_normal((6, 7, 4))
    together, _ = Dense(input=(7, 4), out=3, activation="tanh").forward(W, x)
    alone, _ = Dense(input=(4,), out=3, activation="tanh").forward(W, x.reshape(-1, 4))
    np.testing.assert_array_equal(together.reshape(-1, 3), alone)


def test_the_copy_of_x_in_the_rows_is_that_of_vectors_with_a_bias(rng):
    x = rng.standard_normal((6, 4))
    layer, W = Dense(input=(4,), out=3), rng.standard_normal((3, 5))
    np.testing.assert_array_equal(layer.again(layer.forward(W, x)[1]), x)
    plain = Dense(input=(4,), out=3, bias=False)
    assert plain.again(plain.forward(W[:, :4], x)[1]) is None
