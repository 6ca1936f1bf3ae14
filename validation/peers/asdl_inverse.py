"""ASDL's inverse of K-FAC, on the gradient: what does it do with a damping? Needs asdfghjkl."""

from __future__ import annotations

from collections.abc import Iterator

from asdl import FISHER_EXACT
from asdl.precondition import KfacGradientMaker, PreconditioningConfig
from torch import Tensor

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.asdl_factors import run
from validation.peers.torch_network import data, linears, loss, network


def preconditioned(case: Case) -> dict[str, Tensor]:
    """The gradient of a mean times its inverse."""
    model = network(case)
    how = PreconditioningConfig(data_size=case.cases, damping=cases.DAMPING)
    run(KfacGradientMaker(model, how, FISHER_EXACT), model, data(case), loss(case, "mean"))
    theirs: dict[str, Tensor] = {}
    for i, layer in enumerate(linears(model), 1):
        theirs |= {f"preconditioned_weight_{i}": layer.weight.grad, f"preconditioned_bias_{i}": layer.bias.grad}
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """Of classes."""
    case = cases.case("categorical")
    yield f"ASDL inverse: categorical, damping {cases.DAMPING}", case, preconditioned(case)


if __name__ == "__main__":
    cases.show(found())
