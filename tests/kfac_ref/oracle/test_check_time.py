"""How long a check takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from autodiff import Network
from kfac_ref.oracle import Case, check
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
