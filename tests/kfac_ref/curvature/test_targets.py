"""kfac_ref.curvature.targets: targets for the factors, by rows and outputs."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.passes import ForwardPass
from kfac_ref.curvature import targets
from tests.conftest import random_parameters
from tests.kfac_ref.test_optimizer import draw_batch, make_network


def drawn(forward_pass: ForwardPass, cases: int) -> np.ndarray:
    draw = targets.drawn(forward_pass, cases, (3, 2, 1))
    return np.concatenate([draw(rows, activities.z) for rows, activities in forward_pass.chunks(cases)])


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_drawn_targets_do_not_depend_on_chunks(rng, likelihood):
    network = make_network(likelihood)
    X, _ = draw_batch(rng, network)
    W = random_parameters(rng, network)
    whole = drawn(ForwardPass(network, W, X), 6)
    assert whole.shape == (6, network.sizes[-1])
    np.testing.assert_allclose(drawn(ForwardPass(network, W, X, chunk_size=4), 6), whole, rtol=1e-12, atol=1e-12)


def test_given_targets_are_handed_on_and_must_fit(rng):
    network = make_network("gaussian")
    X, Y = draw_batch(rng, network)
    forward_pass = ForwardPass(network, random_parameters(rng, network), X)
    give = targets.given(forward_pass, 6, Y[:6])
    np.testing.assert_array_equal(give(slice(2, 5), None), Y[2:5])
    with pytest.raises(ValueError, match=r"sampled targets have shape .*, expected \(6, 2\)"):
        targets.given(forward_pass, 6, Y[:5])
    with pytest.raises(TypeError, match="sampled"):
        targets.given(forward_pass, 6, Y[:6].astype(np.float32))
