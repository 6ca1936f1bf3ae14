"""Which parameters of a function of JAX are the weights of its marked layers: those whose gradient their rows say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kfac_ref.oracle.capture.found import along
from kfac_ref.oracle.captured import CapturedLayer

Known = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Parameters and the gradients by them, by name."""


def covered(layers: Sequence[CapturedLayer], known: Known, u: np.ndarray) -> tuple[list[CapturedLayer], dict[str, str]]:
    """The layers whose weights, and bias, are parameters, in whatever order of their entries.

    Parameters
    ----------
    layers : what was marked.
    known : parameters and the gradients of Σ_n u_nᵀz_n.
    u : (N, C)

    Returns
    -------
    layers, with W where the entries' order is seen; and why others are left out, and which parameters no layer has.
    """
    good, left_out, taken = [], {}, set()
    for layer in layers:
        W: list[np.ndarray | None] = []
        for part in ("weight", "bias")[: 1 + layer.bias]:
            says, size = along(layer, u, part)
            allowed = 1e4 * np.finfo(u.dtype).eps * size.max()
            like = [name for name, (_, D) in known.items() if _same(np.sort(D.ravel()), np.sort(says.ravel()), allowed)]
            if not like:
                what = "weights" if part == "weight" else part
                left_out[layer.name] = f"no parameter has the gradient that its rows say of its {what}"
                break
            name = next((name for name in like if name not in taken), like[0])
            taken.add(name)
            says = says.reshape(layer.g.shape[-1], -1)
            orders = zip(*map(_orders, known[name], (says.shape, says.shape)), strict=True)
            W.append(next((w for w, D in orders if _same(D, says, allowed)), None))
        else:
            parts = [w for w in W if w is not None]
            good.append(replace(layer, W=np.concatenate(parts, axis=1)) if len(parts) == len(W) else layer)
    return good, left_out | {name: "no marked layer has it" for name in known if name not in taken}


def _same(x: np.ndarray, y: np.ndarray, allowed: float) -> bool:
    return x.shape == y.shape and bool(np.abs(x - y).max() <= allowed)


def _orders(w: np.ndarray, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """(d, p) from what has as many entries: as it is, with outputs last, and those with the channels before the kernel
    (HWIO, as flax and haiku have convolutions)."""
    d, p = shape
    yield w.reshape(d, p)
    yield w.reshape(p, d).T
    if w.ndim > 2:
        yield np.moveaxis(w, -2, 0).reshape(p, d).T
