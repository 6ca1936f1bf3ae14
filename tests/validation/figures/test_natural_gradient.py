"""validation.figures.natural_gradient: the figure on a tiny network, and the bound that it measures h from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autodiff import Network
from validation.figures import natural_gradient, palette
from validation.work import Work


def test_the_entropy_is_the_least_that_h_can_be():
    Y = np.array([[0.0, 1.0, 0.5], [0.2, 0.9, 0.0]])
    inner = np.clip(Y, 1e-12, 1 - 1e-12)
    z = np.log(inner) - np.log1p(-inner)
    attained = np.mean(np.sum(np.logaddexp(0, z) - Y * z, axis=1))
    assert natural_gradient._entropy(Y) == pytest.approx(attained, abs=1e-9)
    assert natural_gradient._entropy(np.array([[0.5]])) == pytest.approx(math.log(2))


def test_the_figure(tmp_path, monkeypatch):
    amount = {"exact": 2, "kfac": 3, "sgd": 4, "rates": (0.01, 0.1), "mu_max": (0.9, 0.99)}
    monkeypatch.setitem(natural_gradient.AMOUNT, True, amount)
    monkeypatch.setattr(natural_gradient, "NETWORK", Network([64, 2, 64], "identity", "bernoulli"))
    drawn = natural_gradient.draw(Work(tmp_path, quick=True))
    assert {row["method"]: row["iterations"] for row in drawn.summary} == {
        palette.NATURAL_GRADIENT: 2,
        palette.DIAGONAL: 3,
        palette.TRIDIAGONAL: 3,
        palette.SGD: 4,
    }
    grid = drawn.tables["sgd-grid"]
    assert len(grid) == 4
    best = min(grid, key=lambda row: row["h above entropy"])
    assert drawn.summary[-1]["last h above entropy"] == best["h above entropy"] > 0
    assert f"ε = {best['learning_rate']:g}, μ_max = {best['mu_max']:g}" in drawn.caption
    again = natural_gradient.draw(Work(tmp_path, quick=True))  # from what was kept
    assert again.tables == drawn.tables
