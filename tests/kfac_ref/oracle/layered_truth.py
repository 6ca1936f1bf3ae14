"""The truth of a case with other layers, or of captured ones, by sums and by complex steps, one case at a time."""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

from kfac_ref.oracle import CapturedCase, CapturedLayer, Case
from tests.kfac_ref.oracle import shared_numbers
from tests.kfac_ref.oracle.dense_truth import per_layer, trace_pi
from tests.naive_layers import Naive, jacobian

Arrays = dict[str, np.ndarray]
NAMES = {"expand": ("A_expand", "G_expand"), "reduce": ("A_reduce", "G_reduce"), "kfc": ("Omega", "Gamma")}


def layered_truth(case: Case | CapturedCase) -> Arrays:
    """By the names of the format."""
    network = case.network
    captured = case if isinstance(case, CapturedCase) else captured_naively(case)
    layers = range(1, network.layers + 1)
    W = case.parameters
    out: Arrays = {"h": np.asarray(loss(captured) + 0.5 * case.eta * sum(np.sum(w**2) for w in W))}
    out["z"] = captured.z.reshape(case.cases, *network.output)
    gradients = [shared_numbers.gradient(captured, i) + case.eta * w for i, w in zip(layers, W, strict=True)]
    per_layer(out, "gradient", gradients)
    per_layer(out, "fisher_block", [shared_numbers.block(captured, i) for i in layers])
    kronecker = [i for i in layers if captured.layers[i - 1].kind == "rows"]
    kinds = {"": "exact", "_empirical": "empirical"} | ({"_sampled": "sampled"} if case.sampled is not None else {})
    for i in kronecker:
        for sharing, (A, G) in NAMES.items():
            for suffix, fisher in kinds.items():
                out[f"{A}_{i}"], out[f"{G}{suffix}_{i}"] = shared_numbers.factors(captured, i, sharing, fisher)
        out[f"pi_{i}"] = np.asarray(trace_pi(out[f"A_expand_{i}"], out[f"G_expand_{i}"]))
    inverses = [damped_inverse(out, i, case.gamma_used) for i in layers]
    per_layer(out, "block_diagonal", [unvec(F @ vec(v), v.shape) for F, v in zip(inverses, gradients, strict=True)])
    if isinstance(case, Case):
        whole(out, case, captured, gradients, block_diag(*inverses))
    return out


def vec(W: np.ndarray) -> np.ndarray:
    return W.ravel(order="F")


def unvec(w: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return w.reshape(shape, order="F")


def captured_naively(case: Case) -> CapturedCase:
    """Rows by going through the layers, derivatives by adding a little to each pre-activation."""
    description, W = case.network.description()["network"], case.parameters
    z, rows, g = [], [], []
    for x in case.X:
        run = Naive(W)
        z.append(run.through(description, x))
        still = [np.zeros(s.shape) for s in run.s]

        def outputs(*shift: np.ndarray, x: np.ndarray = x) -> np.ndarray:
            return Naive(W, shift).through(description, x).ravel()

        rows.append(run.rows)
        g.append([jacobian(outputs, still, i) for i in range(len(W))])
    layers = []
    for i, layer in enumerate(case.network.weighted):
        a, derivatives = np.stack([r[i] for r in rows]), np.stack([x[i] for x in g], axis=1)
        if layer.kind in ("layer-norm", "batch-norm"):
            layers.append(CapturedLayer(a, derivatives, kind="normalisation"))
        else:
            layers.append(CapturedLayer(a[..., : a.shape[2] - layer.bias], derivatives, layer.bias))
    shape = (case.cases, *case.network.output)
    return CapturedCase(
        case.network.likelihood.name,
        np.reshape(z, shape),
        case.Y.reshape(shape),
        layers,
        sampled=None if case.sampled is None else case.sampled.reshape(shape),
    )


def loss(case: CapturedCase) -> float:
    """Mean over cases of −log r(y|z), positions summed."""
    z, y = (x.reshape(case.cases, case.positions, -1) for x in (case.z, case.Y))
    if case.likelihood == "categorical":
        each = y * (np.log(np.exp(z).sum(-1, keepdims=True)) - z)
    elif case.likelihood == "bernoulli":
        each = np.log(1 + np.exp(z)) - y * z
    else:
        each = 0.5 * (y - z) ** 2 + 0.5 * np.log(2 * np.pi)
    return float(each.sum() / case.cases)


def damped_inverse(out: Arrays, i: int, gamma: float) -> np.ndarray:
    """F̆⁻¹ of layer i, dense: factored Tikhonov damping where there are factors, else γ² on the block."""
    if f"pi_{i}" not in out:
        F = out[f"fisher_block_{i}"]
        return np.linalg.inv(F + gamma**2 * np.eye(len(F)))
    A, G, pi = out[f"A_expand_{i}"], out[f"G_expand_{i}"], out[f"pi_{i}"]
    return np.linalg.inv(np.kron(A + pi * gamma * np.eye(len(A)), G + gamma / pi * np.eye(len(G))))


def whole(out: Arrays, case: Case, captured: CapturedCase, gradients: list[np.ndarray], inverse: np.ndarray) -> None:
    """What takes the whole network. No two neighbours have one row for each case, so that F̂ is F̆."""
    J = [np.hstack([shared_numbers.jacobian(captured, i, n) for i in range(1, case.network.layers + 1)])
         for n in range(case.cases)]  # fmt: skip
    for name, fisher in (("fisher", "exact"), ("fisher_empirical", "empirical")):
        F_R = shared_numbers.output_fishers(captured, fisher)
        out[name] = sum(j.T @ f @ j for j, f in zip(J, F_R, strict=True)) / case.cases
    F, damping = out["fisher"], case.damping_used
    v, h = np.concatenate([vec(w) for w in case.V]), np.concatenate([vec(g) for g in gradients])
    ends = np.cumsum([w.size for w in case.V])[:-1]
    parts = zip(np.split(F @ v, ends), case.V, strict=True)
    per_layer(out, "fisher_vector", [unvec(u, w.shape) for u, w in parts])
    S = np.stack([-inverse @ h, v], axis=1)
    B = S.T @ (F + damping * np.eye(len(F))) @ S
    alpha, mu = np.linalg.solve(B, -S.T @ h)
    step = S @ np.array([alpha, mu])
    change = 0.5 * step @ F @ step + 0.5 * damping * step @ step + h @ step
    for suffix in ("", "_block_tridiagonal"):
        out |= {f"alpha{suffix}": np.asarray(alpha), f"mu{suffix}": np.asarray(mu)}
        out[f"model_change{suffix}"] = np.asarray(change)
    per_layer(out, "block_tridiagonal", [out[f"block_diagonal_{i}"] for i in range(1, case.network.layers + 1)])
