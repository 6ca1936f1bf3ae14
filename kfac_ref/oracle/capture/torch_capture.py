"""What hooks see of a PyTorch model: rows and derivatives of its layers, checked against the model's own gradient.

Hooks are on modules. So what they saw of each parameter is compared with its gradient as PyTorch has it, along a random
direction of the outputs: where a parameter is used in another way too (`F.linear` with it, weights tied between modules
of different kinds), or what the module computes is not what is thought, that shows, and the layer is left out by name.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autodiff.names import closest
from kfac_ref.oracle.capture import torch_model
from kfac_ref.oracle.capture.found import Found, along, require_memory
from kfac_ref.oracle.capture.torch_hooks import Layer, layers_of, recorded_run
from kfac_ref.oracle.captured import CapturedLayer

OTHER_USES = (
    "its gradient is not that of the rows seen, so it is used where hooks do not see it (F.linear, or tied to a "
    "module of another kind), or its module computes something else"
)
UNCONNECTED = "no output depends on it: is there a detach, torch.no_grad or a re-entrant checkpoint in the model?"
NOT_CALLED = "was not called"


def capture(model: nn.Module, inputs: Any, only: Collection[str] | None = None) -> Found:
    """Rows and derivatives of a model's layers, or of the modules `only`, by name; see `kfac_ref.oracle.capture`.

    ValueError as of `kfac_ref.oracle.capture.capture`.
    """
    model = torch_model.unwrapped(model)
    torch_model.require_fit(model)
    for name in only or ():
        closest(name, [name for name, _ in model.named_modules()], "module")
    with torch_model.as_it_was(model):
        layers = layers_of(model, only)
        z, reasons = recorded_run(model, inputs, layers)
        reasons |= {layer.name: NOT_CALLED for layer in layers if layer.active and not layer.calls}
        called = [layer for layer in layers if layer.calls]
        _require_memory(called, z)
        captured = [_captured(layer, Ds) for layer, Ds in zip(called, _derivatives(called, z), strict=True)]
        reasons |= _unlike_gradients(called, captured, z)
        good = [x for layer, xs in zip(called, captured, strict=True) if layer.name not in reasons for x in xs]
        return Found(_on_host(z), good, _uncovered(model, layers, reasons, only))


def _on_host(x: Tensor) -> np.ndarray:
    return np.asarray(x.detach().cpu().numpy())


def _require_memory(layers: list[Layer], z: Tensor) -> None:
    outputs, sizes = z[0].numel(), {}
    for layer in layers:
        groups = [(g, max(call.shared, 1) * prod(g.lead)) for call in layer.calls for g in call.groups]
        sizes[layer.name] = sum(rows * (g.p + outputs * g.d) for g, rows in groups)
    require_memory(sizes, len(z), outputs)


def _derivatives(layers: list[Layer], z: Tensor) -> list[list[np.ndarray]]:
    """g (C, N, T, d) of each layer's groups, by a backward pass for each output; none where no output depends on it."""
    outputs = z.flatten(1)
    found: list[list[np.ndarray]] = [[] for _ in layers]
    for c in range(outputs.shape[1]):
        Ds = iter(torch_model.derivatives(outputs[:, c].sum(), [call.s for layer in layers for call in layer.calls]))
        for layer, of_groups in zip(layers, found, strict=True):
            of_calls = [(call, next(Ds)) for call in layer.calls]
            if all(D is None for _, D in of_calls):
                continue
            for group in range(len(layer.calls[0].groups)):
                rows = [call.of_output(group, torch.zeros_like(call.s) if D is None else D) for call, D in of_calls]
                g = _on_host(torch.cat(rows, 1))
                if len(of_groups) == group:
                    of_groups.append(np.zeros((outputs.shape[1], *g.shape), g.dtype))
                of_groups[group][c] = g
    return found


def _captured(layer: Layer, derivatives: list[np.ndarray]) -> list[CapturedLayer]:
    """The groups of a layer; none if no output depends on it."""
    captured, kind = [], layer.kinds[0]
    weight, bias = layer.parameter("weight"), layer.parameter("bias")
    for group, g in enumerate(derivatives):
        a = torch.cat([call.a(group) for call in layer.calls], 1)
        W = kind.groups(weight)[group].reshape(g.shape[-1], -1)
        if bias is not None:
            W = torch.cat([W, bias.reshape(len(derivatives), -1, 1)[group]], 1)
        name = layer.name if len(derivatives) == 1 else f"{layer.name}[{group}]"
        pixels = [(call.groups[group].pixels, 1 if call.shared else len(a)) for call in layer.calls]
        of_inputs = sum(n // cases for n, cases in pixels if n is not None) or None
        captured.append(CapturedLayer(_on_host(a), g, bias is not None, kind.kind, name, _on_host(W), of_inputs))
    return captured


def _unlike_gradients(layers: list[Layer], captured: list[list[CapturedLayer]], z: Tensor) -> dict[str, str]:
    """Why layers are left out, by their names: those whose gradient is not what their rows say."""
    rng = torch.Generator().manual_seed(2015)
    u = torch.randn(z.shape, generator=rng, dtype=z.dtype).to(z.device)
    names = [(layer, name) for layer in layers for name in ("weight", "bias") if layer.parameter(name) is not None]
    parameters = [layer.parameter(name) for layer, name in names]
    Ds = torch_model.derivatives((u * z).sum(), parameters)
    gradients = {(layer.name, name): D for (layer, name), D in zip(names, Ds, strict=True)}
    weights, reasons = _on_host(u.flatten(1)), {}
    for layer, groups in zip(layers, captured, strict=True):
        if not groups:
            reasons[layer.name] = UNCONNECTED
            continue
        for name in ("weight", "bias"):
            W = layer.parameter(name)
            if W is None:
                continue
            D = gradients[layer.name, name]
            D = torch.zeros_like(W) if D is None else D.to_dense()
            parts = layer.kinds[0].groups(D) if name == "weight" else list(D.flatten().chunk(len(groups)))
            for part, x in zip(parts, groups, strict=True):
                expected, size = along(x, weights, name)
                if np.abs(_on_host(part) - expected).max() > 1e4 * np.finfo(size.dtype).eps * size.max():
                    reasons[layer.name] = OTHER_USES
    return reasons


def _uncovered(
    model: nn.Module, layers: list[Layer], reasons: dict[str, str], only: Collection[str] | None
) -> dict[str, str]:
    """The parameters that no layer covers, by their names, and why."""
    good = [layer for layer in layers if layer.calls and layer.name not in reasons]
    covered = {id(layer.parameter(name)) for layer in good for name in ("weight", "bias")}
    why = {name: reason for layer in layers for name in layer.names if (reason := reasons.get(layer.name))}
    uncovered = {}
    for prefix, module in model.named_modules():
        if only is not None and prefix not in only:
            continue
        for name, p in module.named_parameters(prefix=prefix, recurse=False):
            if id(p) not in covered:
                uncovered[name] = why.get(
                    prefix or type(module).__name__, f"{type(module).__name__} is no layer that is known"
                )
    return uncovered
