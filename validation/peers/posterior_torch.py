"""laplace-torch's posterior of a case."""

from __future__ import annotations

import numpy as np
import torch
from laplace import KronLaplace, Laplace
from laplace.curvature import CurvlinopsEF, CurvlinopsGGN
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from validation.peers.posterior_cases import PRIOR_PRECISION, PosteriorCase

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class Damped(KronLaplace):
    """With the damping that was asked for."""

    @property
    def posterior_precision(self) -> object:
        """Of the factors, λ₀ added."""
        precision = super().posterior_precision
        precision.damping = self.damping
        return precision


def model_of(case: PosteriorCase) -> nn.Sequential:
    """The case's network, in float64, with its parameters."""
    modules: list[nn.Module] = [nn.Unflatten(1, case.network.input)]
    W = iter(case.parameters)
    channels = case.network.input[0]
    for layer in case.layers:
        kind, bias = layer["kind"], layer.get("bias", True)
        if kind == "flatten":
            modules.append(nn.Flatten())
            continue
        weights = next(W)
        columns = weights.shape[1] - bias
        module: nn.Module
        if kind == "conv":
            module = nn.Conv2d(channels, layer["out"], layer["kernel"], bias=bias, dtype=torch.float64)
        else:
            module = nn.Linear(columns, layer["out"], bias=bias, dtype=torch.float64)
        module.weight.data = torch.from_numpy(weights[:, :columns].copy()).reshape(module.weight.shape)
        if bias:
            module.bias.data = torch.from_numpy(weights[:, -1].copy())
        modules.append(module)
        channels = layer["out"]
        if layer.get("activation", "identity") != "identity":
            modules.append(ACTIVATIONS[layer["activation"]]())
    return nn.Sequential(*modules)


def theirs(case: PosteriorCase) -> dict[str, np.ndarray]:
    """What laplace-torch computes of the case."""
    classes = case.network.likelihood.name == "categorical"
    X = torch.from_numpy(case.X.reshape(len(case.X), -1))
    Y = torch.from_numpy(case.Y.argmax(1) if classes else case.Y)
    arguments = {
        "likelihood": "classification" if classes else "regression",
        "prior_precision": PRIOR_PRECISION,
        "sigma_noise": case.noise_variance**0.5,
        "backend": CurvlinopsEF if case.options.get("fisher") == "empirical" else CurvlinopsGGN,
    }
    if case.options.get("damping") == "factored":
        la = Damped(model_of(case), damping=True, **arguments)
    else:
        part = "last_layer" if case.options.get("layers") == "last" else "all"
        la = Laplace(model_of(case), subset_of_weights=part, hessian_structure="kron", **arguments)
    la.fit(DataLoader(TensorDataset(X, Y), batch_size=len(X)))
    new = torch.from_numpy(case.X_new.reshape(len(case.X_new), -1))
    z, covariance = la._glm_predictive_distribution(new)
    found = {
        "outputs": z,
        "covariance": covariance,
        "log_likelihood": la.log_likelihood,
        "log_evidence": la.log_marginal_likelihood(),
    }
    if classes:
        found["probit"] = la(new, pred_type="glm", link_approx="probit")
    return {name: np.asarray(value.detach().numpy(), dtype=float) for name, value in found.items()}
