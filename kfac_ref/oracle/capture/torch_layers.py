"""What each kind of PyTorch's modules is as a layer: the rows that its weights are applied to.

A module that was called gives `Rows`, for each group of a convolution one: `a()` are the rows (*lead, p), and
`of_output` brings what has the shape of the module's output, the output itself or a derivative by it, into the shape
(*lead, d), so that of_output(output) = a Wᵀ + b. `lead` are axes of cases and locations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Rows:
    """One call of one layer."""

    lead: tuple[int, ...]
    p: int
    d: int
    a: Callable[[], Tensor]
    """(*lead, p), when it is wanted, as it may be large; of a normalisation x̂, p being d."""
    of_output: Callable[[Tensor], Tensor]
    pixels: int | None = None
    """Of a convolution: of its inputs, all together."""


@dataclass(frozen=True)
class Kind:
    """What a module is, apart from its calls."""

    kind: str
    """"rows" or "normalisation", as in `CapturedLayer`."""
    groups: Callable[[Tensor], list[Tensor]]
    """What has the shape of the module's weight, or the derivative by it → the same for each group, (d, p); of a
    normalisation (d,)."""
    called: Callable[[tuple[Any, ...], Mapping[str, Any], Tensor], list[Rows]]
    """Arguments and output of a call → rows for each group; none if it is no such layer after all."""


def kind_of(module: nn.Module) -> Kind | None:
    """What `module` is; None if it is no layer that is known."""
    if isinstance(module, nn.Linear):
        return Kind("rows", lambda w: [w], lambda args, kwargs, s: _linear(_input(args, kwargs), s))
    if isinstance(module, CONVOLUTIONS):
        groups = module.groups
        return Kind(
            "rows",
            lambda w: list(w.flatten(1).chunk(groups)),
            lambda args, kwargs, s: _convolution(module, _input(args, kwargs), s),
        )
    if isinstance(module, nn.Embedding):
        return Kind("rows", lambda w: [w.T], lambda args, kwargs, s: _embedding(module, _input(args, kwargs), s))
    weight, own = module._parameters.get("weight"), {name for name, p in module._parameters.items() if p is not None}
    alone = own <= {"weight", "bias"} and not list(module.children())
    if alone and weight is not None and (weight.ndim == 1 or isinstance(module, (nn.LayerNorm, nn.RMSNorm))):
        # BatchNorm, GroupNorm …, and a module of the user's own that may be y = scale ⊙ x̂ + shift
        return Kind("normalisation", lambda w: [w.flatten()], lambda *call: _normalisation(module, *call))
    return None


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else next(iter(kwargs.values()))


def _itself(x: Tensor) -> Tensor:
    return x


def _linear(x: Tensor, s: Tensor) -> list[Rows]:
    x = x.detach().clone()  # as it may be changed in place after the call
    if x.shape[:-1] != s.shape[:-1]:
        return []
    return [Rows(tuple(x.shape[:-1]), x.shape[-1], s.shape[-1], lambda: x, _itself)]


def _convolution(module: Any, x: Tensor, s: Tensor) -> list[Rows]:
    """Columns of W are in the order channel, kernel row, kernel column."""
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    spatial, batched = len(kernel), x.ndim == len(kernel) + 2
    x = x.detach() if batched else x.detach()[None]
    pixels = x.shape[0] * prod(x.shape[2:])
    padding = _padding(module)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, padding, mode=mode) if any(padding) else x.clone()
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    places = [(n - span) // step + 1 for n, span, step in zip(x.shape[2:], spans, stride, strict=True)]
    if list(s.shape[-spatial:]) != places:
        return []
    d, c = module.out_channels // module.groups, module.in_channels // module.groups
    lead, p = (x.shape[0], prod(places)), c * prod(kernel)

    def patches(group: int) -> Tensor:
        rows = x[:, group * c : (group + 1) * c]
        for axis in range(spatial):
            rows = rows.unfold(axis + 2, spans[axis], stride[axis])[..., :: dilation[axis]]
        order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
        return rows.permute(order).reshape(*lead, p)

    def of_output(group: int, y: Tensor) -> Tensor:
        y = y if batched else y[None]
        return y[:, group * d : (group + 1) * d].flatten(2).transpose(1, 2)

    return [Rows(lead, p, d, partial(patches, i), partial(of_output, i), pixels) for i in range(module.groups)]


def _padding(module: Any) -> list[int]:
    """As `F.pad` takes it: the last axis first, before and after."""
    both: list[int] = []
    for i in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[i] * (module.kernel_size[i] - 1)
            both += [total // 2, total - total // 2]
        else:
            both += [0, 0] if module.padding == "valid" else [module.padding[i]] * 2
    return both


def _embedding(module: nn.Embedding, indices: Tensor, s: Tensor) -> list[Rows]:
    """One-hot rows; that of `padding_idx`, whose weights have no derivative, is 0."""
    indices, V, padding = indices.clone(), module.num_embeddings, module.padding_idx

    def rows() -> Tensor:
        x = F.one_hot(indices.long(), V).to(s.dtype)
        if padding is not None:
            x[..., padding] = 0
        return x

    if s.shape != (*indices.shape, module.embedding_dim):
        return []
    return [Rows(tuple(indices.shape), V, module.embedding_dim, rows, _itself)]


def _normalisation(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], s: Tensor) -> list[Rows]:
    """x̂ is what the module gives with the scale 1 and the shift 0; with another scale and shift it is seen along which
    axes these are, and whether that is all."""
    weight, d = module.weight.detach(), module.weight.numel()
    scale, shift = (torch.linspace(*ends, d, dtype=weight.dtype, device=weight.device) for ends in ((0.5, 2), (-1, 1)))
    if module._parameters.get("bias") is None:
        shift = torch.zeros_like(shift)

    def with_parameters(scale: Tensor, shift: Tensor) -> Tensor:
        given = {"weight": scale, "bias": shift}
        own = {name: given[name].reshape(weight.shape) for name, _ in module.named_parameters(recurse=False)}
        return torch.func.functional_call(module, own, tuple(args), dict(kwargs)).detach().clone()

    with torch.no_grad():
        x = with_parameters(torch.ones_like(scale), torch.zeros_like(shift))
        y = with_parameters(scale, shift)
    if x.shape != s.shape or x.ndim < max(2, weight.ndim):
        return []
    close = 1e3 * torch.finfo(x.dtype).eps * float(y.abs().max())

    def last_axes(y: Tensor) -> Tensor:
        return y.flatten(y.ndim - weight.ndim)

    def channels(y: Tensor) -> Tensor:
        return y.movedim(1, -1)

    for features_last in (last_axes, channels):
        rows = features_last(x)
        if rows.shape[-1] == d and bool((features_last(y) - (rows * scale + shift)).abs().max() <= close):
            return [Rows(tuple(rows.shape[:-1]), d, d, partial(_itself, rows), features_last)]
    return []


@dataclass(frozen=True)
class Layout:
    """Where cases are in `lead`."""

    shape: tuple[int, ...]
    """`lead`, with an axis for cases alone."""
    axis: int
    """That axis."""

    def by_cases(self, x: Tensor) -> Tensor:
        """(N, T, k) from (*lead, k)."""
        rows = x.reshape(*self.shape, x.shape[-1]).movedim(self.axis, 0)
        return rows.reshape(self.shape[self.axis], -1, x.shape[-1])


def layouts(lead: tuple[int, ...], cases: int) -> list[Layout]:
    """Where N cases may be, the likeliest first: an axis, or a part of the first axis, cases outside (as when sequences
    are put one behind another) or inside."""
    found = [Layout(lead, axis) for axis, n in enumerate(lead) if n == cases]
    if lead and lead[0] % cases == 0 and lead[0] > cases:
        m = lead[0] // cases
        found += [Layout((cases, m, *lead[1:]), 0), Layout((m, cases, *lead[1:]), 1)]
    return found
