"""Models as users write them, in float64 and evaluation mode, with numbers from a seed."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


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


def resnet(channels: int = 4, blocks: int = 2) -> nn.Module:
    stem = [nn.Conv2d(2, channels, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)]
    return ready(nn.Sequential(*stem, *(ResidualBlock(channels) for _ in range(blocks)), *head))


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
