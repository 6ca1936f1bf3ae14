"""laplace-torch 0.3's Kronecker posterior, recorded by `python -m validation.peers.laplace_posterior --record`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from validation.peers.posterior_cases import CASES, compared, ours

RECORDED = Path(__file__).parent / "laplace_torch.npz"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equal_by_its_convention(case):
    with np.load(RECORDED) as file:
        recorded = {name.partition("/")[2]: file[name] for name in file if name.partition("/")[0] == case.name}
    assert {"outputs", "covariance", "log_evidence", "log_likelihood"} <= set(recorded)
    assert max(compared(ours(case), recorded).values()) < 1e-6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equal_to_what_it_computes_now(case):
    pytest.importorskip("laplace", reason="laplace-torch is not here")
    from validation.peers.posterior_torch import theirs

    assert max(compared(ours(case), theirs(case)).values()) < 1e-6
