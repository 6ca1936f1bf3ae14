"""What was found in a model of whatever framework, and whether it fits the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kfac_ref.machine import memory
from kfac_ref.oracle.captured import CapturedLayer

SHARE = 1 / 3
"""Of the memory there is, what rows and derivatives may take: what is made of them takes as much again, and more."""


@dataclass(frozen=True)
class Found:
    """A model's outputs and layers."""

    z: np.ndarray
    """(N, C) or (N, T, C)."""
    layers: list[CapturedLayer]
    left_out: dict[str, str]
    """Parameters that no layer covers, and why."""


def require_memory(sizes: Mapping[str, int], cases: int, outputs: int) -> None:
    """ValueError if rows and derivatives, so many numbers by the names of layers, are more than the memory allows."""
    have, needed = memory.limit(), 8 * sum(sizes.values())
    if have is None or needed <= SHARE * have:
        return
    largest = max(sizes, key=lambda name: sizes[name])
    raise ValueError(
        f"rows and derivatives of {cases} cases and {outputs} outputs take {memory.readable(needed)}, "
        f"{memory.readable(8 * sizes[largest])} of it in {largest!r}; {memory.readable(SHARE * have)} may be taken: "
        "give fewer cases, or capture some layers alone (layers=[…])"
    )


def along(layer: CapturedLayer, u: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of Σ_n u_nᵀz_n, u (N, C), as the rows say, and the sum of the sizes of its terms.

    By the "weight" without the bias, (d, p), or (d,) of a normalisation's scale; or by the "bias" or shift, (d,).
    """
    g = np.einsum("nc,cntd->ntd", u, layer.g)
    if part == "bias":
        return g.sum((0, 1)), np.abs(g).sum((0, 1))
    to = "ntd,ntd->d" if layer.kind == "normalisation" else "ntd,ntp->dp"
    return np.einsum(to, g, layer.a, optimize=True), np.einsum(to, np.abs(g), np.abs(layer.a), optimize=True)
