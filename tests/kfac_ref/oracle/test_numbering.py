from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation


@pytest.fixture(scope="module")
def numbers():
    return Numbers(situation(np.random.default_rng(1), sizes=[5, 5, 5, 4], N=20, likelihood="bernoulli"))


def said(theirs, numbers):
    return check(theirs, numbers.case).quantities


def test_counting_is_plain_with_the_first_or_the_last(numbers):
    from_0 = {f"A_{i}": numbers.A(i) for i in range(3)}
    from_1 = {f"A_{i + 1}": numbers.A(i) for i in range(3)}
    for theirs in (from_0, from_1, {"A_0": from_0["A_0"], "A_2": from_0["A_2"]}, {"A_3": from_1["A_3"]}):
        assert {v.verdict for v in said(theirs, numbers).values()} == {"match"}


def test_a_layers_output_for_its_input_is_never_a_match(numbers):
    """A_1, A_2 of the outputs of layers 1 and 2 look like A_1, A_2 counted from 0."""
    for v in said({"A_1": numbers.A(1), "A_2": numbers.A(2)}, numbers).values():
        assert v.verdict == "match-under"
        assert "counted from 0, though there is no A_0" in v.convention and "output in place of" in v.convention
    with_last = {"A_1": numbers.A(1), "A_2": numbers.A(2), "A_3": numbers.z.T @ numbers.z / 20}
    for v in said(with_last, numbers).values():
        assert v.explanation.place == "the layer's output in place of its input"


def test_counted_from_1_without_the_last(numbers):
    for v in said({"A_1": numbers.A(0), "A_2": numbers.A(1)}, numbers).values():
        assert v.verdict == "match-under" and "read as counted from 1, though there is no A_3" in v.convention


def test_slips_tell_how_names_are_counted(numbers):
    """Outer products of means, counted from 1."""
    theirs = {f"A_{i + 1}": np.outer(a.mean(0), a.mean(0)) for i, a in enumerate(numbers.a[:2])}
    for v in said(theirs, numbers).values():
        assert v.explanation.order.startswith("outer product of the mean")
        assert "read as counted from 1" in v.convention
