"""Slips that all layers have in common; that each kind is named is in `test_hook_slips` and `test_mutations`."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.kfac_ref.oracle.mutations.damping import named
from tests.kfac_ref.oracle.mutations.preconditioners import _solve, gradients, precondition
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.mutations.slip_words import behind


@pytest.fixture(scope="module")
def numbers():
    return Numbers(
        situation(
            np.random.default_rng(8), sizes=[4, 5, 3], N=20, likelihood="gaussian", hidden=["tanh"], lam=0.2, eta=0.0
        )
    )


def said(theirs, numbers):
    return check(theirs, numbers.case).as_dict()["quantities"]


def test_a_clip_where_one_factor_is_the_identity(numbers):
    """The Gaussian's last G is I, and a scale without a name could be any damping of it, but for the other layers."""
    U = precondition(numbers, gradients(numbers), "traces", numbers.case.gamma_used)
    inner = sum(np.vdot(u, v) for u, v in zip(U, gradients(numbers), strict=True))
    nu = np.sqrt(1e-3 / inner)
    for v in said(named([nu * u for u in U]), numbers).values():
        assert v["scale"] == pytest.approx(nu) and "KL clip" in v["convention"] and "pi (trace)" in v["damping"]
    split = {f"preconditioned_weight_{i}": nu * u[:, :-1] for i, u in enumerate(U, start=1)}
    split |= {f"preconditioned_bias_{i}": nu * u[:, -1] for i, u in enumerate(U, start=1)}
    for v in said(split, numbers).values():
        assert "KL clip" in v["convention"]


def test_weight_decay_with_another_pi(numbers):
    g = [x + 0.05 * w for x, w in zip(gradients(numbers), numbers.W, strict=True)]
    U = []
    for i, V in enumerate(g, start=1):
        A, G = numbers.A(i - 1), numbers.G(i)
        p = np.sqrt(np.trace(A) / np.trace(G))
        U.append(_solve(G, 0.2**0.5 / p) @ V @ _solve(A, p * 0.2**0.5))
    for v in said(named(U), numbers).values():
        assert "without the dimensions" in v["damping"]
        assert v["notes"] == ["0.05*theta added to the gradient before it was preconditioned (weight decay)"]


def test_factors_behind_phi(numbers):
    J = behind(numbers, 1)
    G = {1: np.einsum("ncd,nce->de", J, J) / 20, 2: numbers.G(2)}
    U = [_solve(G[i], 0.2) @ V @ _solve(numbers.A(i - 1), 0.2) for i, V in enumerate(gradients(numbers), start=1)]
    v = said(named(U), numbers)["preconditioned_1"]
    assert v["place"].startswith("G: derivatives by activities") and v["damping"] == "lambda on each factor"


def test_random_ones_are_explained_by_nothing(numbers, rng):
    U = [rng.standard_normal(W.shape) for W in numbers.W]
    right = precondition(numbers, gradients(numbers), "plain", 0.2)
    near = [u * (1 + 1e-5 * rng.standard_normal(u.shape)) for u in right]
    uneven = [0.123 * right[0], 0.321 * right[1] + 0.01 * rng.standard_normal(right[1].shape)]
    for theirs in (U, near):
        assert {v["verdict"] for v in said(named(theirs), numbers).values()} == {"no-match"}
    assert said(named(uneven), numbers)["preconditioned_2"]["verdict"] == "no-match"
