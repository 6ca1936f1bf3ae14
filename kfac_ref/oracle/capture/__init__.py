"""Capturing a case from a model of PyTorch or JAX: the rows that each layer's weights are applied to, and the outputs'
derivatives. Neither framework is needed unless its model is given."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from autodiff.likelihoods import LIKELIHOODS
from autodiff.names import closest
from kfac_ref.data.npz_file import listed
from kfac_ref.oracle.capture import targets as _targets
from kfac_ref.oracle.capture.found import Found
from kfac_ref.oracle.captured import CapturedCase, CapturedLayer


def capture(
    model: Any,
    inputs: Any,
    targets: Any,
    likelihood: str,
    *,
    params: Any = None,
    layers: Collection[str] | None = None,
    ignore_index: int = -100,
    gamma: float | None = None,
    lam: float | None = None,
    eta: float = 0.0,
    weights: Any = None,
) -> CapturedCase:
    """The case of a model of PyTorch or JAX at its weights, on this batch: what `check` and `truth` take.

    Of a model of PyTorch, hooks see all Linear, Conv1d to Conv3d (each group is a layer), Embedding (rows are one-hot)
    and normalisation layers (also a user's own with a scale, and perhaps a shift, of its one input), in the order of
    `model.modules()`. A module called several times, or modules of one kind with the same parameters, are one layer;
    locations of its calls stand one behind another. What is not captured (an `nn.LSTM`, `nn.MultiheadAttention`,
    `F.linear` with a parameter) is named in a warning: each layer's rows are checked against the gradient of its
    weights. The model is left as it was, also by an error. Of JAX see `kfac_ref.oracle.capture.jax_layers`.

    Parameters
    ----------
    model : torch.nn.Module, or function of (params, inputs)
        Its outputs z are (N, C), or (N, T, C) for each position; cases are the first axis. float64 is recommended
        (`copy.deepcopy(model).double()`), as in float32 what differs by 1e-6 cannot be told apart.
    inputs : tensor, tuple of arguments, or mapping of them by name
    targets : array of any library
        Of the shape of z; or, for the categorical likelihood, integer labels (N,) or (N, T).
    likelihood : "categorical", "bernoulli" or "gaussian"
        z being its natural parameters; the loss is L = −log r(y|z), summed over positions.
    params : of the function of JAX.
    layers : names of layers to capture alone, in place of all.
    ignore_index : label of outputs that have no loss, and so no derivatives.
    gamma, lam, eta, weights : as in `CapturedCase`.

    Returns
    -------
    CapturedCase

    Warns
    -----
    UserWarning
        Naming the parameters that no layer covers, and why.

    Raises
    ------
    ValueError, TypeError
        In one line: dropout or batch norm in training mode, other coupling of cases, half precision, outputs or
        targets of another shape, no backward pass, more memory than there is.
    """
    closest(likelihood, LIKELIHOODS, "likelihood")
    found = _found(model, inputs, params, layers)
    Y, ignored = _targets.prepared(targets, found.z, likelihood, ignore_index)
    if found.left_out:
        warnings.warn(_left_out(found.left_out), stacklevel=2)
    if not found.layers:
        raise ValueError("no layer is captured" + (f": {_left_out(found.left_out)}" if found.left_out else ""))
    captured = found.layers if ignored is None else [_without(x, ignored) for x in found.layers]
    return CapturedCase(likelihood, found.z, Y, captured, gamma=gamma, lam=lam, eta=eta, weights=weights)


def _found(model: Any, inputs: Any, params: Any, layers: Collection[str] | None) -> Found:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        if params is not None:
            raise TypeError("params are given, which are of functions of JAX; a model of PyTorch has its own")
        from kfac_ref.oracle.capture import torch_capture

        return torch_capture.capture(model, inputs, layers)
    if callable(model) and params is not None:
        from kfac_ref.oracle.capture import jax_layers

        return jax_layers.found(model, params, inputs, layers)
    what = f"a {type(model).__name__}" + (" without params" if callable(model) else "")
    raise TypeError(f"the model is {what}, expected a torch.nn.Module, or a function of JAX with its params")


def _without(layer: CapturedLayer, ignored: np.ndarray) -> CapturedLayer:
    """The layer, its derivatives being 0 of outputs that are ignored, (N,) or (N, T)."""
    outputs, cases = layer.g.shape[:2]
    parts = ignored.reshape(cases, -1)
    counted = ~np.repeat(parts, outputs // parts.shape[1], axis=1).T
    return replace(layer, g=layer.g * counted[:, :, None, None])


def _left_out(reasons: dict[str, str]) -> str:
    """One line: the parameters, by why they are not captured."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    said = (f"{listed(names)} ({reason})" for reason, names in by_reason.items())
    return f"not captured: {'; '.join(said)}"


__all__ = ["capture"]
