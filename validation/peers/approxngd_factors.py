"""approxngd's K-FAC, which follows tensorflow/kfac: factors and steps of MLPs, factors of convolutions. Needs
approxngd."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from approxngd import KFAC
from torch import Tensor, nn

from kfac_ref.oracle import CapturedCase, Case
from validation.peers import cases, torch_network, torch_shared


def optimizer_of(of: nn.Module, data: tuple[Tensor, Tensor], loss: nn.Module) -> KFAC:
    """An optimizer that has seen the data forward and backward."""
    optimizer = KFAC(of, 1.0, torch.tensor(cases.DAMPING, dtype=torch.float64), momentum=0.0)
    with optimizer.track_forward():
        value = loss(of(data[0]), data[1])
    with optimizer.track_backward():
        value.backward()
    return optimizer


def factors(optimizer: KFAC, first: int) -> dict[str, Tensor]:
    """After an update, those of the inputs numbered from `first`."""
    blocks = [block for block in optimizer.blocks if not block.is_static]
    A = {f"A_{i + first}": block.activation_covariance for i, block in enumerate(blocks)}
    return A | {f"G_{i + 1}": block.sensitivity_covariance for i, block in enumerate(blocks)}


def steps(case: Case) -> dict[str, Tensor]:
    """What its first step subtracts, at learning rate 1, and the factors."""
    of = torch_network.network(case)
    optimizer = optimizer_of(of, torch_network.data(case), torch_network.loss(case, "mean"))
    before = [p.detach().clone() for p in of.parameters()]
    optimizer.step()
    moved = [b - p.detach() for b, p in zip(before, of.parameters(), strict=True)]
    theirs = factors(optimizer, 0)
    for i in range(case.network.layers):
        theirs |= {f"preconditioned_weight_{i + 1}": moved[2 * i], f"preconditioned_bias_{i + 1}": moved[2 * i + 1]}
    return theirs


def found() -> Iterator[tuple[str, Case | CapturedCase, dict[str, Tensor]]]:
    """It expects a loss that is a mean over cases."""
    for likelihood in ("categorical", "gaussian"):
        case = cases.case(likelihood)
        yield f"approxngd K-FAC: {likelihood}, damping {cases.DAMPING}", case, steps(case)
        of, data = torch_shared.model("convolution"), torch_shared.data("convolution", likelihood)
        optimizer = optimizer_of(of, data, torch_shared.loss(likelihood, "mean"))
        optimizer.update_cov()
        shared = torch_shared.case("convolution", likelihood)
        yield f"approxngd K-FAC: convolution, {likelihood}", shared, factors(optimizer, 1)


if __name__ == "__main__":
    cases.show(found())
