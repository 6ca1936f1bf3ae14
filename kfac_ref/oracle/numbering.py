"""From where somebody else's A_i are counted: from 0, as Ā is, or from 1, as layers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kfac_ref.oracle import factor_checks, hook_slips
from kfac_ref.oracle.references import References


@dataclass(frozen=True)
class Numbering:
    """How names were read."""

    layers: dict[str, int]
    """The layer of each quantity, 0 for `fisher`."""
    note: str | None = None
    """What is to be said of the A, where it was not plain how they are counted: it is neither with A_0 nor with A_ℓ."""


def numbering(arrays: Mapping[str, np.ndarray], references: References) -> Numbering:
    """The layer of each quantity of `arrays`, of any shape. A_i counts from 0 or from 1 as A_0 or A_ℓ says; where
    neither is there, as the sizes say, or else the numbers, and then that is to be said: a layer's output in the place
    of its input would look alike."""
    numbers = {name: int(name.rsplit("_", 1)[1]) for name in arrays if name != "fisher"}
    if not references.network.fully_connected:
        return Numbering({"fisher": 0} | numbers)
    A = {name: i for name, i in numbers.items() if name.startswith("A_")}
    plain = "A_0" in A or f"A_{references.layers}" in A or not A
    offset = _offset(A, arrays, references)
    layers = {"fisher": 0} | {name: i + offset if name in A else i for name, i in numbers.items()}
    return Numbering(layers, None if plain else _note(offset, A, references.layers))


def _offset(A: Mapping[str, int], arrays: Mapping[str, np.ndarray], references: References) -> int:
    """What is to be added to the number of an A to have its layer's."""
    sizes = references.network.sizes

    def fit_in_size(offset: int) -> bool:
        return all(
            1 <= i + offset <= references.layers
            and arrays[name].shape[0] in (sizes[i + offset - 1], sizes[i + offset - 1] + 1)
            for name, i in A.items()
        )

    def unexplained(offset: int) -> int:
        found = [factor_checks.explain_A(arrays[n], i + offset, references, False) for n, i in A.items()]
        return sum(not any(e.fits for e in explanations) for explanations in found)

    def far_fetched(offset: int) -> float:
        """What slips explain these A, and how far-fetched they are in all."""
        found = [hook_slips.explain_factor(arrays[n], "A", i + offset, references, False) for n, i in A.items()]
        return sum(min((e.cost for e in explanations if e.fits), default=1e3) for explanations in found)

    offset = 1 if "A_0" in A or (f"A_{references.layers}" not in A and fit_in_size(1)) else 0
    if offset and "A_0" not in A and fit_in_size(0):
        from_1, from_0 = unexplained(0), unexplained(1)
        if from_1 < from_0 or (from_1 == from_0 > 0 and far_fetched(0) < far_fetched(1)):
            return 0
    return offset


def _note(offset: int, A: Mapping[str, int], layers: int) -> str:
    last = f"A_{layers}" if layers > 1 else "A_1"
    if offset:
        return (
            "read as counted from 0, though there is no A_0; counted from 1, as layers are, it would be the layer's "
            "output in place of its input"
        )
    return f"read as counted from 1, though there is no {last}"
