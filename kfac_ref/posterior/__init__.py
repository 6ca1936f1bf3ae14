"""Bayesian learning: Laplace's approximation with Kronecker factors, its predictions and evidence; noisy K-FAC."""

from kfac_ref.posterior.evidence import log_evidence, log_likelihood, most_evident
from kfac_ref.posterior.laplace import Posterior, fit, from_factors
from kfac_ref.posterior.noisy import NoisyKFAC
from kfac_ref.posterior.predictive import Outputs, expectation, outputs, probit, sampled_outputs

__all__ = [
    "NoisyKFAC",
    "Outputs",
    "Posterior",
    "expectation",
    "fit",
    "from_factors",
    "log_evidence",
    "log_likelihood",
    "most_evident",
    "outputs",
    "probit",
    "sampled_outputs",
]
