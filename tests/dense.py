"""The straight-line NumPy mathematics that the tests compare with: case by case, dense, in float64."""

from __future__ import annotations

import numpy as np

from autodiff import Affine, Network

# --- θ as one vector -----------------------------------------------------------------------------------------------


def flatten(matrices) -> np.ndarray:
    """[vec W_1; …; vec W_ℓ]; vec stacks columns."""
    return np.concatenate([np.asarray(W).flatten(order="F") for W in matrices])


def unflatten(theta: np.ndarray, network: Network) -> list[np.ndarray]:
    ends = np.cumsum([p * q for p, q in network.shapes])
    parts = np.split(theta, ends[:-1])
    return [part.reshape(shape, order="F") for part, shape in zip(parts, network.shapes, strict=True)]


# --- one case at a time --------------------------------------------------------------------------------------------

PHI = {
    "tanh": (np.tanh, lambda s: 1 / np.cosh(s) ** 2),
    "logistic": (lambda s: 1 / (1 + np.exp(-s)), lambda s: np.exp(-s) / (1 + np.exp(-s)) ** 2),
    "relu": (lambda s: np.maximum(s, 0), lambda s: np.where(s > 0, 1.0, 0.0)),
    "softplus": (lambda s: np.logaddexp(0, s), lambda s: 1 / (1 + np.exp(-s))),
    "identity": (lambda s: s, lambda s: np.ones_like(s)),
}


def phi_of(activation, s):
    """φ(s) of one case, and the matrix dφ/ds."""
    if isinstance(activation, Affine):
        a, slope = phi_of(activation.base, activation.Phi @ s)
        return activation.Omega @ a + activation.omega, activation.Omega @ slope @ activation.Phi
    value, slope = PHI[activation.name]
    return value(s), np.diag(slope(s))


def case_forward(network: Network, W, x):
    """ā_0 … ā_{ℓ−1}, dφ_i/ds_i for i = 1 … ℓ−1, and z, for one case."""
    a, slopes = [np.append(x, 1.0)], []
    for i in range(network.layers - 1):
        value, slope = phi_of(network.activations[i], W[i] @ a[i])
        a.append(np.append(value, 1.0))
        slopes.append(slope)
    return a, slopes, W[-1] @ a[-1]


def case_jacobians(network: Network, W, x):
    """dz/ds_i, (d_ℓ, d_i), i = 1 … ℓ."""
    _, slopes, z = case_forward(network, W, x)
    D = [np.eye(len(z))]
    for i in range(network.layers - 1, 0, -1):
        D.insert(0, D[0] @ W[i][:, :-1] @ slopes[i - 1])
    return D


def case_J(network: Network, W, x) -> np.ndarray:
    """dz/dθ of one case, (d_ℓ, P): its k-th row is [ā_{i−1} ⊗ dz_k/ds_i for each i]."""
    a, _, _ = case_forward(network, W, x)
    D = case_jacobians(network, W, x)
    return np.array([np.concatenate([np.kron(a[i], D[i][k]) for i in range(network.layers)]) for k in range(len(D[0]))])


def case_loss(name: str, z, y) -> float:
    """L(y, z) without constants."""
    if name == "categorical":
        return float(-np.sum(y * (z - np.log(np.sum(np.exp(z))))))
    if name == "bernoulli":
        return float(np.sum(np.log(1 + np.exp(z)) - y * z))
    return float(0.5 * np.sum((y - z) ** 2))


def case_mean(name: str, z) -> np.ndarray:
    """E[y|z]."""
    if name == "categorical":
        return np.exp(z) / np.sum(np.exp(z))
    return 1 / (1 + np.exp(-z)) if name == "bernoulli" else z


def case_F_R(name: str, z) -> np.ndarray:
    """The dense F_R."""
    p = case_mean(name, z)
    if name == "categorical":
        return np.diag(p) - np.outer(p, p)
    # not 1 − p, which has no digits left where p is nearly 1
    return np.diag(p / (1 + np.exp(z))) if name == "bernoulli" else np.eye(len(z))


def case_derivative(network: Network, W, x, y) -> np.ndarray:
    """𝒟θ of one case with the target y, (P,)."""
    return case_J(network, W, x).T @ (case_mean(network.likelihood.name, case_forward(network, W, x)[2]) - y)


def dense_h(network: Network, W, X, Y, eta: float) -> float:
    """h(θ) without constants."""
    losses = [case_loss(network.likelihood.name, case_forward(network, W, x)[2], y) for x, y in zip(X, Y, strict=True)]
    return float(np.mean(losses) + 0.5 * eta * np.sum(flatten(W) ** 2))


def dense_gradient(network: Network, W, X, Y, eta: float) -> np.ndarray:
    """∇h as one vector."""
    return np.mean([case_derivative(network, W, x, y) for x, y in zip(X, Y, strict=True)], axis=0) + eta * flatten(W)


def dense_fisher(network: Network, W, X) -> np.ndarray:
    """F = mean of JᵀF_RJ, (P, P)."""
    total = 0.0
    for x in X:
        J = case_J(network, W, x)
        total = total + J.T @ case_F_R(network.likelihood.name, case_forward(network, W, x)[2]) @ J
    return total / len(X)


def dense_empirical(network: Network, W, X, Y) -> np.ndarray:
    """The empirical Fisher: mean of the outer products of each case's derivative with the data's target, (P, P)."""
    derivatives = [case_derivative(network, W, x, y) for x, y in zip(X, Y, strict=True)]
    return np.mean([np.outer(D, D) for D in derivatives], axis=0)


def case_outcomes(name: str, z) -> list[tuple[float, np.ndarray]]:
    """(probability, y) for all targets; for the Gaussian d pairs z ± √d e_c, whose first three moments are the same."""
    p, d = case_mean(name, z), len(z)
    if name == "categorical":
        return list(zip(p, np.eye(d), strict=True))
    if name == "bernoulli":
        ys = [np.array([b >> i & 1 for i in range(d)], dtype=float) for b in range(2**d)]
        return [(float(np.prod(np.where(y == 1, p, 1 - p))), y) for y in ys]
    return [(1 / (2 * d), z + sign * np.sqrt(d) * e) for e in np.eye(d) for sign in (1, -1)]


def dense_exact_G(network: Network, W, X) -> dict[tuple[int, int], np.ndarray]:
    """G_{i,j} for all pairs, the expectation over y exact: the mean of Dᵢᵀ F_R Dⱼ, Dᵢ = dz/ds_i."""
    G, layers = {}, range(network.layers)
    for x in X:
        D, F_R = case_jacobians(network, W, x), case_F_R(network.likelihood.name, case_forward(network, W, x)[2])
        for i in layers:
            for j in layers:
                G[i + 1, j + 1] = G.get((i + 1, j + 1), 0.0) + D[i].T @ F_R @ D[j] / len(X)
    return G


def dense_factors(network: Network, W, X, sampled):
    """Every block Ā_{i,j} and G_{i,j} (all pairs), by outer products of one case after the other."""
    A, G, layers = {}, {}, network.layers
    for x, y in zip(X, sampled, strict=True):
        a, _, z = case_forward(network, W, x)
        g = [D.T @ (case_mean(network.likelihood.name, z) - y) for D in case_jacobians(network, W, x)]
        for i in range(layers):
            for j in range(layers):
                A[i, j] = A.get((i, j), 0.0) + np.outer(a[i], a[j]) / len(X)
                G[i + 1, j + 1] = G.get((i + 1, j + 1), 0.0) + np.outer(g[i], g[j]) / len(X)
    return A, G


# --- dense F̃, F̆⁻¹ and F̂⁻¹ ----------------------------------------------------------------------------------------


def dense_pi(A: np.ndarray, G: np.ndarray) -> float:
    return float(np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G))))


def damped_blocks(A, G, gamma: float):
    """The same blocks, those on the diagonal damped by factored Tikhonov."""
    A, G = dict(A), dict(G)
    for i in range(1, max(i for i, _ in G) + 1):
        p = dense_pi(A[i - 1, i - 1], G[i, i])
        A[i - 1, i - 1] = A[i - 1, i - 1] + p * gamma * np.eye(len(A[i - 1, i - 1]))
        G[i, i] = G[i, i] + gamma / p * np.eye(len(G[i, i]))
    return A, G


def kronecker_block(A, G, i: int, j: int) -> np.ndarray:
    """F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j}; blocks below the diagonal are transposes."""
    return np.kron(A[i - 1, j - 1], G[i, j]) if i <= j else np.kron(A[j - 1, i - 1], G[j, i]).T


def assemble(blocks, layers: int) -> np.ndarray:
    """One matrix of blocks (i, j), i, j = 1 … ℓ; those not given are 0."""
    sizes = [blocks[i, i].shape[0] for i in range(1, layers + 1)]
    zero = {(i, j): np.zeros((sizes[i - 1], sizes[j - 1])) for i in range(1, layers + 1) for j in range(1, layers + 1)}
    zero.update(blocks)
    return np.block([[zero[i, j] for j in range(1, layers + 1)] for i in range(1, layers + 1)])


def split(matrix: np.ndarray, sizes) -> dict[tuple[int, int], np.ndarray]:
    """The blocks (i, j), i, j = 1 … ℓ of a matrix, of these sizes."""
    ends = np.cumsum(sizes)[:-1]
    rows = [np.split(row, ends, axis=1) for row in np.split(matrix, ends, axis=0)]
    return {(i + 1, j + 1): rows[i][j] for i in range(len(sizes)) for j in range(len(sizes))}


def dense_diagonal_inverse(A, G, gamma: float) -> np.ndarray:
    """F̆⁻¹ as one matrix."""
    A, G = damped_blocks(A, G, gamma)
    layers = max(i for i, _ in G)
    return np.linalg.inv(assemble({(i, i): kronecker_block(A, G, i, i) for i in range(1, layers + 1)}, layers))


def dense_tridiagonal_inverse(A, G, gamma: float) -> np.ndarray:
    """F̂⁻¹ = Ξᵀ Λ Ξ as one matrix, by dense Ψ and Σ alone."""
    A, G = damped_blocks(A, G, gamma)
    layers = max(i for i, _ in G)
    F = {(i, j): kronecker_block(A, G, i, j) for i in range(1, layers + 1) for j in (i, i + 1) if j <= layers}
    Xi = {(i, i): np.eye(len(F[i, i])) for i in range(1, layers + 1)}
    Lambda = {(layers, layers): np.linalg.inv(F[layers, layers])}
    for i in range(1, layers):
        Psi = F[i, i + 1] @ np.linalg.inv(F[i + 1, i + 1])
        Lambda[i, i] = np.linalg.inv(F[i, i] - Psi @ F[i + 1, i + 1] @ Psi.T)
        Xi[i, i + 1] = -Psi
    Xi, Lambda = assemble(Xi, layers), assemble(Lambda, layers)
    return Xi.T @ Lambda @ Xi


def dense_kronecker(A, G) -> np.ndarray:
    """F̃ as one matrix, from the blocks of Ā and G for all pairs."""
    layers = max(i for i, _ in G)
    pairs = [(i, j) for i in range(1, layers + 1) for j in range(1, layers + 1)]
    return assemble({(i, j): kronecker_block(A, G, i, j) for i, j in pairs}, layers)
