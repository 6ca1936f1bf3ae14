"""Replays recorded runs of the authors' program through the public API.

A trace holds everything random in a run: initial parameters, mini-batch indices and sampled targets. The project must
then take the same steps to rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import Array, from_numpy, to_numpy
from kfac_ref import KFAC, Batch, Network, Settings, preset
from kfac_ref.machine import ALONE, Processes

TOLERANCES = {
    "delta_to_20": 1e-9,
    "delta": 1e-5,
    "scalars": 1e-6,
    "h": 1e-6,
    "recorded": 1e-5,
    "final": 1e-5,
    "averaged": 1e-5,
}
"""Largest relative difference allowed, in float64: δ at recorded iterations up to 20, and to the end; each of α, μ, γ
and λ; h; the recorded ∇h, Δ, Ā and G; the final and the averaged parameters."""

CONVERSIONS: dict[str, Callable[[Any], Any]] = {"str": str, "bool": bool}


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
    constants: dict[str, Any] = {}
    for f in fields(Settings):
        value = settings.get(f.name)
        if value == "sqrt(eta)":
            value = math.sqrt(float(settings["eta"]))
        if value is not None:  # what is not said is as in the authors' program
            constants[f.name] = CONVERSIONS.get(str(f.type), float)(value)
    activations = settings["activations"]
    names = [activations] if isinstance(activations, str) else activations
    layers = [int(d) for d in settings["layers"]]
    network = Network(layers, ["identity" if a == "linear" else a for a in names], settings["likelihood"])
    return network, preset("authors", **constants)


def replay(path: str | Path, like: Array | None = None, processes: Processes = ALONE) -> Replay:
    """Replay the trace at `path`, in the library, device and dtype of `like` (default: NumPy, float64), by one process
    or by many."""
    like = np.zeros(0) if like is None else like
    trace = read(path)
    recorded = json.loads(str(trace["settings"]))
    iterations = int(recorded["iterations"])
    network, settings = described(recorded)
    kfac = KFAC(network, settings, processes)

    def layers(prefix: str) -> list[np.ndarray]:
        return [trace[f"{prefix}_{i}"] for i in range(1, network.layers + 1)]

    worst = dict.fromkeys(TOLERANCES, 0.0)

    def compare(key: str, ours: Sequence[Array], theirs: Sequence[np.ndarray]) -> None:
        worst[key] = float(np.maximum(worst[key], difference(ours, theirs)))  # NaN stays NaN

    constant = network.likelihood.constant(network.outputs)
    state = kfac.init([from_numpy(W, like) for W in layers("W0")])
    for k in range(1, iterations + 1):
        rows = trace[f"index_{k}"].astype(np.int64).reshape(-1)
        here, sampled = rows[processes.dealt(len(rows))], trace[f"sampled_{k}"]
        batch = Batch(from_numpy(trace["X"][here], like), from_numpy(trace["Y"][here], like))
        state, record = kfac.step(state, batch, sampled=from_numpy(sampled[processes.dealt(len(sampled))], like))
        for name, value in (("alpha", record.alpha), ("mu", record.mu), ("gamma", record.gamma), ("lam", record.lam)):
            if name != "mu" or settings.momentum:
                compare("scalars", [np.asarray(value)], [trace[name][k - 1]])
        compare("h", [np.asarray(record.h - constant)], [trace["h"][k - 1]])
        for key, ours in (("gradient", record.gradient), ("direction", record.direction)):
            if f"{key}_{k}_1" in trace:
                compare("recorded", ours, layers(f"{key}_{k}"))
        if state.factors is not None and any(name.startswith(f"A_{k}_") for name in trace):
            whole = kfac.whole(state.factors)
            for name, blocks in (("A", whole.A), ("G", whole.G)):
                for (i, j), block in blocks.items():
                    if f"{name}_{k}_{i}_{j}" in trace:
                        compare("recorded", [block], [trace[f"{name}_{k}_{i}_{j}"]])
        if f"delta_{k}_1" in trace and state.delta is not None:
            for key in ("delta", "delta_to_20") if k <= 20 else ("delta",):
                compare(key, state.delta, layers(f"delta_{k}"))
    compare("final", state.parameters, layers("W_final"))
    compare("averaged", state.averaged, layers("W_averaged"))
    return Replay(iterations, worst)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a trace; ValueError if the file is not a whole one, FileNotFoundError if it is not there."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            trace = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    # NumPy and zipfile raise much besides their own errors at bytes that are not what they should be
    except Exception as error:
        raise ValueError(f"{path} is not a whole trace: {type(error).__name__}: {error}") from error
    missing = {
        "settings",
        "X",
        "Y",
        "W0_1",
        "alpha",
        "mu",
        "gamma",
        "lam",
        "h",
        "W_final_1",
        "W_averaged_1",
    } - trace.keys()
    if missing:
        raise ValueError(f"{path} is not a trace: it has no {', '.join(sorted(missing))}")
    # one-hot targets, say, may be stored as integers
    numbers = {name: x.astype(np.float64) for name, x in trace.items() if x.dtype.kind in "biuf"}
    return trace | numbers


def difference(ours: Sequence[Array], theirs: Sequence[np.ndarray]) -> float:
    """‖ours − theirs‖ / ‖theirs‖ over all layers together; ‖ours‖ where theirs is 0."""
    off = math.sqrt(sum(float(np.sum((to_numpy(a) - b) ** 2)) for a, b in zip(ours, theirs, strict=True)))
    size = math.sqrt(sum(float(np.sum(np.square(b))) for b in theirs))
    return off / size if size else off


def heading(width: int) -> str:
    """The two lines above those of replays whose names have so many letters at most."""
    columns = "  ".join(f"{name:>11}" for name in TOLERANCES)
    allowed = "  ".join(f"{limit:>11.0e}" for limit in TOLERANCES.values())
    return f"{'worst relative difference':<{width}}  iterations  {columns}\n{'(allowed)':<{width}}  {'':>10}  {allowed}"


def line(name: str, result: Replay, width: int) -> str:
    """The line of one replay."""
    cells = "  ".join(f"{result.worst[key]:>11.1e}" for key in TOLERANCES)
    verdict = "ok" if result.passed else "OVER TOLERANCE"
    return f"{name:<{width}}  {result.iterations:>10}  {cells}  {verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation replay FILE.npz …`: exit code 1 if one is over tolerance, 2 if one cannot be replayed."""
    parser = argparse.ArgumentParser(prog="python -m validation replay", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.npz", type=Path, help="traces, as those in tests/traces")
    files = parser.parse_args(arguments).files
    width = max(len(path.name) for path in files)
    print(heading(width))
    failed = broken = 0
    for path in files:
        try:
            result = replay(path)
        except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, OSError) as error:
            broken += 1
            print(f"error: {path}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        failed += not result.passed
        print(line(path.name, result, width), flush=True)
    return 2 if broken else int(failed > 0)
