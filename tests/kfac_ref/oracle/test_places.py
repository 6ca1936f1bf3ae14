"""Rows of every place against differences of the network's outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kfac_ref.oracle.order_slips import moment
from kfac_ref.oracle.places import BEHIND, activities, activity_rows, by_activities, derivative_rows, inputs
from kfac_ref.oracle.references import References
from tests.kfac_ref.oracle.mutations.situations import VALUES, situation


@pytest.fixture(scope="module")
def case():
    return situation(np.random.default_rng(3), sizes=[3, 4, 5, 2], N=6, likelihood="bernoulli", hidden=["tanh"])


def above(case, layer: int, a: np.ndarray) -> np.ndarray:
    """z from a_i, (N, d_i)."""
    W = case.parameters
    for i in range(layer, case.network.layers):
        s = np.column_stack([a, np.ones(len(a))]) @ W[i].T
        a = VALUES[case.network.activations[i].name](s)
    return a


@pytest.mark.parametrize("layer", [1, 2])
def test_derivatives_by_activities_are_differences(case, layer):
    references, h = References(case), 1e-6
    a = activities(references, layer)[0]
    np.testing.assert_allclose(above(case, layer, a), references.z, rtol=1e-12, atol=1e-12)
    J = by_activities(references, layer)
    for k in range(a.shape[1]):
        step = np.zeros(a.shape[1])
        step[k] = h
        slope = (above(case, layer, a + step) - above(case, layer, a - step)) / (2 * h)
        np.testing.assert_allclose(J[:, :, k].T, slope, rtol=1e-7, atol=1e-8)
    assert by_activities(references, case.network.layers) is None


def test_right_rows_give_the_factors(case):
    references = References(case)
    for i in range(1, 4):
        right = next(activity_rows(i, references))
        assert right.place is None and right.ones
        np.testing.assert_allclose(moment(right.values), references.A(i), rtol=1e-12)
        for rows in derivative_rows(i, references):
            if rows.place is None:
                kind = {"exact": "exact", "empirical": "empirical"}[rows.fisher]
                np.testing.assert_allclose(moment(rows.values), references.G(i, kind), rtol=1e-10, atol=1e-14)
    assert BEHIND in {rows.place for rows in derivative_rows(2, references)}
    assert BEHIND not in {rows.place for rows in derivative_rows(3, references)}


def test_weights_of_cases_are_in_the_rows(case):
    w = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])
    weighted = References(replace(case, weights=w))
    twice = np.repeat(np.arange(6), w.astype(int))
    copied = References(replace(case, X=case.X[twice], Y=case.Y[twice]))
    for i in (1, 2, 3):
        pairs = zip(derivative_rows(i, weighted), derivative_rows(i, copied), strict=True)
        for one, other in [*pairs, *zip(activity_rows(i, weighted), activity_rows(i, copied), strict=True)]:
            assert one.place == other.place
            np.testing.assert_allclose(moment(one.values), moment(other.values), rtol=1e-10, atol=1e-13)
    assert inputs(weighted, 1).shape == (1, 6, 4)
