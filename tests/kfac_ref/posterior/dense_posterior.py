"""The Gaussians that the posterior's tests compare with: dense matrices over θ, from the dense factors."""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.likelihoods import LIKELIHOODS
from kfac_ref.curvature.factors import Factors
from tests.dense import dense_pi, flatten


def dense_precision(found: Factors, cases: float, prior_precision: float, damping: str, first: int = 1) -> np.ndarray:
    """Of [vec W_first; …; vec W_ℓ]; `cases` is N/σ²."""
    blocks, lam = [], prior_precision
    for i in range(first, found.layers + 1):
        if (i, i) in found.full:
            B = to_numpy(found.full[i, i]).astype(float)
            blocks.append(cases * B + lam * np.eye(len(B)))
            continue
        A, G = (to_numpy(M).astype(float) for M in (found.A[i - 1, i - 1], found.G[i, i]))
        I_A, I_G = np.eye(len(A)), np.eye(len(G))
        if damping == "exact":
            blocks.append(cases * np.kron(A, G) + lam * np.kron(I_A, I_G))
        else:
            ratio = dense_pi(A, G) if damping == "tikhonov" and np.trace(G) > 0 else 1.0
            root, shift = np.sqrt(cases), np.sqrt(lam)
            blocks.append(np.kron(root * A + shift * ratio * I_A, root * G + shift / ratio * I_G))
    return block_diag(*blocks)


def dense_log_evidence(network: Network, W, losses: float, cases: float, precision, lam: float, noise: float) -> float:
    """−Σ L/σ² − constants + log N(θ; 0, 1/λ₀) + ½ P log 2π − ½ log det."""
    theta, d = flatten(W), network.outputs
    log_prior = 0.5 * len(theta) * np.log(lam / (2 * np.pi)) - 0.5 * lam * theta @ theta
    constant = LIKELIHOODS[network.likelihood.name].constant(d) + 0.5 * d * np.log(noise)
    _, log_det = np.linalg.slogdet(precision)
    return -losses / noise - cases * constant + log_prior + 0.5 * len(theta) * np.log(2 * np.pi) - 0.5 * log_det


def all_jacobians(forward_pass) -> np.ndarray:
    """J of every case, (m, d_ℓ, P), by forward-mode passes along each parameter."""
    shapes = forward_pass.network.shapes
    columns = []
    for i, (p, q) in enumerate(shapes):
        for b in range(q):
            for a in range(p):
                direction = [np.zeros(shape) for shape in shapes]
                direction[i][a, b] = 1.0
                columns.append(direction)
    (_, activities), *rest = forward_pass.chunks()
    assert not rest
    return np.moveaxis(forward_pass.forward_mode(activities, columns), 0, 2)
