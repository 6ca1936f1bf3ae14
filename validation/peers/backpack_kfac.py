"""BackPACK's KFLR (exact) and KFAC (Monte-Carlo), whose weights and biases are separate blocks. Needs
backpack-for-pytorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from backpack import backpack, extend
from backpack.extensions import KFAC, KFLR
from torch import Tensor

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.torch_network import data, linears, loss, network

SAMPLES = 100


def factors(case: Case, name: str, reduction: str) -> dict[str, Tensor]:
    """Its factors, G before A, and the gradient from the same backward pass."""
    model, criterion = extend(network(case)), extend(loss(case, reduction))
    X, Y = data(case)
    with backpack(KFLR() if name == "kflr" else KFAC(mc_samples=SAMPLES)):
        criterion(model(X), Y).backward()
    theirs: dict[str, Tensor] = {}
    for i, layer in enumerate(linears(model), 1):
        theirs[f"G_{i}"], theirs[f"A_{i - 1}"] = getattr(layer.weight, name)
        (theirs[f"G_bias_{i}"],) = getattr(layer.bias, name)
        theirs |= {f"gradient_weight_{i}": layer.weight.grad, f"gradient_bias_{i}": layer.bias.grad}
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """Bernoulli is left out: BackPACK's is for one output only."""
    for likelihood, reduction, name in product(("categorical", "gaussian"), ("mean", "sum"), ("kflr", "kfac")):
        torch.manual_seed(2015)
        case = cases.case(likelihood)
        how = "KFLR" if name == "kflr" else f"KFAC with {SAMPLES} samples"
        yield f"BackPACK {how}: {likelihood}, {reduction}", case, factors(case, name, reduction)


if __name__ == "__main__":
    cases.show(found())
