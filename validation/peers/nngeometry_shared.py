"""nngeometry's K-FAC of convolutions over images and over sequences; its linear layers refuse sequences. Needs
nngeometry."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from nngeometry.metrics import FIM, FIM_MonteCarlo
from nngeometry.object import PMatKFAC
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from kfac_ref.oracle import CapturedCase
from validation.peers import cases
from validation.peers.torch_shared import CASES, case, data, model

SAMPLES = 100


def factors(name: str, likelihood: str, batch: int, sampled: bool) -> dict[str, Tensor]:
    """Its factors, with so many cases in a batch."""
    loader = DataLoader(TensorDataset(*data(name, likelihood)), batch_size=batch)
    of = model(name)
    torch.manual_seed(2017)
    if sampled:
        fisher = FIM_MonteCarlo(of, loader, PMatKFAC, trials=SAMPLES)
    else:
        variant = {"categorical": "classif_logits", "gaussian": "regression"}[likelihood]
        # some of its constants are of the default dtype
        torch.set_default_dtype(torch.float64)
        fisher = FIM(of, loader, PMatKFAC, variant=variant)
        torch.set_default_dtype(torch.float32)
    theirs: dict[str, Tensor] = {}
    for i, (A, G) in enumerate(fisher.data.values(), 1):
        theirs |= {f"A_{i}": A, f"G_{i}": G}
    return theirs


def found() -> Iterator[tuple[str, CapturedCase, dict[str, Tensor]]]:
    """Both kinds of convolutions, exact and Monte-Carlo, in one batch or several."""
    for name in ("convolution", "sequence, convolutions"):
        for likelihood, batch, sampled in (
            ("categorical", CASES, False),
            ("categorical", 8, False),
            ("categorical", CASES, True),
            ("gaussian", CASES, False),
        ):
            how = f"{SAMPLES} samples" if sampled else "exact"
            title = f"nngeometry K-FAC: {name}, {likelihood}, {how}, batches of {batch}"
            yield title, case(name, likelihood), factors(name, likelihood, batch, sampled)


if __name__ == "__main__":
    cases.show(found())
