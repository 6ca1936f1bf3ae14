"""The passes against three networks as PyTorch ran them (tests/layers)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autodiff.arrays import to_numpy
from autodiff.network import described
from autodiff.passes import ForwardPass
from kfac_ref.curvature.kronecker import flatten
from tests.conftest import assert_close, to

FILES = sorted((Path(__file__).parent.parent / "layers").glob("*.npz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rows_outputs_and_derivatives(path, like64):
    with np.load(path) as file:
        recorded = dict(file)
    network = described(json.loads(str(recorded["settings"])))
    W = [to(like64, recorded[f"W_{i}"]) for i in range(1, network.layers + 1)]
    forward_pass = ForwardPass(network, W, to(like64, recorded["X"]))
    ((_, activities),) = forward_pass.chunks()
    N, C = recorded["z"].shape
    assert_close(activities.z, recorded["z"], like64, tol=1e-12)
    Dz = network.likelihood.derivative(activities.z, to(like64, recorded["Y"])) / N
    assert_close(flatten(forward_pass.pull_back(activities, Dz)), recorded["gradient"], like64, tol=1e-12)
    each = to(like64, np.broadcast_to(np.eye(C)[:, None, :], (C, N, C)).copy())
    g = forward_pass.backward(activities, each)
    for i, layer in enumerate(network.weighted, start=1):
        if f"a_{i}" in recorded:
            a = to_numpy(activities.rows(i)).reshape(N, layer.locations, -1)[..., : layer.fan_in]
            np.testing.assert_allclose(a, recorded[f"a_{i}"], atol=1e-12)
            np.testing.assert_allclose(
                to_numpy(g[i - 1]).reshape(recorded[f"g_{i}"].shape), recorded[f"g_{i}"], atol=1e-12
            )
