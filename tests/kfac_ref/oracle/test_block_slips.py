from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.kfac_ref.oracle.mutations.layouts import theta_order
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation


@pytest.fixture(scope="module")
def numbers():
    return Numbers(situation(np.random.default_rng(4), sizes=[3, 4, 2], N=15, likelihood="bernoulli", hidden=["tanh"]))


def said(theirs, numbers):
    return check(theirs, numbers.case).as_dict()["quantities"]


def test_the_mean_gradients_outer_product_of_all_layers(numbers):
    theta = np.concatenate([numbers.gradient(i, 1.0, 0.0).ravel(order="F") for i in (1, 2)])
    v = said({"fisher": np.outer(theta, theta)}, numbers)["fisher"]
    assert v["fisher"] == "empirical" and v["order"].startswith("outer product of the mean")


def test_in_another_order_of_entries(numbers):
    order = theta_order(numbers.network, [1], ("row", "last"), 0)
    rows = np.einsum("np,nd->npd", numbers.a[0], numbers.g(1, numbers.Y)).reshape(15, -1)[-4:]
    v = said({"block_1": (rows.T @ rows / 4)[np.ix_(order, order)]}, numbers)["block_1"]
    assert v["cases"] == "the last 4 cases alone (the last mini-batch)"
    assert v["layout"] == "row-major"


def test_factors_of_another_place(numbers):
    s = np.column_stack([numbers.s[0], np.ones(15)])
    v = said({"block_2": np.kron(s.T @ s / 15, numbers.G(2))}, numbers)["block_2"]
    assert v["matrix"] == "Kronecker product of the factors"
    assert v["place"] == "A: pre-activations in place of activities (phi missing)"
