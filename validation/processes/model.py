"""What an iteration would take with many processes: computed from its operations, its bytes, and a network's figures.

Sums over cases are divided by P. Of the inverses what `Processes.divide` is given goes to the process that has least so
far; the rest, the directions and the sums of arrays like θ are done by all. Random numbers for targets are too, but
take little. An all-reduce of n bytes takes 2 ⌈log₂P⌉ latencies and sends 2 n (P−1)/P bytes; gathering them takes
⌈log₂P⌉ and sends n (P−1)/P.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kfac_ref.machine.processes import SMALL, divided
from kfac_ref.settings import Settings
from validation.benchmark import flops

FLOAT = 4
"""Bytes: float32."""
OF_CASES = ("gradient", "factors", "quadratic model", "ρ")
"""Stages that are sums over cases."""
SMALL_MESSAGES = 7.5
"""An iteration, beside the gradient, factors and inverses: agreements, forms, decisions, ρ (see the table measured)."""


@dataclass(frozen=True)
class Wire:
    """A network's figures."""

    name: str
    latency: float
    """Seconds of a message of nothing."""
    bandwidth: float
    """Bytes a second, each way."""


WIRES = (Wire("10 Gbit/s, 30 µs", 30e-6, 1.25e9), Wire("200 Gbit/s, 2 µs", 2e-6, 25e9))


def due(settings: Settings, k: int) -> tuple[bool, int]:
    """Whether iteration k of a run inverts, and for how many γ."""
    refresh = k % settings.T3 == 0 or k <= 3
    candidates = 3 if k % settings.T2 == 0 and (refresh or settings.candidates_inverted) else 1
    inverted = candidates if refresh else candidates - 1
    return inverted > 0, inverted


def payload(sizes: Sequence[int], settings: Settings, ks: Sequence[int]) -> dict[str, float]:
    """Bytes of the large messages, the mean over iterations ks: of what is summed, and of the inverses gathered."""
    weights = sum(d * (n + 1) for n, d in pairwise(sizes))
    sides = _sides(sizes)
    of_factors = sum(n * (n + 1) // 2 for side in sides for n in side)
    if settings.tridiagonal:
        of_factors += sum(a * b for side in sides for a, b in pairwise(side))
    sent = sum(numbers for _, numbers, _ in pieces(sizes, settings.tridiagonal))
    plans = [due(settings, k) for k in ks]
    return {
        # and h and the error, in float64
        "gradient": FLOAT * weights + 16.0,
        "factors": FLOAT * of_factors * sum(inverts for inverts, _ in plans) / len(ks),
        "inverses": FLOAT * sent * sum(number for _, number in plans) / len(ks),
    }


def pieces(sizes: Sequence[int], tridiagonal: bool) -> list[tuple[int, int, float]]:
    """What `divide` hands out for one γ: the size of each piece, how many numbers are sent of it, its operations."""
    found = []
    for side in _sides(sizes):
        if not tridiagonal:
            found += [(n, n * (n + 1) // 2 + 1, float(n**3)) for n in side]
            continue
        for n, q, low_rank in zip(side, side[1:], flops._low_rank(sizes), strict=False):
            if low_rank and q < n:
                work = 2.0 * n * n * q + q * q * n + flops.EIGENPROBLEM * q**3 + 2 * n * q * q
                found.append((n, n * q + q, work))
            else:
                found.append((n, n * n + n, 2.0 * n * n * q + (flops.EIGENPROBLEM + 1) * n**3))
    return [piece for piece in found if piece[0] > SMALL]


def seconds(
    sizes: Sequence[int], m: int, settings: Settings, number: int, rates: Mapping[str, float], wire: Wire
) -> dict[str, float]:
    """Seconds of an iteration of a long run by `number` processes: of sums over cases, of the inverses, of what all do,
    and of messages.

    `rates` are seconds for each operation, by stage, and for each weight ("rest").
    """
    ks = range(4, 4 + flops.cycle(settings))
    work = flops.mean_over_cycle(sizes, m, settings)
    weights = sum(d * (n + 1) for n, d in pairwise(sizes))
    cases = sum(work[stage] * rates[stage] for stage in OF_CASES) / number
    inverted = sum(due(settings, k)[1] for k in ks) / len(ks)
    largest = [piece[2] for piece in pieces(sizes, settings.tridiagonal)]
    if not settings.tridiagonal and inverted:
        # the pieces of all γ together
        candidates = max(due(settings, k)[1] for k in ks)
        shares, inverted_at_once = largest * candidates, inverted / candidates
    else:
        shares, inverted_at_once = largest, inverted
    load = [0.0] * number
    for owner, piece in zip(divided(shares, number), shares, strict=True):
        load[owner] += piece
    by_all = inverted * (flops.inverse(sizes, settings.tridiagonal) - sum(largest))
    inverses = (inverted_at_once * max(load) + by_all) * rates["inverse"]
    everyone = work["direction"] * rates["direction"] + weights * rates["rest"]
    return {"cases": cases, "inverses": inverses, "all": everyone, "messages": messages(sizes, settings, number, wire)}


def messages(sizes: Sequence[int], settings: Settings, number: int, wire: Wire) -> float:
    """Seconds of an iteration's messages."""
    if number == 1:
        return 0.0
    ks = range(4, 4 + flops.cycle(settings))
    sent, hops, part = payload(sizes, settings, ks), math.ceil(math.log2(number)), (number - 1) / number
    inverting = sum(due(settings, k)[0] for k in ks) / len(ks)
    latencies = hops * (2 * (2 + inverting + SMALL_MESSAGES) + 2 * inverting)
    size = 2 * (sent["gradient"] + sent["factors"]) + sent["inverses"]
    return latencies * wire.latency + part * size / wire.bandwidth


def _sides(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    return [n + 1 for n in sizes[:-1]], list(sizes[1:])
