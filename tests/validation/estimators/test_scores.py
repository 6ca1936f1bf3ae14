"""`python -m validation estimators`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.kfac_ref.command.test_plots import check_picture
from validation import estimators
from validation.estimators.problems import PROBLEMS
from validation.estimators.scores import FOLDS, METHODS, Result, compare


def test_a_comparison_by_hand():
    results = {
        "K-FAC": Result([0.9, 0.8, 0.7, 0.8], [1.0, 1.0, 1.0, 3.0]),
        "adam": Result([0.8, 0.8, 0.7, 0.8], [3.0] * 4),
        "lbfgs": Result([0.7, 0.6, 0.5, 0.7], [1.5] * 4),
    }
    found = compare(results, "adam")
    # differences 0.1, 0, 0, 0: mean 0.025, standard deviation 0.05, standard error 0.025
    assert (found.difference, found.error) == pytest.approx((0.025, 0.025)) and found.ratio == pytest.approx(0.5)
    assert compare(results, "lbfgs").verdict == "higher" and compare(results, "lbfgs").ratio == pytest.approx(1.0)
    other = {"K-FAC": results["lbfgs"], "adam": results["K-FAC"]}
    assert compare(other, "adam").verdict == "lower"


def test_what_is_measured_is_kept(tmp_path, capsys):
    arguments = ["--sets", "iris", "--repeats", "1", "--out", str(tmp_path)]
    assert estimators.main(arguments) == 0
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "scores.json").read_text())
    assert list(kept["iris"]) == list(METHODS) and len(kept["iris"]["adam"]["scores"]) == FOLDS
    assert f"{np.mean(kept['iris']['K-FAC']['scores']):.4f}" in said
    check_picture(tmp_path / "scores.png")
    kept["iris"]["lbfgs"]["scores"] = [0.1234] * FOLDS
    (tmp_path / "scores.json").write_text(json.dumps(kept))
    assert estimators.main(arguments) == 0
    assert "0.1234" in capsys.readouterr().out and "0.1234" in (tmp_path / "scores.txt").read_text()


@pytest.mark.parametrize("name", [p.name for p in PROBLEMS.values() if not p.large])
def test_problems_are_the_same_each_time(name):
    one, two = PROBLEMS[name].make(), PROBLEMS[name].make()
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(one[0]).all() and len(one[0]) == len(one[1])


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(ValueError, match='did you mean "digits"'):
        estimators.main(["--sets", "digit", "--out", str(tmp_path)])
