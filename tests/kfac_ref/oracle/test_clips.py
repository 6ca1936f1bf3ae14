from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle.clips import named_clip
from kfac_ref.oracle.references import References
from tests.kfac_ref.oracle.mutations.preconditioners import gradients, precondition
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation


@pytest.fixture(scope="module")
def made():
    case = situation(np.random.default_rng(6), sizes=[4, 5, 3], N=20, likelihood="gaussian", lam=0.2)
    n = Numbers(case)
    return References(case), n, gradients(n), precondition(n, gradients(n), "plain", 0.2)


@pytest.mark.parametrize(
    ("kappa", "lr", "words"),
    [
        (1e-3, 1.0, "kappa/lr^2 = 0.001"),
        (1e-3, 0.1, "kappa/lr^2 = 0.1"),
        (1e-3, 0.3, "kappa/lr^2 = 0.0111111 (kappa = 0.001 and lr = 0.3, say)"),
    ],
)
def test_a_kl_clip(made, kappa, lr, words):
    references, _, g, U = made
    inner = sum(float(np.sum(u * v)) for u, v in zip(U, g, strict=True))
    said = named_clip(float(np.sqrt(kappa / inner)) / lr, U, g, references, 1e-9)
    assert said.startswith("KL clip: ") and words in said


def test_a_trust_region_by_the_fisher(made):
    references, n, g, U = made
    flat = np.concatenate([u.ravel(order="F") for u in U])
    said = named_clip(float(np.sqrt(2 * 1e-3 / (flat @ n.fisher() @ flat))), U, g, references, 1e-9)
    assert said.startswith("KL clip (trust region)") and "kappa/lr^2 = 0.001" in said


def test_norms_and_anything(made):
    references, _, g, U = made
    size, size_g = (np.sqrt(sum(np.sum(x**2) for x in xs)) for xs in (U, g))
    assert named_clip(0.1 / size, U, g, references, 1e-9) == "the result's norm clipped to 0.1"
    assert named_clip(0.5 / size_g, U, g, references, 1e-9) == "the gradient's norm clipped to 0.5"
    assert named_clip(size_g / size, U, g, references, 1e-9) == "the result scaled to the gradient's norm"
    assert named_clip(0.0123457, U, g, references, 1e-9).startswith("one factor for all layers, such as a KL clip")
    assert named_clip(12.3457, U, g, references, 1e-9) == "one factor for all layers"
