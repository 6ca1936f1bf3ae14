"""Preconditioned gradients as other implementations compute them, dense; and which of them a verdict's words name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import numpy as np

from tests.dense import dense_tridiagonal_inverse, flatten, unflatten
from tests.kfac_ref.oracle.mutations.situations import Numbers

EACH = r"each factor|both factors|on the factors|factors|factored"
AMOUNTS = {
    "gamma": r"gamma|sqrt ?\(?(lambda|lam)",
    "lambda": r"lambda|lam\b|gamma\^2",
    "lambda+eta": r"lambda|lam\b|gamma\^2|damping",
    "sqrt(lambda)": r"sqrt ?\(?(lambda|lam)",
    "sqrt(lambda+eta)": r"sqrt ?\(?(lambda|lam)|gamma",
}
STRUCTURES = {
    "traces": r"\bpi\b|tikhonov|trace",
    "frobenius": r"frobenius",
    "plain": EACH,
    "none": r"none|no damping|undamped|without damping|not damped",
    "product": r"product|kron|exact",
    "ekfac": r"ekfac|eigen",
    "dense": r"dense|natural|full fisher|exact fisher|whole fisher|\bf \+",
    "tridiagonal": r"tridiagonal",
}
"""What a verdict's words must say of each way to damp."""


FACTORED = ("traces", "frobenius", "plain", "none", "product")


def amount(numbers: Numbers, which: str) -> float | None:
    case = numbers.case
    lam = case.lam if case.lam is not None else None
    both = None if case.damping_used is None else case.damping_used
    return {
        "gamma": case.gamma_used,
        "lambda": lam,
        "lambda+eta": both,
        "sqrt(lambda)": None if lam is None else lam**0.5,
        "sqrt(lambda+eta)": None if both is None else both**0.5,
    }[which]


def precondition(
    numbers: Numbers,
    gradient: list[np.ndarray],
    structure: str,
    damping: float = 0.0,
    fisher: str = "exact",
    factor_scales: tuple[float, float] = (1.0, 1.0),
    separate: bool = False,
) -> list[np.ndarray]:
    """Each layer's preconditioned gradient, in the dtype of `numbers`.

    `separate`: weights and bias have blocks of their own, Ā without the ones ⊗ G, and 1 ⊗ G.
    """
    if structure == "dense":
        F = numbers.fisher(fisher)
        return unflatten(_solve(F, damping) @ flatten(gradient).astype(F.dtype), numbers.network)
    if structure == "tridiagonal":
        a, g = _blocks(numbers)
        u = dense_tridiagonal_inverse(a, g, damping) @ flatten(gradient)
        return unflatten(u.astype(numbers.dtype), numbers.network)
    result = []
    for i, V in enumerate(gradient, start=1):
        A = numbers.dtype(factor_scales[0]) * (numbers.own[f"A_{i - 1}"] if fisher == "own" else numbers.A(i - 1))
        G = numbers.dtype(factor_scales[1]) * (numbers.own[f"G_{i}"] if fisher == "own" else numbers.G(i, fisher))
        if structure == "ekfac":
            K = np.kron(np.linalg.eigh(A)[1], np.linalg.eigh(G)[1])
            corrected = np.diag(K.T @ numbers.fisher(fisher, i) @ K).reshape(V.shape, order="F")
            result.append(_in_eigenbasis(A, G, V, damping, corrected))
        elif separate:
            weights = _block(A[:-1, :-1], G, V[:, :-1], structure, damping)
            result.append(np.concatenate([weights, _block(A[-1:, -1:], G, V[:, -1:], structure, damping)], 1))
        else:
            result.append(_block(A, G, V, structure, damping))
    return result


def _block(A, G, V, structure: str, damping: float) -> np.ndarray:
    if structure == "product":
        return _in_eigenbasis(A, G, V, damping)
    p = 1.0
    if structure == "traces":
        p = np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
    elif structure == "frobenius":
        p = np.sqrt(np.linalg.norm(A) / len(A) ** 0.5 / (np.linalg.norm(G) / len(G) ** 0.5))
    return _solve(G, damping / p) @ V @ _solve(A, p * damping)


def _in_eigenbasis(A, G, V, damping: float, diagonal: np.ndarray | None = None) -> np.ndarray:
    """(A⊗G + λI)⁻¹ vec V, or with another diagonal in the eigenbasis than the products of eigenvalues."""
    a, U = np.linalg.eigh(A)
    g, T = np.linalg.eigh(G)
    s = np.outer(g, a) if diagonal is None else diagonal
    s = s + s.dtype.type(damping)
    s = np.where(np.abs(s) < 1e-10 * np.max(np.abs(s)), np.inf, s)  # a pseudo-inverse where there is no damping
    return T @ ((T.T @ V @ U) / s) @ U.T


def _blocks(numbers: Numbers):
    """Ā_{i,j} and G_{i,j} as `tests.dense` takes them."""
    A, G, layers = {}, {}, numbers.layers
    for i, j in product(range(layers), repeat=2):
        A[i, j] = numbers.a[i].T @ numbers.a[j] / numbers.N
        G[i + 1, j + 1] = np.einsum("ncd,nce,nef->df", numbers.D[i], numbers.F_R, numbers.D[j]) / numbers.N
    return A, G


def gradients(numbers: Numbers, scale: float = 1.0, l2: float = 1.0) -> list[np.ndarray]:
    return [numbers.gradient(i, scale, l2) for i in range(1, numbers.layers + 1)]


def canonical(numbers: Numbers) -> list[np.ndarray]:
    """F̆⁻¹∇h or, where the case says so, F̂⁻¹∇h with γ and π by traces."""
    if not hasattr(numbers, "_canonical"):
        structure = "tridiagonal" if numbers.case.inverse == "block-tridiagonal" else "traces"
        numbers._canonical = precondition(numbers, gradients(numbers), structure, numbers.case.gamma_used)
    return numbers._canonical


def matching(
    numbers: Numbers,
    text: str,
    i: int,
    fisher: str | None,
    scale: float,
    bias: str | None,
    values: list[float] | None = None,
) -> Iterator[np.ndarray]:
    """Layer i's preconditioned gradients that a claim's words may mean, for every gradient and factors' scale; with
    `values`, those with this damping, on the product or on each factor."""
    fishers = [fisher] if fisher in ("exact", "empirical", "identity") else ["exact", "empirical"]
    N = float(numbers.N)
    factor_scales = [(1.0, 1.0)] + ([(N, N), (N, 1.0), (1.0, N), (1.0, 1 / N), (1.0, 1 / N**2)] if N > 1 else [])
    l2s = [1.0, 0.0, 1 / N, 1 / scale] if numbers.eta and scale else [1.0]
    if "own factors" in text and "G_1" in numbers.own and "A_0" in numbers.own:
        fishers = ["own"]
    for l2, f, scales in product(l2s, fishers, factor_scales):
        g = gradients(numbers, 1.0, l2)
        if values is not None:
            A, G = scales[0] * numbers.A(i - 1), scales[1] * numbers.G(i, "exact" if f == "own" else f)
            if len(values) == 1:
                yield _in_eigenbasis(A, G, g[i - 1], values[0])
            elif len(values) == 2:
                yield _solve(G, values[1]) @ g[i - 1] @ _solve(A, values[0])
            continue
        for structure, damping in _named(numbers, text):
            if structure not in FACTORED and (scales != (1.0, 1.0) or f == "own"):
                continue
            for separate in (False, True) if structure in FACTORED and bias in ("separate", "absent") else (False,):
                yield precondition(numbers, g, structure, damping, f, scales, separate)[i - 1]


def _named(numbers: Numbers, text: str) -> Iterator[tuple[str, float]]:
    """Every structure and amount that a claim's words name."""
    none = re.search(STRUCTURES["none"], text)
    for structure, words in STRUCTURES.items():
        if not re.search(words, text):
            continue
        if none:
            yield structure, 0.0
        for which, named in AMOUNTS.items() if structure != "none" else ():
            damping = amount(numbers, which)
            if damping is not None and re.search(named, text):
                yield structure, damping


def _solve(M: np.ndarray, damping: float) -> np.ndarray:
    """(M + damping I)⁻¹, where it is singular its pseudo-inverse."""
    damped = M + M.dtype.type(damping) * np.eye(len(M), dtype=M.dtype)
    if damping == 0 and np.linalg.cond(M) > 1e10:
        return np.linalg.pinv(M, rcond=1e-10, hermitian=True)
    return np.linalg.inv(damped)
