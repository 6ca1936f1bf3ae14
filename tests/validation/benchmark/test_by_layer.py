"""The bare gradient by layer: every layer's steps are found, and all of the time is somewhere."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import text
from autodiff.initialisation import he_initialisation
from autodiff.layers import Layer
from autodiff.layers.convolution import Convolution
from autodiff.network import described
from kfac_ref.training.loop import Data
from validation.benchmark import by_layer, stages
from validation.benchmark.problems import Problem

NETWORK = (
    "1x8x8: conv 3 3x3 relu, average-pool 2, residual [layer-norm tanh, conv 3 1x1], flatten, dense 4 relu, dense 4, "
    "dense 2"
)


@pytest.fixture
def problem(rng):
    network = described(text.read(NETWORK) | {"likelihood": "categorical"})
    X, labels = rng.standard_normal((30, network.inputs)), rng.integers(2, size=30)
    return Problem("small", network, he_initialisation(network, 0), Data(X, np.eye(2)[labels]), made_up=True)


def test_a_row_a_layer(problem):
    *rows, rest = by_layer.milliseconds(problem, 20)
    assert [row["layer"].split(" ")[:2] for row in rows] == [
        *(["1", "conv"], ["2", "average-pool"], ["4", "layer-norm"], ["5", "conv"], ["7", "flatten"]),
        *(["8", "dense"], ["9", "dense"], ["10", "dense"]),
    ]
    for row in rows:
        weighted = row["layer"].split(" ")[1] in ("conv", "layer-norm", "dense")
        assert row["forward"] > 0 and row["back"] > 0 and (row["𝒟W"] > 0) == weighted
    assert rest["layer"] == stages.REST and rest["forward"] > 0


def test_seconds_are_of_the_layer_and_step_that_took_them(problem, monkeypatch):
    """A clock that goes on in two places alone."""
    now, forward, gradient = [0.0], Convolution.forward, Convolution.gradient

    def later(method, seconds):
        def run(self, *arguments):
            now[0] += seconds * self.out * self.kernel[0]
            return method(self, *arguments)

        return run

    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Convolution, "forward", later(forward, 0.001))
    monkeypatch.setattr(Convolution, "gradient", later(gradient, 0.01))
    rows = {row["layer"].split(" ")[0]: row for row in by_layer.milliseconds(problem, 20)}
    assert {n: (row["forward"], row.get("𝒟W")) for n, row in rows.items() if row["forward"]} == {
        "1": (pytest.approx(9), pytest.approx(90)),
        "5": (pytest.approx(3), pytest.approx(30)),
    }
    assert not any(row.get("back") for row in rows.values())


def test_methods_are_put_back(problem):
    before = {name: dict(vars(owner)) for owner in (Layer, Convolution) for name in (owner.__name__,)}
    by_layer.milliseconds(problem, 5)
    assert before == {owner.__name__: dict(vars(owner)) for owner in (Layer, Convolution)}
