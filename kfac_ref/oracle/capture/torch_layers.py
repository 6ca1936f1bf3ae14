"""What each kind of PyTorch's modules is as a layer: the rows that its weights are applied to.

A module that was called gives `Rows`, for each group of a convolution one: `a()` are the rows (*lead, p), and
`of_output` brings what has the shape of the module's output, the output itself or a derivative by it, into the shape
(*lead, d), so that of_output(output) = a Wᵀ + b. `lead` are axes of cases and locations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNELS_SECOND = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)
"""Normalisations whose scale is one of channels, at axis 1; the others' is one of the last axes."""


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
        return Kind("rows", lambda w: [w], lambda args, kwargs, s: [_linear(_input(args, kwargs), s)])
    if isinstance(module, CONVOLUTIONS):
        groups = module.groups
        return Kind(
            "rows",
            lambda w: list(w.flatten(1).chunk(groups)),
            lambda args, kwargs, s: list(_convolution(module, _input(args, kwargs), s)),
        )
    if isinstance(module, nn.Embedding):
        return Kind("rows", lambda w: [w.T], lambda args, kwargs, s: [_embedding(module, _input(args, kwargs), s)])
    weight, own = module._parameters.get("weight"), {name for name, p in module._parameters.items() if p is not None}
    alone = own <= {"weight", "bias"} and not list(module.children())
    if alone and weight is not None and (weight.ndim == 1 or isinstance(module, (nn.LayerNorm, nn.RMSNorm))):
        # BatchNorm, GroupNorm …, and a module of the user's own that may be y = scale ⊙ x̂ + shift
        return Kind("normalisation", lambda w: [w.flatten()], lambda *call: _normalisation(module, *call))
    return None


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else kwargs["input"]


def _linear(x: Tensor, s: Tensor) -> Rows:
    x = x.detach().clone()  # as it may be changed in place after the call
    return Rows(tuple(x.shape[:-1]), x.shape[-1], s.shape[-1], lambda: x, lambda y: y)


def _convolution(module: Any, x: Tensor, s: Tensor) -> Iterator[Rows]:
    """Columns of W are in the order channel, kernel row, kernel column."""
    spatial = len(module.kernel_size)
    batched = x.ndim == spatial + 2
    x = x.detach() if batched else x.detach()[None]
    pixels = x.shape[0] * prod(x.shape[2:])
    padding = _padding(module)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, padding, mode=mode) if any(padding) else x.clone()
    d, c = module.out_channels // module.groups, module.in_channels // module.groups
    places = s.shape[-spatial:]
    lead, p = (x.shape[0], prod(places)), c * prod(module.kernel_size)

    for group in range(module.groups):

        def patches(group: int = group) -> Tensor:
            rows = x[:, group * c : (group + 1) * c]
            for axis, (k, step, dilation) in enumerate(
                zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
            ):
                rows = rows.unfold(axis, dilation * (k - 1) + 1, step)[..., ::dilation]
            order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
            return rows.permute(order).reshape(*lead, p)

        def of_output(y: Tensor, group: int = group) -> Tensor:
            y = y if batched else y[None]
            return y[:, group * d : (group + 1) * d].flatten(2).transpose(1, 2)

        yield Rows(lead, p, d, patches, of_output, pixels)


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


def _embedding(module: nn.Embedding, indices: Tensor, s: Tensor) -> Rows:
    """One-hot rows; that of `padding_idx`, whose weights have no derivative, is 0."""
    indices, V, padding = indices.clone(), module.num_embeddings, module.padding_idx

    def rows() -> Tensor:
        x = F.one_hot(indices.long(), V).to(s.dtype)
        if padding is not None:
            x[..., padding] = 0
        return x

    return Rows(tuple(indices.shape), V, module.embedding_dim, rows, lambda y: y)


def _normalisation(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], s: Tensor) -> list[Rows]:
    """x̂ is what the module gives with the scale 1 and the shift 0."""
    with torch.no_grad():
        own = dict(module.named_parameters(recurse=False))
        plain = {name: torch.full_like(w, float(name == "weight")) for name, w in own.items()}
        x = torch.func.functional_call(module, plain, tuple(args), dict(kwargs)).detach().clone()
    axes = module.weight.ndim

    def features_last(y: Tensor) -> Tensor:
        return y.movedim(1, -1) if isinstance(module, CHANNELS_SECOND) else y.flatten(y.ndim - axes)

    rows, d = features_last(x), module.weight.numel()
    if rows.ndim < 2 or rows.shape[-1] != d or x.shape != s.shape:
        return []
    return [Rows(tuple(rows.shape[:-1]), d, d, lambda: rows, features_last)]


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
