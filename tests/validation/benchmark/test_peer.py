"""The other side's process: what is asked and answered, and what is said when it cannot be.

With KFAC_REF_JAX_PYTHON, the Python of an environment with kfac-jax, the worker itself is tested too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from autodiff import Network, glorot_initialisation
from autodiff.objective import loss
from autodiff.passes import ForwardPass
from validation.benchmark import peer
from validation.benchmark.peer import Peer

FAKE = """
import json, os, sys
import numpy as np
print(json.dumps({"answer": {"jax": "fake"}}), flush=True)
asked = []
for line in sys.stdin:
    request = json.loads(line)
    do = request.pop("do")
    asked.append(do)
    if do == "prepare":
        X, W = np.load(request["X"]), [np.load(path) for path in request["parameters"]]
    if do == "begin":
        minibatches = request["minibatches"]
    if do == "save":
        for path, w in zip(request["paths"], W):
            np.save(path, 2 * w)
    if do == "gradient":
        print("something from a library", file=sys.stderr, flush=True)
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(3)
    answer = {
        "begin": lambda: 11.5, "kfac": lambda: [0.1] * request["iterations"], "sgd": lambda: [float(X.mean())],
        "advance": lambda: {"k": 3, "seconds": request["until"], "loss": 0.5}, "peak_memory": lambda: minibatches,
    }.get(do, lambda: asked)
    if do == "asked" and "wrong" in request:
        print(json.dumps({"error": "ValueError: no such thing"}), flush=True)
    else:
        print(json.dumps({"answer": answer()}), flush=True)
"""
SIZES = (6, 4, 3, 6)
ACTIVATIONS = ("tanh", "identity", "identity")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A worker that only answers, in place of the one that needs JAX."""
    path = tmp_path / "fake_worker.py"
    path.write_text(FAKE, encoding="utf-8")
    monkeypatch.setattr(peer, "WORKER", path)


def data(cases: int = 20) -> np.ndarray:
    return np.random.default_rng(0).random((cases, SIZES[0]))


def test_what_is_asked_is_answered(fake):
    X = data()
    W = [np.full((rows, columns + 1), 0.5) for columns, rows in pairwise(SIZES)]
    with Peer(sys.executable) as other:
        assert other.versions == {"jax": "fake"}
        other.prepare(SIZES, ACTIVATIONS, "bernoulli", X, W)
        assert other.sgd(1) == [pytest.approx(X.mean(), rel=1e-6)]
        assert other.kfac(2) == [0.1, 0.1] and other.compile_seconds == 11.5
        assert other.kfac(1) == [0.1]
        assert other.ask("asked") == ["prepare", "sgd", "begin", "kfac", "kfac", "asked"]
        assert other.peak_memory() == [[1, 20]], "all cases are one mini-batch"
        other.begin({}, [(1, 5), (10, 8)])
        assert other.peak_memory() == [[1, 5], [10, 8]]
        assert other.advance(2.5) == (3, 2.5)
        for given, back in zip(W, other.parameters(), strict=True):
            assert back.dtype == np.float32 and np.array_equal(back, 2 * given)


def test_another_network_begins_another_run(fake):
    with Peer(sys.executable) as other:
        for _ in range(2):
            other.prepare(SIZES, ACTIVATIONS, "bernoulli", data())
            other.kfac(1)
        assert other.ask("asked").count("begin") == 2


def test_the_process_ends_with_the_block(fake):
    with pytest.raises(KeyboardInterrupt), Peer(sys.executable) as other:
        folder = Path(other._folder.name)
        raise KeyboardInterrupt
    assert other._process.returncode is not None and not folder.exists()


def test_a_python_that_is_not_there():
    with pytest.raises(ValueError, match=r"no/such/python: cannot be run .*expected the Python .*kfac-jax==0\.0\.8"):
        Peer("no/such/python").__enter__()


@pytest.mark.skipif(importlib.util.find_spec("kfac_jax") is not None, reason="kfac-jax is here")
def test_a_python_without_jax():
    with pytest.raises(ValueError, match=r"No module named .*, expected the Python .*jax==0\.9\.1"):
        Peer(sys.executable).__enter__()


def test_what_the_worker_refuses_is_a_value_error(fake):
    with Peer(sys.executable) as other:
        with pytest.raises(ValueError, match=r"fake_worker\.py, asked: ValueError: no such thing"):
            other.ask("asked", wrong=True)
        assert other.ask("asked") == ["asked", "asked"], "and it goes on"


def test_a_worker_that_dies_says_its_last_words(fake):
    with Peer(sys.executable) as other:
        for _ in range(2):
            with pytest.raises(ArithmeticError, match=r"died when it was to gradient: out of memory"):
                other.gradient(1)


# --- with JAX ------------------------------------------------------------------------------------------------------

JAX = os.environ.get("KFAC_REF_JAX_PYTHON")
with_jax = pytest.mark.skipif(not JAX, reason="KFAC_REF_JAX_PYTHON is not set")


@pytest.fixture(scope="module")
def other():
    with Peer(str(JAX)) as found:
        yield found


@with_jax
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_its_objective_is_ours(other, likelihood):
    network = Network(SIZES, ["tanh", "identity"], likelihood)
    W, X, eta = glorot_initialisation(network, 0), data(), 0.1
    other.prepare(SIZES, ACTIVATIONS, likelihood, X, W, eta)
    other.begin({"initial_damping": 1.0}, [(1, len(X))])
    found = other.ask("advance", until=0.0)
    assert found["k"] == 1
    assert found["loss"] == pytest.approx(float(loss(ForwardPass(network, W, X), X, eta).h), rel=1e-5)
    changed = other.parameters()
    assert all(a.shape == b.shape and not np.allclose(a, b) for a, b in zip(W, changed, strict=True))
    assert float(loss(ForwardPass(network, changed, X), X, eta).h) < 0.99 * found["loss"]


@with_jax
def test_it_measures(other):
    other.prepare(SIZES, ACTIVATIONS, "bernoulli", data())
    assert set(other.versions) == {"jax", "jaxlib", "kfac-jax", "device"}
    for times in (other.gradient(3), other.sgd(3), other.kfac(3)):
        assert len(times) == 3 and all(0 < t < 60 for t in times)
    assert other.compile_seconds > 0 and other.peak_memory() > 50e6
    assert max(other.kfac(21)) < other.compile_seconds / 5, "nothing is left to be compiled"


@with_jax
def test_a_run_on_minibatches_goes_on_for_as_long_as_it_is_told(other):
    other.prepare(SIZES, ACTIVATIONS, "bernoulli", data(50))
    other.begin({"initial_damping": 1.0}, [(1, 10), (4, 20)])
    k, seconds = other.advance(0.05)
    assert k > 1 and seconds >= 0.05
    more, later = other.advance(0.1)
    assert more > k and later >= 0.1


@with_jax
def test_what_it_does_not_know_is_named(other):
    with pytest.raises(ValueError, match="no activation 'sine', expected one of logistic"):
        other.prepare(SIZES, ("sine", "identity", "identity"), "bernoulli", data())
    with pytest.raises(ValueError, match="no likelihood 'poisson', expected bernoulli or gaussian"):
        other.prepare(SIZES, ACTIVATIONS, "poisson", data())
