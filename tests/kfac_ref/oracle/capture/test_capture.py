"""What of captures needs no framework: which model it is, targets, ignored outputs, memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kfac_ref.machine import memory
from kfac_ref.oracle import CapturedLayer, capture
from kfac_ref.oracle.capture import found, targets

Z = np.random.default_rng(0).standard_normal((4, 3))


def test_no_framework_is_imported():
    code = "import sys, kfac_ref.oracle; print({'torch', 'jax'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(("model", "said"), [(3, "a int"), (lambda params, x: x, "a function without params")])
def test_what_is_no_model_is_refused(model, said):
    with pytest.raises(TypeError, match=f"the model is {said}, expected a torch.nn.Module, or a function of JAX"):
        capture(model, Z, Z, "gaussian")


def test_labels_become_one_hot():
    Y, ignored = targets.prepared(np.array([2, 0, 1, 1]), Z, "categorical", -100)
    np.testing.assert_array_equal(Y, np.eye(3)[[2, 0, 1, 1]])
    assert ignored is None
    Y, ignored = targets.prepared([[0, 2], [2, 9]], np.zeros((2, 2, 3)), "categorical", 9)
    np.testing.assert_array_equal(Y.sum(2), np.ones((2, 2)))
    np.testing.assert_array_equal(ignored, [[False, False], [False, True]])


def test_targets_of_the_outputs_shape_are_as_they_are():
    for likelihood, y in (("gaussian", Z), ("categorical", np.eye(3)[[0, 1, 2, 0]]), ("bernoulli", Z > 0)):
        np.testing.assert_array_equal(targets.prepared(y, Z, likelihood, -100)[0], y)


@pytest.mark.parametrize(
    ("y", "likelihood", "said"),
    [
        (np.zeros(4), "gaussian", r"targets have shape \(4,\), expected \(4, 3\) as the outputs"),
        (
            np.zeros((4, 1)),
            "categorical",
            r"shape \(4, 1\), expected \(4, 3\) as the outputs, or integer labels \(4,\)",
        ),
        (np.zeros(4), "categorical", r"shape \(4,\) and dtype float64, expected labels to be integers"),
        (np.array([0, 1, -1, 0]), "categorical", r"targets\[2\] = -1, expected labels 0 … 2, or -100 where ignored"),
        (np.full(4, -100), "categorical", "all targets are -100"),
        (np.full((4, 3), "a"), "gaussian", "targets have dtype <U1, expected real numbers"),
    ],
)
def test_targets_that_do_not_fit(y, likelihood, said):
    with pytest.raises(ValueError, match=said):
        targets.prepared(y, Z, likelihood, -100)


@pytest.mark.parametrize("kind", ["rows", "normalisation"])
def test_the_gradient_that_rows_say(kind):
    rng = np.random.default_rng(0)
    a, g, u = rng.standard_normal((4, 2, 5)), rng.standard_normal((3, 4, 2, 5)), rng.standard_normal((4, 3))
    terms = [(u[n, c] * g[c, n, t], a[n, t]) for n in range(4) for c in range(3) for t in range(2)]
    weight = sum(Ds * row if kind == "normalisation" else np.outer(Ds, row) for Ds, row in terms)
    layer = CapturedLayer(a, g, kind=kind)
    np.testing.assert_allclose(found.along(layer, u, "weight")[0], weight, rtol=1e-13)
    np.testing.assert_allclose(found.along(layer, u, "bias")[0], sum(Ds for Ds, _ in terms), rtol=1e-13)


def test_more_than_the_memory_allows_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: 24_000)
    found.require_memory({"first": 400, "second": 600}, 4, 2)
    with pytest.raises(
        ValueError, match=r"4 cases and 2 outputs take 7.82 KiB, 4.7 KiB of it in 'second'; 7.81 KiB may"
    ):
        found.require_memory({"first": 400, "second": 601}, 4, 2)
    monkeypatch.setattr(memory, "limit", lambda: None)
    found.require_memory({"first": 10**20}, 4, 2)
