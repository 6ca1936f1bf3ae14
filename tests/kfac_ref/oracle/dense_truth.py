"""The truth of a case by the tests' own dense mathematics alone, case by case, in float64."""

from __future__ import annotations

import numpy as np

from tests.dense import (
    case_forward,
    dense_diagonal_inverse,
    dense_empirical,
    dense_exact_G,
    dense_factors,
    dense_fisher,
    dense_gradient,
    dense_h,
    dense_tridiagonal_inverse,
    flatten,
    split,
    unflatten,
)


def dense_truth(case) -> dict[str, np.ndarray]:
    """By the names of the format, in NumPy; what needs γ is there if the case has it."""
    network, W, X, Y, name = case.network, case.parameters, case.X, case.Y, case.network.likelihood.name
    layers, out = network.layers, {}
    constant = 0.5 * network.sizes[-1] * np.log(2 * np.pi) if name == "gaussian" else 0.0
    out["h"] = np.asarray(dense_h(network, W, X, Y, case.eta) + constant)
    out["z"] = np.array([case_forward(network, W, x)[2] for x in X])
    gradient = dense_gradient(network, W, X, Y, case.eta)
    per_layer(out, "gradient", unflatten(gradient, network))
    A, G_empirical = dense_factors(network, W, X, Y)
    G = dense_exact_G(network, W, X)
    blocks = {"A": A, "G": G, "G_empirical": G_empirical}
    if case.sampled is not None:
        blocks["G_sampled"] = dense_factors(network, W, X, case.sampled)[1]
    out |= {f"{key}_{i}_{j}": block for key, of in blocks.items() for (i, j), block in of.items()}
    F = dense_fisher(network, W, X)
    out["fisher"], out["fisher_empirical"] = F, dense_empirical(network, W, X, Y)
    sizes = [p * q for p, q in network.shapes]
    per_layer(out, "fisher_block", [split(F, sizes)[i, i] for i in range(1, layers + 1)])
    if case.V is not None:
        per_layer(out, "fisher_vector", unflatten(F @ flatten(case.V), network))
    pi = [float(trace_pi(A[i - 1, i - 1], G[i, i])) for i in range(1, layers + 1)]
    per_layer(out, "pi", [np.asarray(p) for p in pi])
    if case.gamma is not None or case.lam is not None:
        out |= steps(case, A, G, pi, F, gradient)
    return out


def steps(case, A, G, pi, F, gradient) -> dict[str, np.ndarray]:
    """F̆⁻¹∇h and F̂⁻¹∇h, and the best step along each."""
    network, out = case.network, {}
    damping = case.gamma**2 if case.lam is None else case.lam + case.eta
    gamma = np.sqrt(damping) if case.gamma is None else case.gamma
    A, G = dict(A), dict(G)
    for i, p in enumerate(pi, start=1):
        A[i - 1, i - 1] = A[i - 1, i - 1] + p * gamma * np.eye(len(A[i - 1, i - 1]))
        G[i, i] = G[i, i] + gamma / p * np.eye(len(G[i, i]))
    # they are damped already
    inverses = {"block_diagonal": dense_diagonal_inverse, "block_tridiagonal": dense_tridiagonal_inverse}
    for key, invert in inverses.items():
        direction = invert(A, G, 0.0) @ gradient
        per_layer(out, key, unflatten(direction, network))
        S = np.stack([-direction] + ([] if case.V is None else [flatten(case.V)]), axis=1)
        B = S.T @ (F + damping * np.eye(len(F))) @ S
        coefficients = np.linalg.lstsq(B, -S.T @ gradient)[0]
        step = S @ coefficients
        change = 0.5 * step @ F @ step + 0.5 * damping * step @ step + gradient @ step
        values = {"alpha": coefficients[0], "mu": (*coefficients, 0.0)[1], "model_change": change}
        for what, value in values.items():
            if key == case.inverse.replace("-", "_"):
                out[what] = np.asarray(value)
            if key == "block_tridiagonal":
                out[f"{what}_{key}"] = np.asarray(value)
    return out


def trace_pi(A, G) -> float:
    """π by traces; 1 where G is 0, as next to dead units."""
    return np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G))) if np.trace(G) > 0 else 1.0


def per_layer(out, name: str, arrays) -> None:
    out.update({f"{name}_{i}": x for i, x in enumerate(arrays, start=1)})


def difference(ours, theirs) -> float:
    """‖ours − theirs‖ / ‖theirs‖, or ‖ours‖ where theirs is 0."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) or 1.0))
