"""The check as an assertion of other projects' tests."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import assert_conforms
from tests.kfac_ref.oracle.dense_truth import dense_truth
from tests.kfac_ref.oracle.test_truth import make_case

N = 40


@pytest.fixture
def case(rng):
    return make_case(rng, (4, 5, 3), cases=N, V=False, sampled=False)


@pytest.fixture
def theirs(case):
    t = dense_truth(case)
    return {"A_0": t["A_0_0"], "A_1": t["A_1_1"], "G_1": t["G_1_1"], "G_2": t["G_2_2"]}


def test_the_project_s_own_numbers_conform(case, theirs):
    assert assert_conforms(theirs, case).matches


def test_others_do_not_and_the_message_says_why(case, theirs):
    with pytest.raises(AssertionError) as caught:
        assert_conforms(theirs | {"G_2": N * theirs["G_2"]}, case)
    message = str(caught.value)
    assert "G_2: exact Fisher; x N" in message
    assert "Divide G_2 by N = 40." in message  # and the whole table with it
    assert "G_1: " not in message


def test_what_nothing_explains_does_not_conform(case, theirs, rng):
    x = rng.standard_normal((5, 5))
    for allow in (None, {"G": {}}):
        with pytest.raises(AssertionError, match=r"G_1: .*nothing fits"):
            assert_conforms(theirs | {"G_1": x @ x.T}, case, allow)


def test_a_convention_followed_on_purpose_is_allowed(case, theirs):
    summed = theirs | {"G_1": N * theirs["G_1"], "G_2": N * theirs["G_2"]}
    report = assert_conforms(summed, case, allow={"G": {"expression": "N", "fisher": "exact"}})
    assert not report.matches


def test_what_is_allowed_is_then_required(case, theirs):
    with pytest.raises(AssertionError, match=r"G_1: expected \{'expression': 'N'\}, but exact Fisher"):
        assert_conforms(theirs, case, allow={"G": {"expression": "N"}})


def test_one_layer_may_be_allowed_alone(case, theirs):
    summed = theirs | {"G_2": N * theirs["G_2"]}
    assert_conforms(summed, case, allow={"G_2": {"expression": "N"}})
    with pytest.raises(AssertionError, match="G_2"):
        assert_conforms(summed, case, allow={"G_1": {"expression": "1"}})


def test_files_too(case, theirs, tmp_path):
    case.save(tmp_path / "case.npz")
    np.savez(tmp_path / "theirs.npz", **theirs)
    assert_conforms(tmp_path / "theirs.npz", str(tmp_path / "case.npz"))
