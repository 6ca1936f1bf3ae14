"""BackPACK's KFLR (exact) and KFAC (Monte-Carlo) of convolutions over images and over sequences; its linear layers
refuse sequences. Needs backpack-for-pytorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from backpack import backpack, extend
from backpack.extensions import KFAC, KFLR
from torch import Tensor

from kfac_ref.oracle import CapturedCase
from validation.peers import cases
from validation.peers.torch_shared import case, data, layers, loss, model

SAMPLES = 100


def factors(name: str, likelihood: str, kind: str, reduction: str) -> dict[str, Tensor]:
    """Its factors, G before A, and the gradient from the same backward pass."""
    of, criterion = extend(model(name)), extend(loss(likelihood, reduction))
    X, Y = data(name, likelihood)
    torch.manual_seed(2017)
    with backpack(KFLR() if kind == "kflr" else KFAC(mc_samples=SAMPLES)):
        criterion(of(X), Y).backward()
    theirs: dict[str, Tensor] = {}
    for i, layer in enumerate(layers(of).values(), 1):
        theirs[f"G_{i}"], theirs[f"A_{i}"] = getattr(layer.weight, kind)
        theirs[f"gradient_weight_{i}"] = layer.weight.grad.flatten(1)
        if layer.bias is not None:
            (theirs[f"G_bias_{i}"],) = getattr(layer.bias, kind)
            theirs[f"gradient_bias_{i}"] = layer.bias.grad
    return theirs


def found() -> Iterator[tuple[str, CapturedCase, dict[str, Tensor]]]:
    """Both kinds of convolutions with both reductions of the loss."""
    models = ("convolution", "sequence, convolutions")
    for name, likelihood, reduction, kind in product(
        models, ("categorical", "gaussian"), ("mean", "sum"), ("kflr", "kfac")
    ):
        how = "KFLR" if kind == "kflr" else f"KFAC with {SAMPLES} samples"
        title = f"BackPACK {how}: {name}, {likelihood}, {reduction}"
        yield title, case(name, likelihood), factors(name, likelihood, kind, reduction)


if __name__ == "__main__":
    cases.show(found())
