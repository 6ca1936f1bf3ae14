"""kronfluence's covariances, as it keeps them: sums or means, with the bias or without? Needs kronfluence."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from kronfluence import Analyzer, FactorArguments, prepare_model
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from kfac_ref.oracle import CapturedCase, Case
from validation.peers import cases, torch_network, torch_shared
from validation.peers.kronfluence_scores import DOUBLE, Loss


def factors(of: nn.Module, data: tuple[Tensor, Tensor], first: int) -> dict[str, Tensor]:
    """Of the data's targets, for a loss that is a sum; those of the inputs numbered from `first`."""
    names = list(torch_shared.layers(of))
    prepared = prepare_model(of, Loss())
    how: Any = FactorArguments(use_empirical_fisher=True, **DOUBLE)
    with tempfile.TemporaryDirectory() as folder:
        there = Analyzer("theirs", prepared, Loss(), cpu=True, output_dir=folder, disable_tqdm=True)
        there.fit_covariance_matrices("f", TensorDataset(*data), per_device_batch_size=8, factor_args=how)
        found: Any = there.load_covariance_matrices("f")
    theirs: dict[str, Tensor] = {}
    for i, name in enumerate(names):
        theirs[f"A_{i + first}"] = found["activation_covariance"][name]
        theirs[f"G_{i + 1}"] = found["gradient_covariance"][name]
    return theirs


def found() -> Iterator[tuple[str, Case | CapturedCase, dict[str, Tensor]]]:
    """An MLP, a convolution and a sequence, with a loss for classes."""
    case = cases.case("categorical")
    theirs = factors(torch_network.network(case), torch_network.data(case), 0)
    yield "kronfluence covariances: categorical", case, theirs
    for name in ("convolution", "sequence, mean over positions"):
        theirs = factors(torch_shared.model(name), torch_shared.data(name, "categorical"), 1)
        yield f"kronfluence covariances: {name}, categorical", torch_shared.case(name, "categorical"), theirs


if __name__ == "__main__":
    cases.show(found())
