"""Slips of hooks in factors: named where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import Case, check
from tests.conftest import positive_definite
from tests.kfac_ref.oracle.mutations import slip_table
from tests.kfac_ref.oracle.mutations.judge import judge
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.mutations.slip_words import behind


@pytest.mark.parametrize("k", [0, 4])
def test_every_slip_of_a_network_is_named(k):
    for m in slip_table.mutations(k, seed=2):
        judged = judge(m, check(m.theirs, m.case).as_dict())
        assert {g for g, _ in judged.values()} == {"right"}, f"{m}: {judged}"


@pytest.fixture(scope="module")
def case():
    return situation(np.random.default_rng(0), sizes=[5, 4, 1], N=20, likelihood="gaussian", hidden=["tanh"], lam=0.2)


def said(theirs, case):
    return check(theirs, case).as_dict()["quantities"]


def test_what_is_too_small_to_tell_is_read_as_the_others(case):
    n = Numbers(case)
    g = {i: n.g(i, n.Y) for i in (1, 2)}
    G = {f"G_{i}": x[-3:].T @ x[-3:] / 3 for i, x in g.items()}
    assert G["G_2"].shape == (1, 1)
    assert {v["cases"] for v in said(G, case).values()} == {"the last 3 cases alone (the last mini-batch)"}
    alone = said({"G_2": G["G_2"]}, case)["G_2"]
    assert alone["cases"] is None


def test_zeros_are_read_as_the_others_and_alone_as_nothing(case):
    """A case in which no ReLU is on has no derivatives behind it."""
    rng = np.random.default_rng(11)
    dead = np.zeros(9, bool)
    while not np.any(dead):
        relu = situation(rng, sizes=[3, 4, 4, 3], N=9, likelihood="categorical", hidden=["relu"])
        dead = np.all(Numbers(relu).s[1] < 0, axis=1)
    off = int(np.argmax(dead))
    order = np.r_[off, np.delete(np.arange(9), off)]
    relu = Case(relu.network, relu.parameters, relu.X[order], relu.Y[order])
    n = Numbers(relu)
    assert np.all(n.s[1][0] < 0)
    g = {i: n.g(i, n.Y)[:1] for i in (1, 2, 3)}
    G = {f"G_{i}": x.T @ x for i, x in g.items()}
    assert not np.any(G["G_1"]) and np.any(G["G_3"])
    assert {v["cases"] for v in said(G, relu).values()} == {"the first case alone"}
    assert said({"G_1": G["G_1"]}, relu)["G_1"]["verdict"] == "no-match"


def test_a_sum_over_some_cases_divided_by_all(case):
    x = Numbers(case).a[0][:12]
    v = said({"A_0": x.T @ x / 20}, case)["A_0"]
    assert v["cases"] == "the first 12 cases alone (the remainder of 8 dropped)"
    assert (v["expression"], v["notes"]) == ("1", ["their sum divided by the number of all cases"])


def test_an_inverse_damped(case):
    A = Numbers(case).A(1)
    v = said({"A_0": Numbers(case).A(0), "A_1": np.linalg.inv(A + 0.2 * np.eye(len(A)))}, case)["A_1"]
    assert (v["order"], v["expression"], v["damping"]) == ("its inverse", "1", "lambda added to the diagonal")


def test_a_running_average_behind_phi(case):
    n = Numbers(case)
    G = np.einsum("nc,ncd->nd", n.mean - n.Y, behind(n, 1))
    theirs = 0.9 * np.eye(4) + 0.1 * G.T @ G / 20
    v = said({"G_1": theirs}, case)["G_1"]
    assert v["place"].startswith("derivatives by activities") and v["fisher"] == "empirical"
    assert v["history"]["start"] == "identity"


def test_nothing_else_is_a_slip(rng):
    """Random matrices, near ones, and right ones with a scale that is nothing."""
    for seed in range(4):
        case = situation(np.random.default_rng(seed), min_d=3, min_C=3, min_N=3)
        n = Numbers(case)
        right = {f"A_{i}": n.A(i) for i in range(n.layers)} | {f"G_{i}": n.G(i) for i in range(1, n.layers + 1)}
        for theirs in (
            {k: positive_definite(rng, len(M)) for k, M in right.items()},
            {k: M * (1 + 1e-6 * rng.standard_normal(M.shape)) for k, M in right.items()},
            {k: 0.3717 * M for k, M in right.items()},
        ):
            for v in said(theirs, case).values():
                assert v["place"] is v["order"] is v["cases"] is None


def test_cases_with_weights_are_not_taken_apart(case):
    w = np.arange(1.0, 21.0)
    weighted = Case(case.network, case.parameters, case.X, case.Y, weights=w)
    x = Numbers(case).a[0][:12]
    assert said({"A_0": x.T @ x / 12}, weighted)["A_0"]["verdict"] == "no-match"


@pytest.mark.parametrize("samples", [1, 10])
def test_sampled_derivatives_behind_phi(samples):
    rng = np.random.default_rng(5)
    case = situation(rng, sizes=[6, 6, 5], N=60, likelihood="categorical", hidden=["tanh"])
    n = Numbers(case)
    e = n.mean - n.sample(rng, samples)
    g = {i: np.einsum("snc,ncd->snd", e, behind(n, i)).reshape(-1, d) for i, d in ((1, 6), (2, 5))}
    found = said({f"G_{i}": x.T @ x / len(x) for i, x in g.items()}, case)
    assert [v["fisher"] for v in found.values()] == ["monte-carlo"] * 2
    assert found["G_1"]["place"].startswith("derivatives by activities") and found["G_2"]["place"] is None
