"""SINGD's K-FAC of MLPs, convolutions and sequences, before its first step: what it multiplies its two preconditioners
by, which are then still identities. Needs singd."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from singd.optim.optimizer import SINGD
from torch import Tensor, nn

from kfac_ref.oracle import CapturedCase, Case
from validation.peers import cases, torch_network, torch_shared

AVERAGES = {"mean": "batch", "sum": None}
MODELS = {"convolution": "categorical", "sequence, mean over positions": "categorical"}


def factors(of: nn.Module, data: tuple[Tensor, Tensor], loss: nn.Module, sharing: str, first: int) -> dict[str, Tensor]:
    """Its factors, those of the inputs numbered from `first`, and the gradient."""
    optimizer = SINGD(of, loss_average=AVERAGES[loss.reduction], kfac_approx=sharing)
    loss(of(data[0]), data[1]).backward()
    theirs: dict[str, Tensor] = {}
    for i, (name, layer) in enumerate(torch_shared.layers(of).items(), 1):
        theirs[f"A_{i - 1 + first}"] = optimizer.H_Ks[name].to_dense()
        theirs[f"G_{i}"] = optimizer.H_Cs[name].to_dense()
        theirs[f"gradient_weight_{i}"] = layer.weight.grad.flatten(1)
    return theirs


def found() -> Iterator[tuple[str, Case | CapturedCase, dict[str, Tensor]]]:
    """Each reduction of the loss, and each way to share weights."""
    for likelihood, reduction in product(("categorical", "gaussian"), AVERAGES):
        case = cases.case(likelihood)
        of, data, loss = torch_network.network(case), torch_network.data(case), torch_network.loss(case, reduction)
        yield f"SINGD K-FAC: {likelihood}, {reduction}", case, factors(of, data, loss, "expand", 0)
    for name, sharing, reduction in product(MODELS, ("expand", "reduce"), AVERAGES):
        likelihood = MODELS[name]
        of, data = torch_shared.model(name), torch_shared.data(name, likelihood)
        theirs = factors(of, data, torch_shared.loss(likelihood, reduction), sharing, 1)
        yield f"SINGD K-FAC: {name}, {likelihood}, {sharing}, {reduction}", torch_shared.case(name, likelihood), theirs


if __name__ == "__main__":
    cases.show(found())
