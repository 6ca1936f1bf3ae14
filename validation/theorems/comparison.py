"""Deviations: of arrays from each other, the worst of several, and derivatives by differences to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from validation.theorems.statement import EPSILON, Deviation, relative


def apart(ours: Any, theirs: Any, roundings: float, condition: float = 1.0) -> Deviation:
    """‖ours − theirs‖/‖theirs‖, with so many roundings allowed, times a condition number."""
    return Deviation(relative(np.asarray(ours), np.asarray(theirs)), roundings * EPSILON * condition)


def small(value: np.ndarray, size: Any, roundings: float, condition: float = 1.0) -> Deviation:
    """max |value|/size, where value is 0 but for rounding, size being that of the terms it is the sum of."""
    size = np.where(np.asarray(size) > 0, size, 1.0)
    return Deviation(float(np.max(np.abs(value) / size, initial=0.0)), roundings * EPSILON * condition)


def differentiated(f: Callable[[float], Any], step: float = 0.125, levels: int = 5) -> np.ndarray:
    """f′(0) by central differences over step, step/2, …, extrapolated to 0 (Richardson).

    The extrapolation cancels the powers step² … step^{2(levels−1)} of the error, and leaves rounding of about
    2^levels ε |f|/step.
    """
    table: list[np.ndarray] = []
    for level in range(levels):
        t = step / 2**level
        row = (np.asarray(f(t)) - np.asarray(f(-t))) / (2 * t)
        for k, previous in enumerate(table):
            table[k], row = row, row + (row - previous) / (4 ** (k + 1) - 1)
        table.append(row)
    return table[-1]
