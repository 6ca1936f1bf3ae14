from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import Case, check
from tests.kfac_ref.oracle.mutations.factors import vars_of
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.mutations.slip_words import behind


@pytest.fixture(scope="module")
def case():
    return situation(
        np.random.default_rng(2), sizes=[4, 5, 3], N=17, likelihood="categorical", hidden=["tanh"], eta=0.01
    )


def said(theirs, case):
    return check(theirs, case).as_dict()["quantities"]


def test_parts_of_weights_and_biases(case):
    n = Numbers(case)
    g = np.einsum("nc,ncd->nd", n.mean - n.Y, behind(n, 1))
    theirs = {"gradient_weight_1": g.T @ n.X / 17, "gradient_bias_1": g.mean(0)}
    for v in said(theirs, case).values():
        assert v["place"].startswith("derivatives by activities")
        assert (v["expression"], v["notes"]) == ("1", ["eta*theta left out"])


def test_targets_sampled_in_place_of_the_datas(case):
    sampled = Numbers(case).sample(np.random.default_rng(0), 1)[0]
    known = Case(**vars_of(case) | {"sampled": sampled})
    n = Numbers(known)
    v = said({"gradient_1": n.g(1, sampled).T @ n.a[0] / 17}, known)["gradient_1"]
    assert v["place"] == "targets sampled from the model in place of the data's"


def test_weight_decay_of_weights_alone(case):
    n = Numbers(case)
    W = case.parameters[0].copy()
    W[:, -1] = 0
    v = said({"gradient_1": n.gradient(1, 17.0, 0.0) + 0.3 * W}, case)["gradient_1"]
    assert (v["expression"], v["notes"]) == ("N", ["0.3*theta, not of biases, added"])


def test_random_gradients_are_no_slips(case, rng):
    for v in said(
        {"gradient_1": rng.standard_normal((5, 5)), "gradient_2": rng.standard_normal((3, 6))}, case
    ).values():
        assert v["verdict"] == "no-match"
