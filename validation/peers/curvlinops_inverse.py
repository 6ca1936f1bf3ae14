"""curvlinops' damped inverses of K-FAC, on the gradient: what does each do with λ? Needs curvlinops-for-pytorch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from curvlinops import FisherType, KFACInverseLinearOperator, KFACLinearOperator
from torch import Tensor

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.torch_network import data, loss, network

DAMPINGS = {
    "plain": {},
    "heuristic": {"use_heuristic_damping": True},
    "exact": {"use_exact_damping": True},
}


def preconditioned(case: Case, reduction: str, options: dict[str, bool]) -> dict[str, Tensor]:
    """The gradient of PyTorch's loss, and the same times the inverse."""
    model, criterion = network(case), loss(case, reduction)
    X, Y = data(case)
    parameters = list(model.parameters())
    kfac = KFACLinearOperator(
        model,
        criterion,
        parameters,
        [(X, Y)],
        fisher_type=FisherType.TYPE2,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    inverse = KFACInverseLinearOperator(kfac, damping=cases.DAMPING, **options)
    gradient = list(torch.autograd.grad(criterion(model(X), Y), parameters))
    theirs: dict[str, Tensor] = {}
    for kind, of in (("gradient", gradient), ("preconditioned", inverse @ gradient)):
        # PyTorch's parameters are weight, bias, weight, bias, …
        for i in range(case.network.layers):
            theirs |= {f"{kind}_weight_{i + 1}": of[2 * i], f"{kind}_bias_{i + 1}": of[2 * i + 1]}
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """Its three ways, on a loss whose mean is over cases, and on one whose mean is over outputs too."""
    for likelihood, reduction in (("categorical", "mean"), ("gaussian", "mean"), ("gaussian", "sum")):
        for name, options in DAMPINGS.items():
            case = cases.case(likelihood)
            title = f"curvlinops inverse: {likelihood}, {reduction}, {name} damping {cases.DAMPING}"
            yield title, case, preconditioned(case, reduction, options)


if __name__ == "__main__":
    cases.show(found())
