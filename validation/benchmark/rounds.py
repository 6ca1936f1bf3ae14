"""Everything of a network and mini-batch in turn, round after round, so that what disturbs the machine disturbs all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from autodiff.arrays import is_numpy
from kfac_ref.machine import at_full_speed
from kfac_ref.settings import INVERSES
from validation.benchmark import by_layer, flops, methods, problems
from validation.benchmark.methods import Method, Row
from validation.benchmark.peer import Peer
from validation.benchmark.problems import Problem

CYCLE = 20
"""Iterations until λ, γ and the inverse are due together again, with all SETTINGS and in kfac-jax."""
PIECE = 5
"""Repetitions of each method in a round."""


@dataclass(frozen=True)
class Measured:
    """One method."""

    rows: list[Row]
    """Its repetitions, of K-FAC from iteration 21 on."""
    split: list[Row]
    """Those whose stages are told apart: the same, but where the device must be waited for after each stage."""
    flops: dict[str, float]
    """Of a repetition, by stage; of K-FAC the mean over a cycle. Empty where it was not counted."""

    @property
    def mean(self) -> float:
        """Seconds a repetition."""
        return fmean(row["seconds"] for row in self.rows)

    @property
    def median(self) -> float:
        """Seconds."""
        return median(row["seconds"] for row in self.rows)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, means; empty where there are none."""
        return {name: fmean(row[name] for row in self.split) for name in self.split[0] if name != "seconds"}


@dataclass(frozen=True)
class Group:
    """What was measured in turn."""

    network: str
    m: int
    made_up: bool
    """Whether the cases are random numbers."""
    measured: dict[str, Measured]
    """By the method's name."""
    compile_seconds: float | None
    """Of kfac-jax."""
    threads: int | None
    """Of the BLAS."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of JAX and kfac-jax, and JAX's kind of device."""
    layers: list[dict[str, Any]] = field(default_factory=list)
    """Milliseconds of the bare gradient by layer; see `by_layer`."""

    @property
    def rate(self) -> float:
        """FLOP/s of the matrix product."""
        product = self.measured[methods.MATMUL]
        return sum(product.flops.values()) / product.median


def name(setting: str, inverse: str) -> str:
    """What K-FAC with one of SETTINGS and one of INVERSES is called."""
    return f"{setting}, {inverse}"


def measure(
    problem: Problem, m: int, settings: tuple[str, ...], peer: Peer | None, cycles: int, advance: Callable[[], object]
) -> Group:
    """Measure K-FAC with these SETTINGS and each inverse, and all that is beside it, for so many cycles.

    The first cycle, in which inverses are computed three times more and peers compile, is not counted. `advance` is
    called after each round.
    """
    chosen = {name(s, inverse): problems.settings(s, inverse, m) for s in settings for inverse in INVERSES}
    network, X = problem.network, problem.data.X
    ways: dict[str, Method] = {
        methods.MATMUL: methods.matmul(X),
        methods.GRADIENT: methods.gradient(problem, m),
        methods.SGD_STEP: methods.sgd(problem, m),
        **{label: methods.kfac(problem, s) for label, s in chosen.items()},
    }
    counts = {methods.MATMUL: {"product": 2.0 * methods.SIDE**3}}
    if network.fully_connected:
        counts |= {
            methods.GRADIENT: {"gradient": flops.gradient(network.sizes, m)},
            methods.SGD_STEP: {"gradient": flops.gradient(network.sizes, m)},
            **{label: flops.mean_over_cycle(network.sizes, m, s) for label, s in chosen.items()},
        }
    if peer:
        ways |= methods.peers(peer, problem, m)
    # to tell stages apart on another device it must be waited for after each, which costs time of its own
    apart = not is_numpy(X)
    # the BLAS has nothing to do for arrays that are not on the host
    with at_full_speed(1 if apart else network.widest) as threads:
        _in_turn(ways, 1, False, advance)
        rows = _in_turn(ways, cycles, not apart, advance)
        split = _in_turn(ways, 1, True, advance) if apart else rows
        layers = by_layer.milliseconds(problem, m)
    measured = {label: Measured(rows[label], split[label], counts.get(label, {})) for label in ways}
    return Group(
        problem.name,
        m,
        problem.made_up,
        measured,
        compile_seconds=peer.compile_seconds if peer else None,
        threads=None if apart else threads,
        versions=dict(peer.versions) if peer else {},
        layers=layers,
    )


def _in_turn(
    ways: Mapping[str, Method], cycles: int, split: bool, advance: Callable[[], object]
) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {label: [] for label in ways}
    for _ in range(cycles * CYCLE // PIECE):
        for label, method in ways.items():
            rows[label] += method(PIECE, split)
        advance()
    return rows
