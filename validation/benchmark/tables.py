"""What was measured, as tables: their rows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from validation.benchmark.methods import GRADIENT, JAX_GRADIENT, JAX_SGD, KFAC_JAX, MATMUL, SGD_STEP
from validation.benchmark.rounds import Group, Measured, name

Row = dict[str, Any]

DIAGONAL, TRIDIAGONAL, WHOLE = (
    name("paper", "block-diagonal"),
    name("paper", "block-tridiagonal"),
    name("whole", "block-diagonal"),
)


def seconds(groups: Sequence[Group]) -> list[Row]:
    """Every method: seconds, what it is of the bare gradient, FLOP, and what of the matrix product's rate."""
    rows = []
    for group, label, measured in _each(groups):
        count = sum(measured.flops.values())
        rows.append(
            _where(group, label)
            | {
                "median, s": measured.median,
                "mean, s": measured.mean,
                "mean / gradient": measured.mean / group.measured[GRADIENT].median,
                "GFLOP": count / 1e9 or None,
                "of matmul": count / measured.mean / group.rate or None,
            }
        )
    return rows


def stages(groups: Sequence[Group]) -> list[Row]:
    """Milliseconds an iteration by stage, means."""
    return [
        _where(group, label) | {stage: 1e3 * value for stage, value in measured.stages().items()}
        for group, label, measured in _each(groups)
        if measured.stages()
    ]


def layers(groups: Sequence[Group]) -> list[Row]:
    """Milliseconds of the bare gradient by layer."""
    return [{"network": group.network, "m": group.m} | row for group in groups for row in group.layers]


def rates(groups: Sequence[Group]) -> list[Row]:
    """What of the matrix product's rate each stage has."""
    return [
        _where(group, label)
        | {
            stage: measured.flops[stage] / value / group.rate if value else None
            for stage, value in measured.stages().items()
            if stage in measured.flops
        }
        for group, label, measured in _each(groups)
        if measured.stages()
    ]


def ratios(
    groups: Sequence[Group], memory: int | None, peer_memory: int | None, start: Sequence[float] | None
) -> list[Row]:
    """What matters most in a line each, on MNIST with mini-batches of 1000, then of the convolutional network: what
    could be measured of it."""
    groups_by_name = {(group.network, group.m): group.measured for group in groups}
    found = groups_by_name.get(("mnist", 1000), {})
    rows = _ratios(found)
    rows += [row | {"what": f"conv, m = 250: {row['what']}"} for row in _ratios(groups_by_name.get(("conv", 250), {}))]
    if memory:
        what = f"{DIAGONAL}, peak memory with all cases, GB" + ", over kfac-jax's" * bool(peer_memory)
        rows.append(_ratio(what, memory / 1e9, peer_memory / 1e9 if peer_memory else None))
    if start:
        rows.append(_ratio("from the command to the end of the first iteration, median, s", median(start), None))
    return rows


def _ratios(found: dict[str, Measured]) -> list[Row]:
    """Of one network and mini-batch."""
    rows: list[Row] = []
    for ours, theirs, of in (
        (GRADIENT, JAX_GRADIENT, "median"),
        (SGD_STEP, JAX_SGD, "median"),
        (DIAGONAL, KFAC_JAX, "mean"),
        (WHOLE, KFAC_JAX, "mean"),
        (TRIDIAGONAL, KFAC_JAX, "mean"),
        (DIAGONAL, GRADIENT, "mean"),
        (TRIDIAGONAL, GRADIENT, "mean"),
    ):
        if ours in found and theirs in found:
            other = "median" if theirs == GRADIENT else of
            what = f"{ours}, {of} seconds, over {'own bare ' if theirs == GRADIENT else ''}{theirs}'s {other}"
            rows.append(_ratio(what, getattr(found[ours], of), getattr(found[theirs], other)))
    if DIAGONAL in found and found[DIAGONAL].flops:
        product = found[MATMUL]
        what = f"{DIAGONAL}, GFLOP/s by the mean, over {MATMUL}'s by the median"
        rows.append(
            _ratio(
                what,
                sum(found[DIAGONAL].flops.values()) / found[DIAGONAL].mean / 1e9,
                sum(product.flops.values()) / product.median / 1e9,
            )
        )
    return rows


def _each(groups: Sequence[Group]) -> list[tuple[Group, str, Measured]]:
    return [(group, label, measured) for group in groups for label, measured in group.measured.items()]


def _where(group: Group, label: str) -> Row:
    return {"network": group.network, "m": group.m, "method": label}


def _ratio(what: str, measured: float, beside: float | None) -> Row:
    return {"what": what, "measured": measured, "beside": beside, "ratio": measured / beside if beside else None}
