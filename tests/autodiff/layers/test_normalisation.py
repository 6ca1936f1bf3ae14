"""Layer normalisation, and batch normalisation with given statistics."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.layers.normalisation import BatchNorm, LayerNorm
from tests.autodiff.layers.checks import check

STATISTICS = {"mean": [0.5, -1.0, 0.25], "variance": [0.5, 2.0, 0.0]}
CASES = {
    "layer, vector": ({"kind": "layer-norm", "activation": "tanh"}, (5,)),
    "layer, sequence": ({"kind": "layer-norm", "epsilon": 0.1, "activation": "softplus"}, (3, 4)),
    "layer, image": ({"kind": "layer-norm", "epsilon": 0.5, "activation": "logistic"}, (3, 2, 4)),
    "layer, one feature": ({"kind": "layer-norm"}, (1,)),
    "batch, vector": ({"kind": "batch-norm", "epsilon": 0.1, "activation": "tanh", **STATISTICS}, (3,)),
    "batch, sequence": ({"kind": "batch-norm", "epsilon": 0.1, **STATISTICS}, (4, 3)),
    "batch, image": ({"kind": "batch-norm", "epsilon": 0.1, "activation": "relu", **STATISTICS}, (3, 2, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_against_one_location_at_a_time(case, like, rng):
    check(*CASES[case], like, rng)


def test_layer_norm_has_mean_0_and_variance_1_at_each_location(rng):
    layer = LayerNorm(input=(6, 3, 2), epsilon=1e-12)
    W = np.stack([np.ones(6), np.zeros(6)], axis=1)
    y, _ = layer.forward(W, 3 + 2 * rng.standard_normal((4, 3, 2, 6)))
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-10)


def test_batch_norm_of_given_statistics_is_affine(rng):
    layer = BatchNorm(input=(3,), **STATISTICS, epsilon=0.1)
    W, x = rng.standard_normal((3, 2)), rng.standard_normal((5, 3))
    mean, variance = (np.array(STATISTICS[name]) for name in ("mean", "variance"))
    expected = W[:, 0] * (x - mean) / np.sqrt(variance + 0.1) + W[:, 1]
    np.testing.assert_allclose(layer.forward(W, x)[0], expected, rtol=1e-13)


def test_what_is_no_vector_of_statistics_and_no_epsilon():
    for name, value in (("mean", [1.0, 2.0]), ("variance", [1.0, -2.0, 1.0]), ("mean", [1.0, np.nan, 0.0])):
        with pytest.raises(ValueError, match=f"{name} is .*expected 3 finite numbers"):
            BatchNorm(input=(3,), **(STATISTICS | {name: value}))
    for value in (0, -1.0, np.inf, "much", "1e-5", True, None):
        with pytest.raises(ValueError, match=r"epsilon is .*expected a number > 0"):
            LayerNorm(input=(3,), epsilon=value)


@pytest.mark.parametrize("layer", [LayerNorm(input=(3,)), BatchNorm(input=(3,), **STATISTICS)], ids=["layer", "batch"])
def test_it_has_no_rows(layer, rng):
    _, tape = layer.forward(rng.standard_normal((3, 2)), rng.standard_normal((4, 3)))
    with pytest.raises(NotImplementedError, match=f"kind {layer.kind} has no rows"):
        layer.rows(tape)
