"""`check` on empirical factors and gradients of smoothed targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kfac_ref.oracle import check, truth
from tests.kfac_ref.oracle import curvlinops
from tests.kfac_ref.oracle.test_truth import make_case


def smoothed(case, epsilon):
    """(1 − ε) y + ε/C, position by position."""
    C = case.network.output[-1]
    return replace(case, Y=(1 - epsilon) * case.Y + epsilon / C)


@pytest.mark.parametrize(("epsilon", "words"), [(0.1, "label smoothing 0.1"), (0.037, "label smoothing 0.037")])
@pytest.mark.parametrize("name", ["convolution-small", "positions-small"])
def test_factors_and_gradients(name, epsilon, words):
    case, _ = curvlinops.read(name)
    found, N = truth(smoothed(case, epsilon)), case.cases
    layers = [i for i in range(1, case.network.layers + 1) if len(found[f"G_expand_empirical_{i}"]) > 2]
    theirs = {f"G_{i}": N * found[f"G_expand_empirical_{i}"] for i in layers}
    theirs |= {f"gradient_{i}": N * found[f"gradient_{i}"] for i in layers}
    for quantity, v in check(theirs, case).as_dict()["quantities"].items():
        assert words in v["convention"] and v["scale"] == pytest.approx(N), v["convention"]
        assert quantity[0] != "G" or v["fisher"] == "empirical"


def test_a_fully_connected_network(rng):
    case = make_case(rng, (5, 4, 4), cases=13, eta=0.01)
    found = truth(smoothed(case, 0.2))
    theirs = {"G_1": found["G_empirical_1_1"], "gradient_1": found["gradient_1"], "gradient_2": found["gradient_2"]}
    for v in check(theirs, case).as_dict()["quantities"].values():
        assert "label smoothing 0.2" in v["convention"] and v["scale"] == pytest.approx(1)


def test_noise_is_not_smoothing(rng):
    case, _ = curvlinops.read("convolution-small")
    found = truth(smoothed(case, 0.1))
    noise = {i: rng.standard_normal(found[f"gradient_{i}"].shape) for i in (1, 2)}
    theirs = {f"gradient_{i}": found[f"gradient_{i}"] * (1 + 1e-5 * x) for i, x in noise.items()}
    assert all(v["verdict"] == "no-match" for v in check(theirs, case).as_dict()["quantities"].values())
