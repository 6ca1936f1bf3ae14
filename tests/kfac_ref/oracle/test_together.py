"""Where outputs have positions: what is added too early is named, and a mean over positions is not taken for T."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import CapturedCase, CapturedLayer, check
from tests.kfac_ref.oracle import shared_numbers


@pytest.fixture
def case(rng):
    """Derivatives of all positions' outputs by what is computed at each, as in a recurrent or an attentive network."""
    z, Y = rng.standard_normal((13, 4, 3)), np.eye(3)[rng.integers(3, size=(13, 4))]
    layers = [
        CapturedLayer(rng.standard_normal((13, 4, 2)) + 0.5, rng.standard_normal((12, 13, 4, 5))) for _ in range(2)
    ]
    return CapturedCase("categorical", z, Y, layers)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_positions_added_before_the_outer_product(case, sharing):
    theirs = {f"G_{i}": 13 * shared_numbers.positions_together(case, i, sharing) for i in (1, 2)}
    for v in check(theirs, case).as_dict()["quantities"].values():
        assert "positions added before" in v["convention"], v["convention"]
        assert (v["sharing"], v["fisher"], v["scale"]) == (sharing, "exact", pytest.approx(13))


def test_a_mean_over_positions(case):
    theirs = {}
    for i in (1, 2):
        A, G = shared_numbers.factors(case, i, "expand")
        theirs |= {f"A_{i}": A, f"G_{i}": G / 4}
    verdicts = check(theirs, case).as_dict()["quantities"]
    for i in (1, 2):
        assert verdicts[f"G_{i}"]["sharing"] == "expand" and verdicts[f"G_{i}"]["scale"] == pytest.approx(1 / 4)
