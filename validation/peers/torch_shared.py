"""Models whose layers share weights, as a PyTorch user has them, and their cases, captured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kfac_ref.oracle import CapturedCase, capture
from validation.peers.torch_network import LOSSES

CASES = 23


class MeanOverPositions(nn.Module):
    """(N, T, d) → (N, d)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


MODELS = {
    # T = 30 and 12: stride and padding differ along the axes
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(3, 4, (2, 3), stride=(2, 1), padding=(1, 0), bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(48, 3),
    ),
    "sequence, mean over positions": lambda: nn.Sequential(
        nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), MeanOverPositions(), nn.Linear(5, 3)
    ),
    "sequence, outputs at each position": lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)),
    "sequence, convolutions": lambda: nn.Sequential(
        nn.Conv1d(4, 6, 3, padding=1),
        nn.Tanh(),
        nn.Conv1d(6, 5, 2, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(20, 3),
    ),
}
INPUTS = {"convolution": (2, 6, 5), "sequence, convolutions": (4, 9)}


def model(name: str) -> nn.Sequential:
    """The model called so, in float64, the same at each call."""
    torch.manual_seed(2015)
    return MODELS[name]().double()


def data(name: str, likelihood: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets, which are classes' numbers for the categorical likelihood."""
    torch.manual_seed(2016)
    X = torch.randn(CASES, *INPUTS.get(name, (7, 4)), dtype=torch.float64)
    outputs = (CASES, 7, 3) if "each position" in name else (CASES, 3)
    if likelihood == "categorical":
        return X, torch.randint(3, outputs[:-1])
    return X, torch.randn(outputs, dtype=torch.float64)


def case(name: str, likelihood: str) -> CapturedCase:
    """What the check is asked about."""
    X, Y = data(name, likelihood)
    return capture(model(name), X, Y, likelihood)


def loss(likelihood: str, reduction: str) -> nn.Module:
    """PyTorch's loss; with "mean" it is also over outputs and positions, unless they are classes."""
    return LOSSES[likelihood](reduction=reduction)


def layers(of: nn.Module) -> dict[str, nn.Module]:
    """Its layers in order, by name."""
    return {name: m for name, m in of.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))}
