"""ASDL's K-FAC of MLPs and convolutions: whose targets, on which scale, and where is the bias? Needs asdfghjkl."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import asdl
import torch
from torch import Tensor, nn

from kfac_ref.oracle import CapturedCase, Case
from validation.peers import cases, torch_network, torch_shared

SAMPLES = {asdl.FISHER_EXACT: 1, asdl.FISHER_EMP: 1, asdl.FISHER_MC: 100}
LOSSES = {"categorical": asdl.LOSS_CROSS_ENTROPY, "gaussian": asdl.LOSS_MSE}


def run(maker: asdl.GradientMaker, of: nn.Module, data: tuple[Tensor, Tensor], loss: nn.Module) -> None:
    """Forward and backward, as it wants them described."""
    z = maker.setup_model_call(of, data[0])
    maker.setup_loss_call(loss, z, data[1])
    maker.setup_logits_repr(z)
    maker.forward_and_backward()


def factors(of: nn.Module, data: tuple[Tensor, Tensor], likelihood: str, fisher: str, first: int) -> dict[str, Tensor]:
    """Its factors, those of the inputs numbered from `first`. It wants a loss that is a sum."""
    how = asdl.FisherConfig(fisher, [asdl.SHAPE_KRON], LOSSES[likelihood], SAMPLES[fisher], data_size=len(data[0]))
    run(asdl.get_fisher_maker(of, how), of, data, torch_network.LOSSES[likelihood](reduction="sum"))
    theirs: dict[str, Tensor] = {}
    for i, layer in enumerate(torch_shared.layers(of).values()):
        theirs |= {f"A_{i + first}": layer.fisher.kron.A, f"G_{i + 1}": layer.fisher.kron.B}
    return theirs


def found() -> Iterator[tuple[str, Case | CapturedCase, dict[str, Tensor]]]:
    """Each Fisher of an MLP and of a convolution."""
    torch.manual_seed(2017)
    for likelihood, fisher in product(LOSSES, SAMPLES):
        case = cases.case(likelihood)
        of, data = torch_network.network(case), torch_network.data(case)
        yield f"ASDL K-FAC: {likelihood}, {fisher}", case, factors(of, data, likelihood, fisher, 0)
        of, data = torch_shared.model("convolution"), torch_shared.data("convolution", likelihood)
        shared = torch_shared.case("convolution", likelihood)
        yield f"ASDL K-FAC: convolution, {likelihood}, {fisher}", shared, factors(of, data, likelihood, fisher, 1)


if __name__ == "__main__":
    cases.show(found())
