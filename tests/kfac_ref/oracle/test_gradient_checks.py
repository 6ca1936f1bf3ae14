"""Verdicts on gradients: scale, sign, ηθ and layout."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.dense import dense_gradient, unflatten
from tests.kfac_ref.oracle.test_truth import make_case

N, C, ETA = 40, 3, 0.03


@pytest.fixture
def case(rng):
    return make_case(rng, (4, 5, C), likelihood="gaussian", cases=N, V=False, sampled=False, eta=ETA)


@pytest.fixture
def loss(case):
    """The gradient of the mean loss alone."""
    return unflatten(dense_gradient(case.network, case.parameters, case.X, case.Y, 0.0), case.network)


@pytest.fixture
def gradient(case, loss):
    """∇h = that of the mean loss + ηθ."""
    return [g + ETA * W for g, W in zip(loss, case.parameters, strict=True)]


def said(case, arrays, part: str = "") -> list[dict]:
    """The verdicts on the layers' gradients."""
    theirs = {f"gradient_{part}{i}": x for i, x in enumerate(arrays, start=1)}
    return list(check(theirs, case).as_dict()["quantities"].values())


def test_the_project_s_own_matches(case, gradient):
    assert [(v["verdict"], v["scale"], v["bias"]) for v in said(case, gradient)] == [("match", 1.0, "last")] * 2


@pytest.mark.parametrize(
    ("scale", "text"),
    [(N, "N"), (-1, "-1"), (2, "2"), (0.5, "1/2"), (1 / C, "1/C"), (2 / C, "2/C"), (-N, "-N"), (1 / N, "1/N")],
)
def test_scale_and_sign(case, gradient, scale, text):
    for v in said(case, [scale * g for g in gradient]):
        assert (v["verdict"], v["expression"]) == ("match-under", text)
        assert v["scale"] == pytest.approx(scale, rel=1e-12)
        assert v["residual"] < 1e-12 and v["notes"] == []


def test_any_other_scale_is_a_number(case, gradient):
    for v in said(case, [0.3719 * g for g in gradient]):
        assert (v["verdict"], v["expression"]) == ("match-under", None)
        assert v["scale"] == pytest.approx(0.3719, rel=1e-10)
        assert v["nearest"]


def test_without_eta_theta(case, loss):
    for v in said(case, [N * g for g in loss]):
        assert (v["verdict"], v["expression"], v["notes"]) == ("match-under", "N", ["eta*theta left out"])


def test_a_loss_that_is_summed_while_eta_theta_is_not(case, loss):
    theirs = [N * g + ETA * W for g, W in zip(loss, case.parameters, strict=True)]
    for v in said(case, theirs):
        assert (v["verdict"], v["expression"]) == ("match-under", "N")
        assert v["notes"] == ["the loss scaled, eta*theta not"]


def test_another_l2_coefficient_is_a_number(case, loss):
    theirs = [g + 0.25 * W for g, W in zip(loss, case.parameters, strict=True)]
    for v in said(case, theirs):
        assert (v["verdict"], v["expression"], v["notes"]) == ("match-under", "1", ["0.25*theta added"])


def test_bias_first(case, gradient):
    for v in said(case, [np.roll(g, 1, axis=1) for g in gradient]):
        assert (v["verdict"], v["bias"], v["expression"]) == ("match-under", "first", "1")


def test_without_the_bias(case, gradient):
    for v in said(case, [g[:, :-1] for g in gradient]):
        assert (v["verdict"], v["bias"], v["expression"]) == ("match-under", "absent", "1")


@pytest.mark.parametrize(
    ("change", "layout"),
    [
        (np.transpose, "transposed"),
        (lambda g: g.flatten(order="F"), "flat, column-major"),
        (lambda g: g.flatten(order="C"), "flat, row-major"),
        (lambda g: np.r_[g[:, :-1].ravel(), g[:, -1]], "flat, row-major, bias after the weights"),
    ],
)
def test_layouts(case, gradient, change, layout):
    for v in said(case, [change(g) for g in gradient]):
        assert (v["verdict"], v["layout"], v["bias"], v["expression"]) == ("match-under", layout, "last", "1")


def test_weights_and_bias_apart(case, gradient):
    weights = said(case, [g[:, :-1] for g in gradient], "weight_")
    biases = said(case, [N * g[:, -1] for g in gradient], "bias_")
    assert [v["verdict"] for v in weights] == ["match"] * 2
    assert [(v["verdict"], v["expression"]) for v in biases] == [("match-under", "N")] * 2


def test_another_gradient_is_not_explained(case, gradient, rng):
    for v in said(case, [g + 1e-6 * rng.standard_normal(g.shape) for g in gradient]):
        assert (v["verdict"], v["scale"], v["expression"]) == ("no-match", None, None)
        assert 1e-8 < v["residual"] < 1e-4  # of what comes closest
        assert "closest" in v["convention"]


def test_float32(case, gradient):
    assert [v["verdict"] for v in said(case, [g.astype(np.float32) for g in gradient])] == ["match"] * 2
