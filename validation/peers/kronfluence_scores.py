"""kronfluence's influence scores: are they ours? Needs kronfluence. `--record FILE.npz` keeps them for the tests."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import numpy as np
import torch
from kronfluence import Analyzer, FactorArguments, ScoreArguments, Task, prepare_model
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from validation.peers.influence_cases import CASES, DAMPINGS, KINDS, QUERIES, Setting, compare, made, record
from validation.peers.torch_network import stack

STATISTICS = ("activation_covariance", "gradient_covariance", "per_sample_gradient", "lambda")
DOUBLE: Any = {f"{name}_dtype": torch.float64 for name in STATISTICS}
SCORED: Any = {f"{name}_dtype": torch.float64 for name in ("per_sample_gradient", "precondition", "score")}


class Loss(Task):
    """The sum over cases of −log p; with sample=True for the targets that a batch has beside the data's."""

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[2 if sample else 1], reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)


def scores(case: str, strategy: str, fisher: str) -> dict[tuple[str, Setting], np.ndarray]:
    """By layers, (ℓ, Q, N), with each of DAMPINGS; the first QUERIES cases are the queries."""
    network, W, (X, Y, sampled) = made(case)
    dataset = TensorDataset(torch.from_numpy(X), *(torch.from_numpy(y.argmax(axis=1)) for y in (Y, sampled)))
    factors = FactorArguments(strategy, use_empirical_fisher=fisher == "empirical", **DOUBLE)
    found, model = {}, prepare_model(stack(network, W), Loss())
    with tempfile.TemporaryDirectory() as folder:
        there = Analyzer("theirs", model, Loss(), cpu=True, output_dir=folder, disable_tqdm=True)
        there.fit_all_factors("f", dataset, per_device_batch_size=4, factor_args=factors)
        for damping in DAMPINGS:
            how = ScoreArguments(damping_factor=damping, compute_per_module_scores=True, **SCORED)
            queries = torch.utils.data.Subset(dataset, range(QUERIES))
            there.compute_pairwise_scores(f"s{damping}", "f", queries, dataset, 2, 4, score_args=how)
            by_module: Any = there.load_pairwise_scores(f"s{damping}")
            theirs = np.stack([by_module[name].numpy() for name in sorted(by_module)])
            found[case, Setting(strategy, fisher, damping)] = theirs
    return found


if __name__ == "__main__":
    found = {key: x for case in CASES for kind in KINDS for key, x in scores(case, *kind).items()}
    if "--record" in sys.argv:
        record(found, sys.argv[-1])
    sys.exit(compare(found))
