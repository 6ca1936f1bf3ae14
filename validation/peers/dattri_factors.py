"""dattri's covariances of EK-FAC, for influence functions: whose targets, and on which scale? Needs dattri."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import torch
from dattri.algorithm.influence_function import IFAttributorEKFAC
from dattri.func import fisher
from dattri.task import AttributionTask
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.torch_network import data, loss, network


def factors(case: Case, batch: int) -> dict[str, Tensor]:
    """What it is about to decompose, with so many cases in a batch; its loss is to be a mean."""
    model, criterion = network(case), loss(case, "mean")

    def target(parameters: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return criterion(torch.func.functional_call(model, parameters, batch[0]), batch[1])

    task = AttributionTask(target, model, model.state_dict())
    with patch.object(fisher, "estimate_eigenvector", wraps=fisher.estimate_eigenvector) as seen:
        IFAttributorEKFAC(task).cache(DataLoader(TensorDataset(*data(case)), batch_size=batch))
    theirs: dict[str, Tensor] = {}
    for i, (A, G) in enumerate(seen.call_args.args[0].values()):
        theirs |= {f"A_{i}": A, f"G_{i + 1}": G}
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """In one batch or several."""
    for likelihood in ("categorical", "gaussian"):
        for batch in (cases.CASES, 8):
            case = cases.case(likelihood)
            yield f"dattri EK-FAC: {likelihood}, batches of {batch}", case, factors(case, batch)


if __name__ == "__main__":
    cases.show(found())
