"""Replays recorded runs of the authors' program through the public API.

A trace holds everything random in a run: initial parameters, mini-batch indices and sampled targets. The project must
then take the same steps to rounding.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import Array, from_numpy, to_numpy
from kfac_ref import KFAC, Batch, Network, Settings

TOLERANCES = {"delta_to_20": 1e-9, "delta": 1e-5, "scalars": 1e-6, "h": 1e-6, "final": 1e-5, "averaged": 1e-5}
"""Largest relative difference allowed, in float64: δ at recorded iterations up to 20, and to the end; each of α, μ, γ
and λ; h; the final and the averaged parameters."""


@dataclass(frozen=True)
class Replay:
    """The worst relative differences of a replayed trace, by the keys of TOLERANCES."""

    iterations: int
    worst: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every difference is within its tolerance (a NaN is not)."""
        return all(self.worst[key] <= limit for key, limit in TOLERANCES.items())


def described(settings: dict[str, Any]) -> tuple[Network, Settings]:
    """The network and the constants that a trace's settings describe."""
    eta = float(settings["eta"])
    gamma_min = math.sqrt(eta) if settings["gamma_min"] == "sqrt(eta)" else float(settings["gamma_min"])
    constants = {name: settings[name] for name in Settings.__dataclass_fields__ if name in settings}
    constants |= {"eta": eta, "gamma_min": gamma_min, "gamma_max": float(settings["gamma_max"])}
    network = Network(settings["layers"], settings["activations"], settings["likelihood"])
    return network, Settings(**constants)


def replay(path: str | Path, like: Array | None = None) -> Replay:
    """Replay the trace at `path`, in the library, device and dtype of `like` (default: NumPy, float64)."""
    like = np.zeros(0) if like is None else like
    with np.load(path, allow_pickle=False) as archive:
        trace = {name: archive[name] for name in archive.files}
    recorded = json.loads(str(trace["settings"]))
    network, settings = described(recorded)
    kfac = KFAC(network, settings)

    def layers(prefix: str) -> list[np.ndarray]:
        return [trace[f"{prefix}_{i}"] for i in range(1, network.layers + 1)]

    worst = dict.fromkeys(TOLERANCES, 0.0)

    def compare(key: str, ours: Sequence[Array], theirs: Sequence[np.ndarray]) -> None:
        worst[key] = float(np.maximum(worst[key], difference(ours, theirs)))  # NaN stays NaN

    constant = network.likelihood.constant(network.sizes[-1])
    state = kfac.init([from_numpy(W, like) for W in layers("W0")])
    for k in range(1, recorded["iterations"] + 1):
        rows = trace[f"index_{k}"]
        batch = Batch(from_numpy(trace["X"][rows], like), from_numpy(trace["Y"][rows], like))
        state, record = kfac.step(state, batch, sampled=from_numpy(trace[f"sampled_{k}"], like))
        for name, value in (("alpha", record.alpha), ("mu", record.mu), ("gamma", record.gamma), ("lam", record.lam)):
            compare("scalars", [np.asarray(value)], [trace[name][k - 1]])
        compare("h", [np.asarray(record.h - constant)], [trace["h"][k - 1]])
        if f"delta_{k}_1" in trace and state.delta is not None:
            for key in ("delta", "delta_to_20") if k <= 20 else ("delta",):
                compare(key, state.delta, layers(f"delta_{k}"))
    compare("final", state.parameters, layers("W_final"))
    compare("averaged", state.averaged, layers("W_averaged"))
    return Replay(recorded["iterations"], worst)


def difference(ours: Sequence[Array], theirs: Sequence[np.ndarray]) -> float:
    """‖ours − theirs‖ / ‖theirs‖ over all layers together; ‖ours‖ where theirs is 0."""
    off = math.sqrt(sum(float(np.sum((to_numpy(a) - b) ** 2)) for a, b in zip(ours, theirs, strict=True)))
    size = math.sqrt(sum(float(np.sum(np.square(b))) for b in theirs))
    return off / size if size else off


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation replay FILE.npz …`: exit code 1 if a file is over tolerance."""
    parser = argparse.ArgumentParser(prog="python -m validation replay", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.npz", type=Path)
    files = parser.parse_args(arguments).files
    width = max(len(path.name) for path in files)
    columns = "  ".join(f"{name:>11}" for name in TOLERANCES)
    print(f"{'worst relative difference':<{width}}  iterations  {columns}")
    print(f"{'(allowed)':<{width}}  {'':>10}  {'  '.join(f'{limit:>11.0e}' for limit in TOLERANCES.values())}")
    failed = 0
    for path in files:
        result = replay(path)
        failed += not result.passed
        cells = "  ".join(f"{result.worst[name]:>11.1e}" for name in TOLERANCES)
        verdict = "ok" if result.passed else "OVER TOLERANCE"
        print(f"{path.name:<{width}}  {result.iterations:>10}  {cells}  {verdict}", flush=True)
    return 1 if failed else 0
