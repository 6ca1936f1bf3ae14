"""The forward pass with hooks: which layers are called, with which rows, and where in these the cases are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kfac_ref.oracle.capture import torch_model
from kfac_ref.oracle.capture.torch_layers import Kind, Layout, Rows, kind_of, layouts


@dataclass
class Call:
    """One call of a module: its output, which is a part of the graph, and the rows of each group."""

    number: int
    """Of all the model's calls of layers, from 0."""
    s: Tensor
    groups: list[Rows]
    shared: int
    """0, or N where the rows are the same for all N cases: the output is repeated for each."""
    layout: Layout | None = None

    def a(self, group: int) -> Tensor:
        """(N, T, p)."""
        rows = self.groups[group].a()
        if self.shared:
            return rows.reshape(1, -1, rows.shape[-1]).expand(self.shared, -1, -1)
        assert self.layout is not None
        return self.layout.by_cases(rows)

    def of_output(self, group: int, y: Tensor) -> Tensor:
        """(N, T, d) from what has the output's shape."""
        y = self.groups[group].of_output(y)
        if self.shared:
            return y.reshape(self.shared, -1, y.shape[-1])
        assert self.layout is not None
        return self.layout.by_cases(y)


@dataclass
class Layer:
    """Modules of one kind that have their parameters in common, usually one module; and their calls in order."""

    names: list[str] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    """Of each module."""
    calls: list[Call] = field(default_factory=list)
    active: bool = True
    """Whether its calls are wanted."""

    @property
    def name(self) -> str:
        return " + ".join(self.names)

    def parameter(self, name: str) -> Tensor | None:
        """Its "weight", or its "bias" if it has one."""
        return self.modules[0]._parameters.get(name)


def layers_of(model: nn.Module, only: Collection[str] | None) -> list[Layer]:
    """The model's layers in the order of its modules; a weight that is computed from others makes none."""
    layers: dict[tuple[int, int, type], Layer] = {}
    for name, module in model.named_modules():
        kind = kind_of(module) if only is None or name in only else None
        weight = module._parameters.get("weight")
        if kind is None or weight is None:
            continue
        key = (id(weight), id(module._parameters.get("bias")), type(module))
        layer = layers.setdefault(key, Layer())
        layer.names.append(name or type(module).__name__)
        layer.modules.append(module)
        layer.kinds.append(kind)
    return list(layers.values())


ONCE = "its output is computed once for all cases, in a way that cannot be repeated for each"


def recorded_run(model: nn.Module, inputs: Any, layers: list[Layer]) -> tuple[Tensor, dict[str, str]]:
    """Fill in the layers' calls; z as the model gives it, a part of the graph; and the layers to be left out, and why.

    What is computed once for all cases, as embedded positions often are, has no derivatives of single cases. Where that
    seems so, its output is repeated for each case in another run, which is right if z stays what it was.

    ValueError where the outputs are no function of inputs and weights, or cases are coupled.
    """
    z0 = torch_model.run(model, inputs).detach()
    shared: frozenset[int] = frozenset()
    left_out: dict[str, str] = {}
    z = _run(model, inputs, layers, shared, len(z0))
    if not _same(z, z0):
        raise ValueError("the model gives other outputs when called again: they are no function of inputs and weights")
    if not z.requires_grad:
        raise ValueError("the outputs do not depend on parameters: is there a detach or torch.no_grad in the model?")
    while (number := _without_cases(z, layers)) is not None:
        layer, call = next((layer, call) for layer in layers for call in layer.calls if call.number == number)
        with suppress(Exception):  # the model need not take such a shape, and may say so by any error
            repeated = _run(model, inputs, layers, shared | {number}, len(z0))
            if _same(repeated, z0) and _without_cases(repeated, layers) != number:
                z, shared = repeated, shared | {number}
                continue
        if layouts(call.groups[0].lead, len(z0)):
            raise ValueError(
                f"cases are coupled: the outputs of one depend on the rows of others in the layer {layer.name!r}, so "
                "that no case has a derivative of its own; expected each case's outputs from its inputs, cases first"
            )
        left_out[layer.name], layer.active = ONCE, False
        z = _run(model, inputs, layers, shared, len(z0))
    return z, left_out


def _same(z: Tensor, z0: Tensor) -> bool:
    if z.shape != z0.shape:
        return False
    return bool((z - z0).abs().max() <= 1e4 * torch.finfo(z0.dtype).eps * z0.abs().max())


def _run(model: nn.Module, inputs: Any, layers: list[Layer], shared: Collection[int], cases: int) -> Tensor:
    for layer in layers:
        layer.calls.clear()
    with _hooks(layers, shared, cases):
        return torch_model.run(model, inputs)


@contextmanager
def _hooks(layers: list[Layer], shared: Collection[int], cases: int) -> Iterator[None]:
    busy, number, handles = False, -1, []

    def hook(layer: Layer, kind: Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any], s: Any) -> Tensor | None:
        nonlocal busy, number
        if busy:
            return None
        number += 1
        if not layer.active:
            return None
        if not isinstance(s, Tensor) or s.dtype not in torch_model.FLOATING:
            what = s.dtype if isinstance(s, Tensor) else f"a {type(s).__name__}"
            raise ValueError(f"layer {layer.name!r} gives {what}, expected torch.float64 or torch.float32")
        busy = True
        try:
            groups = kind.called(args, kwargs, s)
        finally:
            busy = False
        if not groups:
            layer.active = False
            return None
        once = number in shared
        if not s.requires_grad:
            s = s.detach().requires_grad_()
        if once:
            s = s.expand(cases, *(s.shape[1:] if s.shape[0] == 1 else s.shape))
        layer.calls.append(Call(number, s, groups, cases if once else 0))
        return s.clone()  # so that what is done to it in place leaves `s` as it is

    try:
        for layer in layers:
            for module, kind in zip(layer.modules, layer.kinds, strict=True):

                def called(
                    _: Any, args: Any, kwargs: Any, s: Any, layer: Layer = layer, kind: Kind = kind
                ) -> Tensor | None:
                    return hook(layer, kind, args, kwargs, s)

                handles.append(module.register_forward_hook(called, prepend=True, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without_cases(z: Tensor, layers: list[Layer]) -> int | None:
    """Find where cases are in each call: outputs of some cases have no derivatives by rows of others. The number of the
    first call where they are nowhere."""
    calls = sorted((call for layer in layers for call in layer.calls), key=lambda call: call.number)
    cases, eps = len(z), torch.finfo(z.dtype).eps
    rng = torch.Generator().manual_seed(2015)
    direction = torch.randn(z.shape[1:], generator=rng, dtype=z.dtype).to(z.device)
    candidates: list[list[Layout | None]] = [
        [None] if call.shared else [*layouts(call.groups[0].lead, cases)] for call in calls
    ]
    numbers = torch.arange(cases)
    for bit in range((cases - 1).bit_length()):
        for value in (0, 1):
            # so that each case is once within, and each other once without
            within = ((numbers >> bit) & 1) == value
            weights = within.to(z.dtype).to(z.device).reshape(-1, *[1] * (z.ndim - 1))
            Ds = torch_model.derivatives((weights * direction * z).sum(), [call.s for call in calls])
            for i, (D, call) in enumerate(zip(Ds, calls, strict=True)):
                if D is None:
                    continue
                allowed = eps * float(D.abs().max())
                candidates[i] = [x for x in candidates[i] if _largest(replace(call, layout=x), D, ~within) <= allowed]
    for call, left in zip(calls, candidates, strict=True):
        if not left:
            return call.number
        call.layout = left[0]
    return None


def _largest(call: Call, D: Tensor, cases: Tensor) -> float:
    """The largest absolute value of what has the output's shape, of some cases."""
    return max(float(call.of_output(group, D)[cases].abs().max()) for group in range(len(call.groups)))
