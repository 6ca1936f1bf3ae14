"""`python -m tests.kfac_ref.oracle.capture.record` (with PyTorch): captured cases and their truth by brute force,
for tests where there is no PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from kfac_ref.data.npz_file import write_archive
from kfac_ref.oracle import CapturedCase, capture
from tests.kfac_ref.oracle.capture import brute_force
from tests.kfac_ref.oracle.capture import torch_models as models

FOLDER = Path(__file__).parent / "recorded"
LARGEST = 60
"""Rows of a block that is recorded."""
LABELS = torch.tensor([0, 2, 1])
TOKENS = torch.tensor([[1, 2, 0, 4], [3, 3, 3, 0], [0, 1, 2, 4]])


def cases() -> dict[str, tuple[torch.nn.Module, torch.Tensor, torch.Tensor, str]]:
    """Small ones: model, inputs, targets, likelihood."""
    encoder = models.ready(models.Encoder(tokens=5, d=4, outputs=2))
    return {
        "resnet": (models.resnet(3, 1), models.numbers(3, 2, 5, 5), LABELS, "categorical"),
        "encoder": (encoder, TOKENS, TOKENS % 2, "categorical"),
        "twice": (models.twice(), models.numbers(3, 4), models.numbers(3, 2, seed=2), "gaussian"),
        "gru": (models.gru(), models.numbers(3, 4, 3), torch.eye(3)[LABELS, :2], "bernoulli"),
    }


def by_brute_force(model: torch.nn.Module, x: torch.Tensor, case: CapturedCase) -> dict[str, object]:
    """Factors of layers with rows, except positions, which are computed once for all cases; and small blocks."""
    found, F_R = {}, brute_force.fisher_of_outputs(case)
    for i, layer in enumerate(case.layers, start=1):
        if layer.kind == "rows" and layer.name != "position":
            found |= {f"{k}_{i}": v for k, v in brute_force.factors(model, x, layer.name, F_R).items()}
        if layer.W.size <= LARGEST:
            found[f"fisher_block_{i}"] = brute_force.block(model, x, layer.name, F_R)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    for name, (model, x, y, likelihood) in cases().items():
        case = capture(model, x, y, likelihood)
        case.save(FOLDER / f"{name}.case.npz")
        write_archive(FOLDER / f"{name}.force.npz", by_brute_force(model, x, case))
