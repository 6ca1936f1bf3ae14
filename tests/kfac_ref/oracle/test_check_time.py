"""How long a check takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from autodiff import Network
from kfac_ref.oracle import CapturedCase, CapturedLayer, Case, check
from tests.conftest import random_parameters


def large(rng, likelihood: str) -> tuple[Case, dict[str, np.ndarray]]:
    """1000 cases, and factors of one backward pass with sampled targets, G being a sum."""
    network, cases = Network([256, 20, 20, 20, 20, 20, 10], "tanh", likelihood), 1000
    W, X = random_parameters(rng, network), rng.random((cases, 256))
    a = [np.column_stack([X, np.ones(cases)])]
    for w in W[:-1]:
        a.append(np.column_stack([np.tanh(a[-1] @ w.T), np.ones(cases)]))
    z = a[-1] @ W[-1].T
    if likelihood == "categorical":
        mean = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        y = np.eye(10)[(mean.cumsum(1) < rng.random((cases, 1))).sum(1).clip(max=9)]
    elif likelihood == "bernoulli":
        mean = 1 / (1 + np.exp(-z))
        y = (rng.random(z.shape) < mean) * 1.0
    else:
        mean, y = z, z + rng.standard_normal(z.shape)
    g = [mean - y]
    for w, x in zip(W[:0:-1], a[:0:-1], strict=True):
        g.insert(0, g[0] @ w[:, :-1] * (1 - x[:, :-1] ** 2))
    theirs = {f"A_{i}": x.T @ x / cases for i, x in enumerate(a)}
    theirs |= {f"G_{i}": x.T @ x for i, x in enumerate(g, start=1)}
    return Case(network, W, X, y[rng.permutation(cases)], lam=0.1, eta=1e-5), theirs


def seconds(theirs, case) -> tuple[float, dict[str, dict]]:
    """Of the processor, as other programs may run at the same time; and the verdicts."""
    began = time.process_time()
    report = check(theirs, case)
    return time.process_time() - began, report.as_dict()["quantities"]


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
def test_a_check_of_sampled_factors_takes_less_than_5_seconds(likelihood):
    case, theirs = large(np.random.default_rng(0), likelihood)
    took, found = seconds(theirs, case)
    assert took < 5
    for name, v in found.items():
        expected = ("match", None, "1") if name[0] == "A" else ("match-under", "monte-carlo", "N")
        assert (v["verdict"], v["fisher"], v["expression"]) == expected


def test_a_check_that_explains_nothing_takes_less_than_5_seconds_too(rng):
    case, theirs = large(rng, "categorical")
    other = {name: rng.random((len(M), len(M))) for name, M in theirs.items()}
    took, found = seconds({name: M @ M.T for name, M in other.items()}, case)
    assert took < 5
    assert {v["verdict"] for v in found.values()} == {"no-match"}


def captured_layers(rng) -> tuple[CapturedCase, dict[str, np.ndarray]]:
    """20 captured layers of 4970 weights each, half of them at 16 locations; factors of sampled targets, G a sum."""
    N, C = 64, 10
    z = rng.standard_normal((N, C))
    mean = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    y = np.eye(C)[(mean.cumsum(1) < rng.random((N, 1))).sum(1).clip(max=C - 1)]
    theirs, layers = {}, []
    for i in range(1, 21):
        T = 16 if i % 2 else 1
        a, J = rng.standard_normal((N, T, 70)) + 0.2, rng.standard_normal((C, N, T, 70))
        rows = np.concatenate([a, np.ones((N, T, 1))], axis=2).reshape(N * T, -1)
        g = np.einsum("nc,cntd->ntd", mean - y, J).reshape(N * T, -1)
        theirs |= {f"A_{i}": rows.T @ rows / (N * T), f"G_{i}": g.T @ g}
        layers.append(CapturedLayer(a, J))
    return CapturedCase("categorical", z, y[rng.permutation(N)], layers, lam=0.1), theirs


def test_a_check_of_twenty_captured_layers_takes_less_than_20_seconds(rng):
    case, theirs = captured_layers(rng)
    took, found = seconds(theirs, case)
    assert took < 20
    for name, v in found.items():
        sharing = "expand" if int(name[2:]) % 2 else None
        assert v["sharing"] == sharing and v["scale"] == pytest.approx(1 if name[0] == "A" else 64), (name, v)
    noise = {name: rng.standard_normal(M.shape) for name, M in theirs.items()}
    other = {name: M * (1 + 1e-3 * (noise[name] + noise[name].T)) for name, M in theirs.items()}
    took, found = seconds(other, case)
    assert took < 20
    assert all(v["verdict"] == "no-match" for v in found.values())
