"""Tables and pictures from made-up numbers."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from validation import benchmark
from validation.benchmark import drawing, scaling, tables
from validation.benchmark.methods import GRADIENT, JAX_GRADIENT, JAX_SGD, KFAC_JAX, MATMUL, SGD_STEP
from validation.benchmark.rounds import Group, Measured
from validation.benchmark.scaling import Point
from validation.benchmark.stages import STAGES
from validation.benchmark.tables import DIAGONAL, TRIDIAGONAL, WHOLE


def plain(*seconds, flops=0.0):
    rows = [{"seconds": s} for s in seconds]
    return Measured(rows, rows, {"gradient": flops} if flops else {})


def kfac(*seconds, flops):
    """Half of the seconds in the gradient, half in the inverse, with so many FLOP in each."""
    rows = [{"seconds": s} | dict.fromkeys(STAGES, 0.0) | {"gradient": s / 2, "inverse": s / 2} for s in seconds]
    return Measured(rows, rows, {"gradient": flops, "inverse": flops})


@pytest.fixture
def group():
    measured = {
        MATMUL: plain(0.1, 0.2, 10, flops=100e9),
        GRADIENT: plain(1, 2, 6, flops=300e9),
        SGD_STEP: plain(3, flops=300e9),
        TRIDIAGONAL: kfac(4, 8, flops=500e9),
        DIAGONAL: kfac(3, 5, 10, flops=600e9),
        WHOLE: kfac(7, flops=1e12),
        JAX_GRADIENT: plain(1.6, 1.6, 100),
        JAX_SGD: plain(2),
        KFAC_JAX: plain(10, 20),
    }
    return Group("mnist", 1000, False, measured, compile_seconds=11.0, threads=2)


def test_the_rate_is_that_of_the_median_product(group):
    assert group.rate == pytest.approx(100e9 / 0.2)


def test_seconds(group):
    rows = {row["method"]: row for row in tables.seconds([group])}
    row = rows[DIAGONAL]
    assert (row["network"], row["m"]) == ("mnist", 1000)
    assert (row["median, s"], row["mean, s"], row["mean / gradient"]) == (5, 6, 3)
    assert row["GFLOP"] == pytest.approx(1200) and row["of matmul"] == pytest.approx(1200 / 6 / 500)
    assert rows[KFAC_JAX]["mean / gradient"] == 7.5 and rows[KFAC_JAX]["GFLOP"] is None


def test_stages_and_their_rates(group):
    (row,) = (row for row in tables.stages([group]) if row["method"] == DIAGONAL)
    assert [row[stage] for stage in STAGES] == [3000, 0, 3000, 0, 0, 0, 0]
    (row,) = (row for row in tables.rates([group]) if row["method"] == DIAGONAL)
    assert row["inverse"] == pytest.approx(600 / 3 / 500) and "rest" not in row
    assert {row["method"] for row in tables.stages([group])} == {TRIDIAGONAL, DIAGONAL, WHOLE}


def test_ratios(group):
    rows = tables.ratios([group], memory=600_000_000, peer_memory=1_500_000_000, start=[2.0, 9.0, 1.0])
    assert [row["ratio"] for row in rows] == pytest.approx(
        [2 / 1.6, 3 / 2, 6 / 15, 7 / 15, 6 / 15, 6 / 2, 6 / 2, 200 / 500, 0.4, None]
    )
    assert rows[-1]["measured"] == 2 and rows[-2]["measured"] == 0.6 and rows[-3]["beside"] == pytest.approx(500)
    assert rows[0]["what"] == "gradient, median seconds, over JAX gradient's median"


def test_ratios_are_of_what_was_measured(group):
    alone = Group("mnist", 1000, False, {MATMUL: group.measured[MATMUL], GRADIENT: group.measured[GRADIENT]}, None, 1)
    assert tables.ratios([alone], None, None, None) == []
    elsewhere = Group("curves", 1000, False, group.measured, None, 1)
    assert tables.ratios([elsewhere], None, None, None) == []


@pytest.fixture
def points():
    return [
        Point(axis, x, method, 1e-9 * x**power, 3.0 * x ** (power - 1))
        for axis in scaling.AXES
        for method, power in ((GRADIENT, 1), ("block-diagonal", 2.5), ("block-tridiagonal", 3))
        for x in (128, 512, 4096)
    ]


def test_exponents(points):
    rows = scaling.exponents(points)
    assert [row["with"] for row in rows[::3]] == list(scaling.AXES)
    assert [row["exponent of seconds"] for row in rows] == pytest.approx([1, 2.5, 3] * 3)
    assert [row["of FLOP"] for row in rows] == pytest.approx([0, 1.5, 2] * 3)


def test_an_exponent_is_of_the_least_squares():
    # log₂ y: 0, 2, 1 at log₂ x: 0, 1, 2
    assert scaling.slope([1, 2, 4], [1, 4, 2]) == pytest.approx(0.5)


def test_all_can_be_written_as_json(group, points):
    results = benchmark.Results([group], points, 1, 2, [3.0])
    again = json.loads(json.dumps({"tables": benchmark.contents(results), "measured": asdict(results)}))
    assert again["measured"]["groups"][0]["measured"][DIAGONAL]["rows"][2]["inverse"] == 5
    assert set(again["tables"]) == set(benchmark.contents(results)) and len(again["tables"]) == 5


def test_heading(group):
    made_up = Group("faces", 250, True, group.measured, None, None)
    text = benchmark.heading(benchmark.Results([group, made_up], []), "numpy")
    assert "float32 on numpy" in text and "mnist, m = 1000: 11.0 s" in text and "mnist 2" in text
    assert text.endswith("on random cases, as the data cannot be had: faces")


def test_bars_are_as_long_as_the_seconds(group):
    figure = drawing.stages([group, group])
    panel = figure.axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in panel.patches]
    assert max(ends) == pytest.approx(7) and len(panel.patches) == 3 * len(STAGES)
    assert [line.get_xdata()[0] for line in panel.lines] == pytest.approx([3, 103.2 / 3, 15])


def test_curves_and_what_the_work_makes_of_them(points):
    figure = drawing.scaling(points)
    assert [ax.get_xlabel() for ax in figure.axes] == list(scaling.AXES)
    curve, work = figure.axes[0].lines[-2:]
    assert list(curve.get_ydata()) == pytest.approx([1e-9 * x**3 for x in (128, 512, 4096)])
    assert list(work.get_ydata()) == pytest.approx([1e-9 * 4096 * x**2 for x in (128, 512, 4096)])
