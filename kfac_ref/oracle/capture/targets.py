"""Targets as users have them, for outputs z: class labels become one-hot, ignored ones have no derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np


def prepared(targets: Any, z: np.ndarray, likelihood: str, ignore_index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Y of the shape of z, and where targets are ignored, of the shape of z without its last axis, or None.

    Parameters
    ----------
    targets : array of any library
        Of the shape of z; or integer labels of its shape without the last axis, for the categorical likelihood.
    z : (N, C) or (N, T, C)
    likelihood : name
    ignore_index : the label of what is ignored.

    Raises
    ------
    ValueError
        If the shape is another, or a label is no class.
    """
    raw = np.asarray(targets.detach().cpu() if hasattr(targets, "detach") else targets)
    if raw.shape == z.shape:
        if raw.dtype.kind not in "biuf":
            raise ValueError(f"targets have dtype {raw.dtype}, expected real numbers")
        return raw.astype(z.dtype), None
    labels = z.shape[:-1]
    if likelihood != "categorical":
        raise ValueError(f"targets have shape {raw.shape}, expected {z.shape} as the outputs")
    if raw.shape != labels:
        expected = f"{z.shape} as the outputs, or integer labels {labels}"
        raise ValueError(f"targets have shape {raw.shape}, expected {expected}")
    if raw.dtype.kind not in "iu":
        raise ValueError(f"targets have shape {raw.shape} and dtype {raw.dtype}, expected labels to be integers")
    ignored = raw == ignore_index
    bad = ~ignored & ((raw < 0) | (raw >= z.shape[-1]))
    if bad.any():
        place = ", ".join(map(str, np.argwhere(bad)[0]))
        label = raw[tuple(np.argwhere(bad)[0])]
        raise ValueError(
            f"targets[{place}] = {label}, expected labels 0 … {z.shape[-1] - 1}, or {ignore_index} where ignored"
        )
    if ignored.all():
        raise ValueError(f"all targets are {ignore_index}, that is ignored")
    Y = (np.where(ignored, 0, raw)[..., None] == np.arange(z.shape[-1])).astype(z.dtype)
    return Y, ignored if ignored.any() else None
