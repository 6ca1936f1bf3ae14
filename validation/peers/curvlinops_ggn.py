"""curvlinops' dense generalised Gauss-Newton, Monte-Carlo Fisher and empirical Fisher. Needs curvlinops-for-pytorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from curvlinops import EFLinearOperator, FisherMCLinearOperator, GGNLinearOperator
from torch import Tensor

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.torch_network import data, loss, network

OPERATORS: dict[str, tuple[Any, dict[str, int]]] = {
    "generalised Gauss-Newton": (GGNLinearOperator, {}),
    "Monte-Carlo Fisher, 100 samples": (FisherMCLinearOperator, {"mc_samples": 100}),
    "empirical Fisher": (EFLinearOperator, {}),
}


def dense(case: Case, name: str, reduction: str) -> dict[str, Tensor]:
    """The operator times the identity, and the block of the first layer."""
    model = network(case)
    of, options = OPERATORS[name]
    operator = of(
        model,
        loss(case, reduction),
        list(model.parameters()),
        [data(case)],
        check_deterministic=False,
        **options,
    )
    matrix = operator @ torch.eye(operator.shape[1], dtype=torch.float64)
    first = case.parameters[0].size
    return {"fisher": matrix, "block_1": matrix[:first, :first]}


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """Each operator with each reduction."""
    for likelihood, reduction, name in product(("categorical", "gaussian"), ("mean", "sum"), OPERATORS):
        case = cases.case(likelihood)
        yield f"curvlinops dense: {likelihood}, {reduction}, {name}", case, dense(case, name, reduction)


if __name__ == "__main__":
    cases.show(found())
