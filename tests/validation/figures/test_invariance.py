"""The figure of invariance, on few cases."""

from __future__ import annotations

import numpy as np
import pytest

from validation.figures import invariance
from validation.work import Work


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(invariance.CASES, "quick", 300)
        yield invariance.draw(Work(tmp_path_factory.mktemp("invariance"), quick=True))


def test_undamped_paths_stay_together_and_those_of_sgd_part(drawn):
    last = drawn.tables["paths"][-1]
    assert last["k"] == 20
    for name in invariance.NAMES:
        together = [last[f"{method}: {name}"] for method in ("block-tridiagonal", "block-diagonal")]
        assert max(together) < 1e-9 < 1e-4 < last[f"SGD: {name}"]


def test_what_damping_changes_grows_in_proportion_to_a_small_gamma(drawn):
    rows = drawn.tables["damping"]
    gamma = np.array([row["gamma"] for row in rows])
    small = gamma < 1e-6
    for key in rows[0].keys() - {"gamma"}:
        distance = np.array([row[key] for row in rows])
        ratios = distance[small] / gamma[small]
        assert ratios.max() < 1.2 * ratios.min() and distance[gamma > 0.1].min() > 0.1


def test_the_summary_is_of_the_same_numbers(drawn):
    for row, name in zip(drawn.summary, invariance.NAMES, strict=True):
        assert row["path, SGD"] == drawn.tables["paths"][-1][f"SGD: {name}"]
        assert row["F̂, γ = 1"] == drawn.tables["damping"][32][f"block-tridiagonal: {name}"]
    assert drawn.tables["damping"][32]["gamma"] == pytest.approx(1)
