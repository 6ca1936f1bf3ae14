"""What the examples have in common: the cases, and printing what the check found."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import numpy as np

from autodiff.network import Network
from kfac_ref.oracle import CapturedCase, Case, check

SIZES = (4, 6, 5, 3)
CASES = 23
"""Of cases, of outputs, and of the units of each layer: all different, so that a scale can be told by its value."""
LIBRARIES = (
    *("torch", "curvlinops-for-pytorch", "backpack-for-pytorch", "nngeometry", "kronfluence", "laplace-torch"),
    *("asdfghjkl", "singd", "approxngd", "dattri", "jax", "kfac-jax", "mlx", "mlx-kfac", "numpy"),
)
DAMPING = 0.05
"""λ; γ is its root (§6.3)."""


def case(likelihood: str) -> Case:
    """A tanh network with Glorot-sized parameters and random data, the same at each call."""
    rng = np.random.default_rng(2015)
    network = Network(list(SIZES), "tanh", likelihood)
    parameters = [1.5 / np.sqrt(shape[1]) * rng.standard_normal(shape) for shape in network.shapes]
    X = rng.standard_normal((CASES, SIZES[0]))
    labels = rng.integers(SIZES[-1], size=CASES)
    Y = {
        "categorical": np.eye(SIZES[-1])[labels],
        "bernoulli": rng.integers(2, size=(CASES, SIZES[-1])).astype(float),
        "gaussian": rng.standard_normal((CASES, SIZES[-1])),
    }[likelihood]
    return Case(network, parameters, X, Y, lam=DAMPING)


def installed(name: str) -> str | None:
    """A package's version, if it is there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def show(found: Iterable[tuple[str, Case | CapturedCase, Mapping[str, Any]]]) -> None:
    """Check each (title, case, theirs), print what was found, and exit with 1 if something was not explained."""
    print(", ".join(f"{name} {version}" for name in LIBRARIES if (version := installed(name))))
    unexplained = []
    for title, of, theirs in found:
        report = check(theirs, of)
        print(f"\n## {title}\n\n{report}", flush=True)
        unexplained += [f"{title}: {name}" for name, v in report.quantities.items() if v.verdict == "no-match"]
    if unexplained:
        print("\nNot explained:", *unexplained, sep="\n  ")
    sys.exit(1 if unexplained else 0)
