"""A case's network, data and loss as a PyTorch user has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autodiff.network import Network, Parameters
from kfac_ref.oracle import Case

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "logistic": nn.Sigmoid, "identity": nn.Identity}
LOSSES = {"categorical": nn.CrossEntropyLoss, "bernoulli": nn.BCEWithLogitsLoss, "gaussian": nn.MSELoss}


def network(case: Case) -> nn.Sequential:
    """Linear layers and activations, in float64, with the case's parameters: the bias is the last column of W_i."""
    modules: list[nn.Module] = []
    for W, activation in zip(case.parameters, case.network.activations, strict=True):
        linear = nn.Linear(W.shape[1] - 1, W.shape[0], dtype=torch.float64)
        linear.weight.data, linear.bias.data = torch.from_numpy(W[:, :-1].copy()), torch.from_numpy(W[:, -1].copy())
        modules += [linear, ACTIVATIONS[activation.name]()]
    return nn.Sequential(*modules[:-1])


def stack(network: Network, W: Parameters) -> nn.Sequential:
    """A network of dense, convolutional and flatten layers, with tanh at most, and its parameters, in float64."""
    found: list[nn.Module] = []
    for stage, w in zip(network.stages, network.spread(W), strict=True):
        if w is None or stage.shape is None:
            found.append(nn.Flatten())
            continue
        keys, sizes = stage.description(), (stage.input[0 if stage.kind == "conv" else -1], stage.shape[0])
        made = nn.Conv2d(*sizes, keys["kernel"], padding=keys["padding"]) if stage.kind == "conv" else nn.Linear(*sizes)
        made.weight.data = torch.from_numpy(w[:, :-1].copy()).reshape(made.weight.shape)
        made.bias.data = torch.from_numpy(w[:, -1].copy())
        found += [made, nn.Tanh()] if keys["activation"] == "tanh" else [made]
    return nn.Sequential(*found).double()


def linears(model: nn.Sequential) -> list[nn.Linear]:
    """Its linear layers in order."""
    return [module for module in model if isinstance(module, nn.Linear)]


def data(case: Case) -> tuple[Tensor, Tensor]:
    """Inputs and targets; of classes, their numbers."""
    Y = case.Y.argmax(axis=1) if case.network.likelihood.name == "categorical" else case.Y
    return torch.from_numpy(case.X), torch.from_numpy(Y)


def loss(case: Case, reduction: str) -> nn.Module:
    """PyTorch's loss for the case's likelihood; with "mean" it is also over outputs, unless they are classes."""
    return LOSSES[case.network.likelihood.name](reduction=reduction)
