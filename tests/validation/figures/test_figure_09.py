"""Figure 9, on a small network, against updates made one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kfac_ref import KFAC, Batch
from tests.dense import dense_h
from tests.validation.figures.test_figure_07 import small_origin
from validation.figures import autoencoder_state, figure_09, palette
from validation.figures.figure_09 import METHODS, Size
from validation.work import Work

SIZE = Size(cases=25, m=(5, 20, 50, 51), updates=4, skipped=1)


@pytest.fixture
def origin(monkeypatch):
    return small_origin(monkeypatch, figure_09, SIZE)


def test_progress_is_that_of_updates_made_one_by_one(origin, tmp_path):
    end = autoencoder_state.trained(Work(tmp_path), origin)
    prepared, state = end.prepared, end.state
    found = figure_09.measure(prepared, state, SIZE)
    assert found["m"].tolist() == [5, 20, 50]  # there are 50 cases

    settings = prepared.optimizer.settings
    first = prepared.data.X[:25]
    choices = (
        {"inverse": "block-tridiagonal"},
        {"inverse": "block-diagonal"},
        {"inverse": "block-tridiagonal", "momentum": False},
    )
    for r, constants in enumerate(choices):
        for c, m in enumerate((5, 20, 50)):
            kfac = KFAC(prepared.network, replace(settings, **constants))
            now = replace(state, inverse=None)
            h = []
            for k in range(9, 13):
                X = prepared.data.X[np.random.default_rng([0, 1, k]).choice(50, m, replace=False)]
                now, _ = kfac.step(now, Batch(X, X))
                h.append(dense_h(prepared.network, now.parameters, first, first, settings.eta))
            assert found["progress"][r, c] == pytest.approx((h[0] - h[-1]) / 3, rel=1e-8)
    assert len(np.unique(found["progress"])) == 9


def test_draw(origin, tmp_path, monkeypatch):
    drawn = figure_09.draw(Work(tmp_path))
    rows = drawn.tables["progress"]
    assert [(r["method"], r["m"]) for r in rows] == [(name, m) for name in METHODS for m in (5, 20, 50)]
    for row in rows:
        assert row["per 1000 cases"] == pytest.approx(1000 * row["per update"] / row["m"])
        line = next(line for line in drawn.summary if line["m"] == row["m"])
        assert line[row["method"]] == row["per update"]
    assert "8 iterations (the paper: 500) on mnist" in drawn.caption
    assert "updates 2 to 4" in drawn.caption and "first 25 training cases" in drawn.caption
    monkeypatch.setattr(figure_09, "measure", None)  # kept, not computed again
    assert figure_09.draw(Work(tmp_path)).tables["progress"] == rows
    for work in (Work(tmp_path, quick=True), Work(tmp_path)):
        monkeypatch.setitem(METHODS, palette.DIAGONAL, {"inverse": "block-diagonal"} if work.quick else {"T3": 7})
        with pytest.raises(TypeError, match="not callable"):
            figure_09.draw(work)


def test_what_made_h_worse_is_marked_and_counted():
    m, progress = np.array([10, 20]), np.array([[1.0, 2.0], [-1.0, 2.0], [-1.0, -2.0]])
    found = {"m": m, "progress": progress, "about": "2 iterations", "h": 3.0, "cases": 9, "updates": 5, "skipped": 1}
    figure = figure_09.picture(found)
    for ax, per in zip(figure.axes, (1, m / 1000), strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        for name, values in zip(METHODS, progress, strict=True):
            drawn = np.asarray(lines[name].get_ydata())
            np.testing.assert_array_equal(drawn, np.where(values > 0, values / per, np.nan))
        crosses = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "x"]
        assert crosses == [[10], [10, 20]]
    assert "3 of the 6 runs made h worse (crosses)" in figure_09._caption(found)
    assert "none of the 6 runs made h worse." in figure_09._caption(found | {"progress": np.abs(progress)})
