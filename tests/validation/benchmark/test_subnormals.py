"""The count of subnormal operands: what is one, and in which products it is found."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.training.loop import Data
from validation.benchmark import subnormals
from validation.benchmark.problems import Problem, random_autoencoder
from validation.benchmark.subnormals import Watched


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_one(dtype):
    least = np.finfo(dtype)
    below = np.nextafter(least.tiny, np.zeros((), dtype))
    ones = np.array([below, least.smallest_subnormal, below / 3], dtype)
    others = np.array([0, least.tiny, 1, least.max, np.inf, np.nan], dtype)
    for sign in (1, -1):
        assert [subnormals.subnormals(sign * x) for x in (ones, others)] == [3, 0]


def test_of_many_and_of_views(rng):
    x = np.exp(rng.uniform(-100, 0, (5, 3 * subnormals.BLOCK // 4))).astype(np.float32)
    for part in (x, x.T, x[::2, 1::3]):
        assert subnormals.subnormals(part) == np.sum((part > 0) & (part < np.finfo(np.float32).tiny)) > 0


def test_by_product():
    tiny, one = (np.full((2, 2), value, np.float32).view(Watched) for value in (1e-40, 1))
    Watched.met.clear()
    results = [
        one @ tiny,
        tiny * tiny,
        tiny / one,
        np.linalg.inv(one + np.eye(2, dtype=np.float32)),
        np.vecdot(tiny, one),
    ]
    results[0] *= tiny
    _ = tiny + tiny
    assert Watched.met == {"matmul": 4, "multiply": 8 + 8, "divide": 4, "inv": 0, "vecdot": 4}
    assert all(isinstance(x, Watched) for x in results)


def test_rows(monkeypatch):
    """Pixels that are subnormal are found in every product with the first layer's weights, at full speed too, as they
    are not computed."""
    problem = random_autoencoder((20, 8, 3, 8, 20), 50, "numpy")
    X = problem.data.X.copy()
    X[:, :4] = 1e-40
    problem = Problem("small", problem.network, problem.parameters, Data(X, X), made_up=True)
    monkeypatch.setattr(subnormals, "CASES", 30)
    done = []
    rows = subnormals.measure(problem, 10, lambda: done.append(1))
    assert [(row["inverse"], row["subnormals are"], row["iterations"]) for row in rows] == [
        (inverse, how, n)
        for inverse in ("block-tridiagonal", "block-diagonal")
        for how, n in (("as they are", 2), ("0", 10))
    ]
    assert len(done) == 2 * (2 + 10)
    for row in rows:
        assert row["subnormal"] == row["of matrix products"] + row["elementwise"] + row["of linear algebra"]
        assert row["of matrix products"] >= row["iterations"] * 30 * 4
        # damped factors have products of such pixels, unless these are 0
        assert (row["of linear algebra"] > 0) == (row["subnormals are"] == "as they are")
        assert float(row["operands"]) > row["subnormal"] and np.isfinite(row["error at last"])
    assert {"potrf", "potri"} <= set(Watched.met)
