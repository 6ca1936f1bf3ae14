"""Captured cases of PyTorch's models that were recorded with their truth by brute force: see `record.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kfac_ref.oracle import CapturedCase, truth

FOLDER = Path(__file__).parent / "recorded"


@pytest.mark.parametrize("name", ["resnet", "encoder", "twice", "gru"])
def test_truth_is_what_brute_force_found(name):
    found = truth(CapturedCase.load(FOLDER / f"{name}.case.npz"))
    with np.load(FOLDER / f"{name}.force.npz") as expected:
        assert len(expected.files) > 10
        for key in expected.files:
            error = np.linalg.norm(found[key] - expected[key])
            assert error <= 1e-12 * np.linalg.norm(expected[key]) + 1e-15, key
