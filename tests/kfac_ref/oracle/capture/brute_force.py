"""The truth of a model of PyTorch's layers by brute force: one case at a time, one location at a time, densely."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kfac_ref.oracle import CapturedCase

CHANNELS_SECOND = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d),
)


class Shifted(nn.Module):
    """A module whose k-th output is shifted by `shifts[k]`, if these are there; keeps what it was given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.shifts, self.seen, self.shapes = inner, None, [], []

    def forward(self, x):
        y = self.inner(x)
        self.seen.append(x.detach().clone())
        self.shapes.append(y.shape)
        return y.clone() if self.shifts is None else y + self.shifts[len(self.seen) - 1]


def rows_by_force(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(T, p) of one case, by other functions than the ones that are tested."""
    if isinstance(module, nn.Embedding):
        eye = torch.eye(module.num_embeddings, dtype=torch.float64)
        if module.padding_idx is not None:
            eye[module.padding_idx] = 0
        return eye[x.flatten()]
    if isinstance(module, nn.Conv2d):
        assert module.groups == 1 and module.padding_mode == "zeros"
        return F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)[0].T
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    if isinstance(module, nn.LayerNorm):
        x = x.reshape(-1, x.shape[-1])
        return (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, correction=0) + module.eps)
    assert isinstance(module, nn.BatchNorm2d)
    x = x.flatten(2)[0].T
    return (x - module.running_mean) / torch.sqrt(module.running_var + module.eps)


def rows_last(module: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """(C, T, d) from (C, 1, *shape of an output)."""
    if isinstance(module, CHANNELS_SECOND):
        return y.flatten(3).transpose(2, 3)[:, 0]
    return y.reshape(len(y), -1, y.shape[-1])


def by_force(model: nn.Module, x: torch.Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
    """a (N, T, p) and g (C, N, T, d) of the module called `name`, case by case, each alone."""
    model = copy.deepcopy(model)
    shifted = Shifted(model.get_submodule(name))
    model.set_submodule(name, shifted)
    a, g = [], []
    for n in range(len(x)):
        shifted.seen, shifted.shapes, shifted.shifts = [], [], None
        model(x[n : n + 1])
        calls = len(shifted.seen)
        a.append(torch.cat([rows_by_force(shifted.inner, given) for given in shifted.seen]))

        def outputs(*shifts, n=n):
            shifted.seen, shifted.shifts = [], shifts
            return model(x[n : n + 1]).flatten()

        zeros = tuple(torch.zeros(shape, dtype=torch.float64) for shape in shifted.shapes[:calls])
        J = torch.autograd.functional.jacobian(outputs, zeros)
        g.append(torch.cat([rows_last(shifted.inner, D.reshape(len(D), 1, *D.shape[2:])) for D in J], 1))
    return torch.stack(a).numpy(), torch.stack(g, 1).numpy()


def jacobians(model: nn.Module, x: torch.Tensor, names: list[str]) -> list[np.ndarray]:
    """dz/dW (N, C, *W), case by case, of the parameters with these names."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(some, case):
        return torch.func.functional_call(model, parameters | some, (case[None],)).flatten()

    some = {name: parameters[name] for name in names}
    each = [torch.func.jacrev(outputs)(some, case) for case in x]
    return [torch.stack([J[name] for J in each]).numpy() for name in names]


def fisher_of_outputs(case: CapturedCase) -> np.ndarray:
    """F_R (N, C, C) in closed form, C outputs of all positions together."""
    likelihood, z = case.likelihood, case.z.reshape(case.cases, case.positions, -1)
    N, R, C = z.shape
    F = np.zeros((N, R, C, R, C))
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True) if likelihood == "categorical" else 1 / (1 + np.exp(-z))
    for n in range(N):
        for r in range(R):
            F[n, r, :, r] = {
                "categorical": np.diag(p[n, r]) - np.outer(p[n, r], p[n, r]),
                "bernoulli": np.diag(p[n, r] * (1 - p[n, r])),
                "gaussian": np.eye(C),
            }[likelihood]
    return F.reshape(N, R * C, R * C)


def factors(model: nn.Module, x: torch.Tensor, name: str, F_R: np.ndarray) -> dict[str, np.ndarray]:
    """Ā and G of each kind."""
    a, g = by_force(model, x, name)
    if getattr(model.get_submodule(name), "bias", None) is not None:
        a = np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2)
    N, T = a.shape[:2]
    found = {
        "A_expand": sum(np.outer(a[n, t], a[n, t]) for n in range(N) for t in range(T)) / (N * T),
        "G_expand": sum(g[:, n, t].T @ F_R[n] @ g[:, n, t] for n in range(N) for t in range(T)) / N,
        "A_reduce": sum(np.outer(a[n].mean(0), a[n].mean(0)) for n in range(N)) / N,
        "G_reduce": sum(g[:, n].sum(1).T @ F_R[n] @ g[:, n].sum(1) for n in range(N)) / N,
    }
    return found | {"Omega": T * found["A_expand"], "Gamma": found["G_expand"] / T}


def block(model: nn.Module, x: torch.Tensor, name: str, F_R: np.ndarray) -> np.ndarray:
    """F_ii, in the order of vec(W), the bias last, which stacks columns."""
    module = model.get_submodule(name)
    biased = getattr(module, "bias", None) is not None
    J = jacobians(model, x, [f"{name}.weight"] + [f"{name}.bias"] * biased)
    normalises = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d))
    weight = J[0][..., None] if normalises else J[0].reshape(*J[0].shape[:3], -1)
    if isinstance(module, nn.Embedding):
        weight = J[0].swapaxes(2, 3)
    W = np.concatenate([weight, *(b[..., None] for b in J[1:])], axis=3)
    vec = W.swapaxes(2, 3).reshape(*W.shape[:2], -1)
    return np.einsum("ncp,ncd,ndq->pq", vec, F_R, vec, optimize=True) / len(x)
