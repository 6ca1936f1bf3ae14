"""Where the vectors of a factor may have been taken: at the right place of a network, and at those that hooks are put
at by mistake.

A factor, a gradient or a block is a mean over cases of Σ_r l_r r_rᵀ, l and r being rows of every case. Here are these
rows for every place, each an array (R, N, p): R rows of each of N cases. Where a layer works at T locations, as a
convolution does, they are the R = T rows of "expand"; of derivatives in exact expectation, one for each column of a
root of F_R besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kfac_ref.oracle.references import FISHERS, References, dear

LARGEST = 30_000_000
"""Numbers in the rows of a place at most; beyond that it is not looked at."""
OUTPUT = "the layer's output in place of its input"
BEHIND = "derivatives by activities in place of pre-activations (behind phi, so before phi')"


@dataclass(frozen=True)
class Rows:
    """The rows of a place, and what is to be said of it."""

    values: np.ndarray
    """(R, N, p)."""
    place: str | None = None
    """In place of what they should be; None if they are what they should be."""
    fisher: str | None = None
    """Of derivatives: with which targets."""
    cost: float = 0.0
    """How far-fetched it is that they were taken there."""
    ones: bool = False
    """Whether the last entry is the homogeneous coordinate."""
    sharing: str | None = None
    """Of a layer with T > 1 locations, which factors they make."""

    @property
    def width(self) -> int:
        """p."""
        return self.values.shape[2]


def activity_rows(layer: int, references: References) -> Iterator[Rows]:
    """Rows of which the A of a layer may have been made, the right ones first; of other networks than fully connected
    ones those alone."""
    top = references.layers
    if not references.network.fully_connected:
        for sharing in _kinds(layer, references):
            yield Rows(inputs(references, layer, sharing), ones=references.bias(layer), sharing=sharing)
        return
    yield Rows(inputs(references, layer), ones=True)
    if layer > 1:
        place = "pre-activations in place of activities (phi missing)"
        yield Rows(_with_ones(preactivations(references, layer - 1), references), place, cost=2.0, ones=True)
    output = _with_ones(activities(references, layer), references)
    yield Rows(output, OUTPUT, cost=2.2, ones=True)
    if layer < top:
        before = _with_ones(preactivations(references, layer), references)
        yield Rows(before, f"{OUTPUT}, before phi", cost=2.4, ones=True)
    if layer > 1:
        yield Rows(inputs(references, layer - 1), "the input of the layer below", cost=2.6, ones=True)


def derivative_rows(layer: int, references: References) -> Iterator[Rows]:
    """Rows of which the G of a layer may have been made, the right ones, for each choice of targets, first."""
    if not references.network.fully_connected:
        for sharing in _kinds(layer, references):
            yield from _of_targets(references.derivatives(layer, sharing), None, 0.0, references, sharing)
        return
    right = _jacobian(references, layer)
    behind = by_activities(references, layer)
    below = by_activities(references, layer - 1) if layer > 1 else None
    yield from _of_targets(right, None, 0.0, references)
    if behind is not None:
        yield from _of_targets(behind, BEHIND, 2.0, references)
        twice = right * _slopes(references, layer)
        yield from _of_targets(twice, "phi' applied twice", 2.6, references)
    for other, name in ((layer - 1, "below"), (layer + 1, "above")):
        if 1 <= other <= references.layers:
            K = _jacobian(references, other)
            yield from _of_targets(K, f"the derivatives of the layer {name}", 2.4, references)
    by_input = below if layer > 1 else by_inputs(references)
    if by_input is not None:
        yield from _of_targets(by_input, "derivatives by the layer's input in place of its output", 2.4, references)
    if right.size <= LARGEST:
        yield Rows(right, "derivatives of the outputs, not of the loss (F_R left out)", cost=2.6)
        yield Rows(right.sum(0, keepdims=True), "derivatives of the sum of the outputs, not of the loss", cost=2.6)
    yield Rows(activities(references, layer), "the layer's activities in place of derivatives", cost=3.0)
    if layer < references.layers:
        yield Rows(preactivations(references, layer), "the layer's pre-activations in place of derivatives", cost=3.0)


def _kinds(layer: int, references: References) -> list[str | None]:
    """The kinds of factors whose rows differ: KFC's are multiples of those of expand."""
    return [sharing for sharing in references.sharings(layer) if sharing != "kfc"]


def _jacobian(references: References, layer: int) -> np.ndarray:
    """dz/ds of a layer that is applied once to each case, (C, N, d)."""
    return references.jacobians[layer - 1][:, :, 0]


def _of_targets(
    K: np.ndarray, place: str | None, cost: float, references: References, sharing: str | None = None
) -> Iterator[Rows]:
    """𝒟 = Kᵀ𝒟z for each choice of targets; K (C, N, d), or (C, N, T, d), the derivatives of the outputs."""
    shared = K if K.ndim == 4 else K[:, :, None]
    for kind in references.kinds if K.size <= LARGEST else ():
        # (R, N, T, d) as R·T rows
        rows = references.pulled(shared, kind).swapaxes(1, 2).reshape(-1, K.shape[1], K.shape[-1])
        yield Rows(rows, place, FISHERS[kind], cost + dear(kind), sharing=sharing)


def inputs(references: References, layer: int, sharing: str | None = None) -> np.ndarray:
    """ā_{i−1}, (1, N, d_{i−1}+1); of T locations (T, N, p) over √T, or of the kind reduce their mean (1, N, p)."""
    rows = references.rows(layer) * references.root_weights[:, None, None]
    rows = rows.mean(axis=1, keepdims=True) if sharing == "reduce" else rows / np.sqrt(rows.shape[1])
    return rows.swapaxes(0, 1)


def preactivations(references: References, layer: int) -> np.ndarray:
    """s_i, (1, N, d_i)."""
    return inputs(references, layer) @ references.case.parameters[layer - 1].T


def activities(references: References, layer: int) -> np.ndarray:
    """a_i = φ_i(s_i), (1, N, d_i); of the last layer its outputs z."""
    if layer == references.layers:
        return (references.z * references.root_weights[:, None])[None]
    return inputs(references, layer + 1)[..., :-1]


def by_activities(references: References, layer: int) -> np.ndarray | None:
    """dz/da_i, (C, N, d_i); None for the last layer, whose a is z."""
    if layer == references.layers:
        return None
    return _jacobian(references, layer + 1) @ references.case.parameters[layer][:, :-1]


def by_inputs(references: References) -> np.ndarray:
    """dz/dx, (C, N, d_0)."""
    return _jacobian(references, 1) @ references.case.parameters[0][:, :-1]


def _slopes(references: References, layer: int) -> np.ndarray:
    """φ_i′(s_i), (N, d_i)."""
    phi = references.network.activations[layer - 1]
    _, saved = phi.value(references.rows(layer)[:, 0] @ references.case.parameters[layer - 1].T)
    return phi.pull(saved, np.ones((references.cases, references.network.sizes[layer])))


def _with_ones(values: np.ndarray, references: References) -> np.ndarray:
    ones = np.broadcast_to(references.root_weights[None, :, None], (*values.shape[:2], 1))
    return np.concatenate([values, ones], axis=2)
