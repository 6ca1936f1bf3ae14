"""A PyTorch model that is looked at: what cannot be looked at is refused, and the rest is left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kfac_ref.data.npz_file import one_line

FLOATING = (torch.float32, torch.float64)
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where it is compiled; hooks do not see what was compiled. ValueError for one that splits cases
    or is a ScriptModule."""
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, PARALLEL):
        raise ValueError(f"the model is a {type(inner).__name__}, which splits cases; capture its .module")
    if isinstance(inner, torch.jit.ScriptModule):
        raise ValueError("the model is a ScriptModule, whose layers take no hooks; capture the model it was made from")
    return inner


def require_fit(model: nn.Module) -> None:
    """ValueError, in one line, for a model that has no derivatives of single cases, or too few digits."""
    dtypes: dict[torch.dtype, str] = {}
    for name, p in model.named_parameters():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} has no shape yet: call the model once before")
        if p.is_meta:
            raise ValueError(f"parameter {name!r} is on the meta device and has no numbers")
        if p.is_inference():
            raise ValueError(f"parameter {name!r} was made in torch.inference_mode and has no derivatives")
        if p.dtype not in FLOATING:
            said = "convert a copy by copy.deepcopy(model).double()"
            raise ValueError(f"parameter {name!r} is {p.dtype}, expected torch.float64 or torch.float32: {said}")
        dtypes.setdefault(p.dtype, name)
    if len(dtypes) > 1:
        said = " and ".join(f"{name!r} is {dtype}" for dtype, name in dtypes.items())
        raise ValueError(f"parameter {said}, expected one dtype: model.double()")
    for name, module in model.named_modules():
        what = f"layer {name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.training:
                raise ValueError(f"{what} is in training mode, in which cases are coupled: call model.eval() first")
            if module.running_mean is None:
                raise ValueError(f"{what} has no running statistics, so that cases are coupled: no case has a 𝒟W")
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise ValueError(f"{what} is in training mode, in which it is random: call model.eval() first")
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            raise ValueError(f"{what} has max_norm, with which a forward pass changes the weights")


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Within it all parameters have derivatives, nothing is cast, and no fast path goes past the hooks; after it, all
    is as before: buffers, `requires_grad`, `grad`, the state of the random numbers, and PyTorch's modes."""
    parameters = list(model.parameters())
    had = [(p.requires_grad, p.grad) for p in parameters]
    # a buffer may be changed, or another put in its place
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    before = {id(b): (b, b.detach().clone()) for _, own in buffers for b in own.values() if b is not None}
    devices = {x.device for x in (*parameters, *model.buffers())}
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng([d.index for d in devices if d.type == "cuda"]))
        for kind in {d.type for d in devices} | {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for p in parameters:
                p.requires_grad_(True)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for p, (required, grad) in zip(parameters, had, strict=True):
                p.requires_grad_(required)
                p.grad = grad
            for module, own in buffers:
                module._buffers.update(own)
            with torch.no_grad():
                for b, x in before.values():
                    if not torch.equal(b, x):
                        b.copy_(x)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for the model: a tensor, a tuple of arguments, or a mapping of them by name; no inference tensors."""
    if isinstance(inputs, Mapping):
        return (), {name: _usable(name, x) for name, x in inputs.items()}
    several = inputs if isinstance(inputs, (tuple, list)) else [inputs]
    return tuple(_usable(f"inputs[{i}]" if len(several) > 1 else "inputs", x) for i, x in enumerate(several)), {}


def _usable(name: str, x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if x.dtype.is_floating_point and x.dtype not in FLOATING:
        raise ValueError(f"{name} are {x.dtype}, expected torch.float64 or torch.float32")
    return x.detach().clone()


def run(model: nn.Module, inputs: Any) -> Tensor:
    """The outputs z, (N, C) or (N, T, C); ValueError where they are something else, or random."""
    args, kwargs = _arguments(inputs)
    random = torch.get_rng_state()
    try:
        z = model(*args, **kwargs)
    except RuntimeError as error:
        dtypes = {p.dtype for p in model.parameters()}
        for x in (*args, *kwargs.values()):
            if isinstance(x, Tensor) and x.dtype.is_floating_point and x.dtype not in dtypes:
                raise ValueError(f"inputs are {x.dtype}, but the parameters {dtypes.pop()}") from error
        raise
    if not isinstance(z, Tensor):
        raise ValueError(f"the model returns a {type(z).__name__}, expected a tensor (N, C) or (N, T, C): wrap it")
    if z.ndim not in (2, 3) or 0 in z.shape:
        raise ValueError(
            f"the model's outputs have shape {tuple(z.shape)}, expected (N, C), or (N, T, C) for each position"
        )
    if z.dtype not in FLOATING:
        raise ValueError(f"the model's outputs are {z.dtype}, expected torch.float64 or torch.float32")
    if not torch.equal(random, torch.get_rng_state()):
        raise ValueError("the model draws random numbers in its forward pass (dropout?): call model.eval() first")
    if not bool(torch.isfinite(z).all()):
        raise ValueError("the model's outputs are not all finite")
    return z


def derivatives(of: Tensor, by: list[Tensor]) -> list[Tensor | None]:
    """d of/d by, None where it does not depend; ValueError where something has no backward pass."""
    if not by:
        return []
    try:
        return list(torch.autograd.grad(of, by, retain_graph=True, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"the model's backward pass fails: {type(error).__name__}: {one_line(error)}") from error
