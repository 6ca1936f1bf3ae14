"""Cases for influence scores, and how far other programs' scores of them are from ours, by their conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from autodiff.network import Network, Parameters
from autodiff.passes import ForwardPass
from kfac_ref.influence import Influence
from validation.peers.cases import installed

CASES = ("dense", "convolution", "sequence")
N, QUERIES = 17, 3
BOUND = 1e-6
KINDS = [(a, b) for a in ("ekfac", "kfac") for b in ("empirical", "sampled")]
"""The diagonal, and the targets."""
DAMPINGS = (0.01, None)
"""None: 0.1 times the mean of a layer's diagonal."""

Scores = Mapping[tuple[str, "Setting"], np.ndarray]
"""By case and setting, (ℓ, Q, N)."""


class Setting(NamedTuple):
    """How scores are made."""

    strategy: str
    fisher: str
    """"empirical", or "sampled" with targets that both are given."""
    damping: float | None

    def __str__(self) -> str:
        return f"{self.strategy}, {self.fisher}, {'heuristic' if self.damping is None else self.damping} damping"


def made(case: str) -> tuple[Network, Parameters, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A categorical network, its parameters, and X, Y and targets drawn from the model, the same at each call."""
    rng = np.random.default_rng(2308)
    network = {
        "dense": Network([4, 6, 5, 3], "tanh", "categorical"),
        "convolution": Network.of(
            [
                {"kind": "conv", "out": 3, "kernel": [2, 3], "padding": [1, 1], "activation": "tanh"},
                {"kind": "flatten"},
                {"kind": "dense", "out": 3},
            ],
            (2, 4, 5),
            "categorical",
        ),
        "sequence": Network.of(
            [{"kind": "dense", "out": 5, "activation": "tanh"}, {"kind": "flatten"}, {"kind": "dense", "out": 3}],
            (4, 3),
            "categorical",
        ),
    }[case]
    W = [rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in network.shapes]
    X, Y = rng.standard_normal((N, *network.input)), np.eye(3)[rng.integers(3, size=N)]
    ((_, seen),) = ForwardPass(network, W, X).chunks()
    return network, W, (X, Y, network.likelihood.sample(seen.z, (2308, 1)))


def ours(case: str, setting: Setting, given: tuple[Parameters, tuple[np.ndarray, ...]] | None = None) -> np.ndarray:
    """Our scores (ℓ, Q, N) in kronfluence's conventions, of the case or with W and data `given` for its network.

    Its loss is the sum over the cases of a batch, as here, and it divides each factor by the cases times the T
    locations, so that its K-FAC is A⊗G/T of ours: a layer's score is T times ours with T times the damping. EKFAC's
    diagonal, of derivatives summed over locations, has no such freedom.
    """
    network, W, data = made(case)
    W, (X, Y, sampled) = given or (W, data)
    T = [layer.locations if setting.strategy == "kfac" else 1 for layer in network.weighted]
    scores = []
    for i, t in enumerate(T):
        damping = None if setting.damping is None else t * setting.damping
        # targets of F other than the model's exact ones are taken for the data's, and the scores are of the data's
        there = Influence(
            network, W, X, Y if setting.fisher == "empirical" else sampled, damping, "empirical", setting.strategy
        )
        there.Y = Y
        scores.append(t * there.on(X[:QUERIES], Y[:QUERIES])[i])
    return np.stack(scores)


def compare(theirs: Scores) -> int:
    """Print how far each is from ours, relative to the largest score of a layer; 1 if one is by more than BOUND."""
    print(", ".join(f"{name} {version}" for name in ("kronfluence", "torch", "numpy") if (version := installed(name))))
    off = 0
    for (case, setting), found in theirs.items():
        difference = distance(found, ours(case, setting))
        print(f"{case + ':':<13}{setting!s:<42} {difference:.1e}")
        off += not difference <= BOUND
    return int(bool(off))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, by layers relative to the largest score."""
    scale = np.abs(expected).max(axis=(1, 2), keepdims=True)
    return float(np.max(np.abs(found - expected) / scale))


def record(theirs: Scores, path: str) -> None:
    """Keep them in an npz, with CASES made by `made` beside, which random numbers of another NumPy would change."""
    arrays: dict[str, Any] = {f"{case}/{setting}": x for (case, setting), x in theirs.items()}
    for case in CASES:
        _, W, data = made(case)
        arrays |= {f"{case}/W{i}": w for i, w in enumerate(W, start=1)}
        arrays |= {f"{case}/{name}": x for name, x in zip(("X", "Y", "sampled"), data, strict=True)}
    np.savez_compressed(path, **arrays)
