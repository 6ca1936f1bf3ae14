"""Models as users write them, in float64 and evaluation mode, with numbers from a seed; and brute force on them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SECOND = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)


def ready(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, no parameter 0 or 1 and statistics that are not those at the start."""
    g = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for p in model.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean += torch.randn(module.running_mean.shape, generator=g, dtype=torch.float64)
            module.running_var += torch.rand(module.running_var.shape, generator=g, dtype=torch.float64)
    return model


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class ResidualBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x
        return self.relu(y)


def resnet() -> nn.Module:
    stem = [nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return ready(nn.Sequential(*stem, ResidualBlock(4), ResidualBlock(4), *head))


class Encoder(nn.Module):
    """A block of a transformer's encoder, written with Linear layers; tokens and positions embedded."""

    def __init__(self, tokens: int = 7, d: int = 6, heads: int = 2, outputs: int = 3) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(tokens, d, padding_idx=0), nn.Embedding(9, d)
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.wide, self.narrow = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.head, self.heads = nn.Linear(d, outputs, bias=False), heads

    def forward(self, tokens):
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        x = self.norm1(x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return self.head(self.norm2(x + self.narrow(F.gelu(self.wide(x)))))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class GRU(nn.Module):
    """A gated recurrent unit made of Linear layers."""

    def __init__(self, d: int = 3, h: int = 4) -> None:
        super().__init__()
        self.reset, self.update, self.new = nn.Linear(d + h, h), nn.Linear(d + h, h), nn.Linear(d + h, h)
        self.out, self.h = nn.Linear(h, 2), h

    def forward(self, x):
        h = x.new_zeros(len(x), self.h)
        for x_t in x.unbind(1):
            both = torch.cat([x_t, h], 1)
            r, u = torch.sigmoid(self.reset(both)), torch.sigmoid(self.update(both))
            h = u * h + (1 - u) * torch.tanh(self.new(torch.cat([x_t, r * h], 1)))
        return self.out(h)


def encoder() -> nn.Module:
    return ready(Encoder())


def twice() -> nn.Module:
    return ready(Twice())


def gru() -> nn.Module:
    return ready(GRU())


# --- brute force ------------------------------------------------------------------------------------------------------


class Shifted(nn.Module):
    """A module whose k-th output is shifted by `shifts[k]`, if these are there; keeps what it was given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.shifts, self.seen, self.shapes = inner, None, [], []

    def forward(self, x):
        y = self.inner(x)
        self.seen.append(x.detach().clone())
        self.shapes.append(y.shape)
        return y.clone() if self.shifts is None else y + self.shifts[len(self.seen) - 1]


def rows_by_force(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(T, p) of one case, by other functions than the ones that are tested."""
    if isinstance(module, nn.Embedding):
        eye = torch.eye(module.num_embeddings, dtype=torch.float64)
        if module.padding_idx is not None:
            eye[module.padding_idx] = 0
        return eye[x.flatten()]
    if isinstance(module, nn.Conv2d):
        assert module.groups == 1 and module.padding_mode == "zeros"
        return F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)[0].T
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    if isinstance(module, nn.LayerNorm):
        x = x.reshape(-1, x.shape[-1])
        return (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, correction=0) + module.eps)
    assert isinstance(module, nn.BatchNorm2d)
    x = x.flatten(2)[0].T
    return (x - module.running_mean) / torch.sqrt(module.running_var + module.eps)


def rows_last(module: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """(C, T, d) from (C, 1, *shape of an output)."""
    if isinstance(module, (*CONVOLUTIONS, *SECOND)):
        return y.flatten(3).transpose(2, 3)[:, 0]
    return y.reshape(len(y), -1, y.shape[-1])


def by_force(model: nn.Module, x: torch.Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
    """a (N, T, p) and g (C, N, T, d) of the module called `name`, case by case, each alone."""
    model = copy.deepcopy(model)
    shifted = Shifted(model.get_submodule(name))
    model.set_submodule(name, shifted)
    a, g = [], []
    for n in range(len(x)):
        shifted.seen, shifted.shapes, shifted.shifts = [], [], None
        model(x[n : n + 1])
        calls = len(shifted.seen)
        a.append(torch.cat([rows_by_force(shifted.inner, given) for given in shifted.seen]))

        def outputs(*shifts, n=n):
            shifted.seen, shifted.shifts = [], shifts
            return model(x[n : n + 1]).flatten()

        zeros = tuple(torch.zeros(shape, dtype=torch.float64) for shape in shifted.shapes[:calls])
        J = torch.autograd.functional.jacobian(outputs, zeros)
        g.append(torch.cat([rows_last(shifted.inner, D.reshape(len(D), 1, *D.shape[2:])) for D in J], 1))
    return torch.stack(a).numpy(), torch.stack(g, 1).numpy()


def jacobians(model: nn.Module, x: torch.Tensor, names: list[str]) -> list[np.ndarray]:
    """dz/dW (N, C, *W), case by case, of the parameters with these names."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(some, case):
        return torch.func.functional_call(model, parameters | some, (case[None],)).flatten()

    some = {name: parameters[name] for name in names}
    each = [torch.func.jacrev(outputs)(some, case) for case in x]
    return [torch.stack([J[name] for J in each]).numpy() for name in names]
