"""What a verdict's words about a slip of place, order or cases mean, rebuilt."""

from __future__ import annotations

import re

import numpy as np

from tests.kfac_ref.oracle.mutations.layouts import arranged
from tests.kfac_ref.oracle.mutations.situations import SLOPES, Numbers


def activity(numbers: Numbers, j: int) -> np.ndarray:
    """a_j, (N, d_j): the outputs for the last layer."""
    return numbers.a[j][:, :-1] if j < numbers.layers else numbers.z


def with_ones(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1), x.dtype)], 1)


def behind(numbers: Numbers, j: int) -> np.ndarray:
    """dz/da_j, (N, C, d_j)."""
    return numbers.D[j] @ numbers.W[j][:, :-1] if j < numbers.layers else numbers.D[j - 1]


def slope(numbers: Numbers, i: int) -> np.ndarray:
    return SLOPES[numbers.network.activations[i - 1].name](numbers.s[i - 1])


def activities_at(numbers: Numbers, layer: int, place: str) -> np.ndarray:
    """The rows in the place of ā_{i−1} that a verdict says, (N, p)."""
    below, above = layer - 1, layer
    if not place:
        return numbers.a[below]
    if place.startswith("pre-activations in place of activities"):
        return with_ones(numbers.s[below - 1])
    if place.startswith("the layer's output in place of its input, before phi"):
        return with_ones(numbers.s[layer - 1])
    if place.startswith("the layer's output in place of its input"):
        return with_ones(activity(numbers, above))
    if place.startswith("the input of the layer below"):
        return numbers.a[below - 1]
    raise ValueError(place)


def jacobian_at(numbers: Numbers, layer: int, place: str) -> np.ndarray:
    """The derivatives of the outputs at the place that a verdict says, (N, C, d)."""
    if place.startswith("derivatives by activities"):
        return behind(numbers, layer)
    if place.startswith("phi' applied twice"):
        return numbers.D[layer - 1] * slope(numbers, layer)[:, None, :]
    if place.startswith("the derivatives of the layer below"):
        return numbers.D[layer - 2]
    if place.startswith("the derivatives of the layer above"):
        return numbers.D[layer]
    if place.startswith("derivatives by the layer's input"):
        return numbers.D[layer - 1] @ numbers.W[layer - 1][:, :-1]
    return numbers.D[layer - 1]


def derivatives_at(numbers: Numbers, layer: int, place: str, fisher: str | None) -> np.ndarray:
    """Rows in the place of g_i that a verdict says, (R, N, d)."""
    J = jacobian_at(numbers, layer, place)
    if "in place of derivatives" in place:
        pre = "pre-activations" in place
        return (numbers.s[layer - 1] if pre else activity(numbers, layer))[None]
    if "not of the loss" in place:
        return J.sum(1)[None] if "sum of the outputs" in place else J.transpose(1, 0, 2)
    if fisher == "exact":
        p = numbers.mean
        if numbers.name == "categorical":  # each class as target, times the root of its probability
            root = np.stack([np.diag(q**0.5) - np.outer(q, q**0.5) for q in p])
        else:
            root = np.stack([np.diag(f) for f in (p * (1 - p) if numbers.name == "bernoulli" else p**0) ** 0.5])
        return np.einsum("ncr,ncd->rnd", root, J)
    targets = numbers.case.sampled if fisher == "monte-carlo" else numbers.Y
    return np.einsum("nc,ncd->nd", numbers.mean - targets, J)[None]


def weights_of(text: str, N: int) -> np.ndarray:
    """How often each case counts, their sum being 1, by a verdict's words."""
    w, k = np.zeros(N), [int(x) for x in re.findall(r"\d+", text)]
    if text.startswith("the first case alone"):
        w[0] = 1
    elif text.startswith("the last case alone"):
        w[-1] = 1
    elif m := re.match(r"the first (\d+) cases alone", text):
        w[: int(m[1])] = 1
    elif m := re.match(r"the last (\d+) cases alone", text):
        w[-int(m[1]) :] = 1
    elif m := re.match(r"case (\d+) alone", text):
        w[int(m[1]) - 1] = 1
    elif m := re.match(r"cases (\d+) to (\d+) alone", text):
        w[int(m[1]) - 1 : int(m[2])] = 1
    elif m := re.match(r"case (\d+) left out", text):
        w[:] = 1
        w[k[0] - 1] = 0
    elif m := re.match(r"case (\d+) counted twice", text):
        w[:] = 1
        w[k[0] - 1] = 2
    elif m := re.match(r"the (first|last) (\d+) cases counted twice", text):
        w[:] = 1
        w[: k[0]] += m[1] == "first"
        w[N - k[0] :] += m[1] == "last"
    elif m := re.match(r"the last case counted (\d+) times", text):
        w[:] = 1
        w[-1] = k[0]
    elif m := re.match(r"every (\d+)th case alone, from case (\d+) on", text):
        w[k[1] - 1 :: k[0]] = 1
    elif m := re.match(r"mean of the means of mini-batches of (\d+)", text):
        for start in range(0, N, k[0]):
            size = min(k[0], N - start)
            w[start : start + size] = 1 / size
    else:
        raise ValueError(text)
    return w / w.sum()


def moment(left: np.ndarray, right: np.ndarray, claim: dict) -> np.ndarray:
    """What a verdict says of rows (R, N, ·): their product, in its order, over its cases."""
    N = left.shape[1]
    w = weights_of(claim.get("cases") or "", N) if claim.get("cases") else np.full(N, 1 / N)
    order = claim.get("order") or ""
    mean = sum(np.outer(w @ x, w @ y) for x, y in zip(left, right, strict=True))
    M = sum((x * w[:, None]).T @ y for x, y in zip(left, right, strict=True))
    if "divided by the number of all" in " ".join(claim.get("notes") or []):
        counted = w.sum() / np.min(w[w > 0])
        M = M * counted / N
    if order.startswith("outer product of the mean"):
        return mean
    if order.startswith("centred"):
        return M - mean
    if order.startswith("its matrix square root"):
        s, V = np.linalg.eigh(M)
        return V @ np.diag(np.sqrt(np.maximum(s, 0))) @ V.T
    if order.startswith("its square"):
        return M @ M
    if order.startswith("its diagonal"):
        return np.diag(np.diag(M))
    if order.startswith("its upper triangle"):
        return np.triu(M)
    if order.startswith("its lower triangle"):
        return np.tril(M)
    if order.startswith("the square of each"):
        return M**2
    if order.startswith("the root of each"):
        return np.sqrt(M)
    if order.startswith("its Cholesky"):
        L = np.linalg.cholesky(M)
        return L if "lower" in order else L.T
    assert order in ("", "its inverse"), order
    return M


def is_slip(claim: dict) -> bool:
    return any(claim.get(k) for k in ("place", "order", "cases"))


def factor_claimed(numbers: Numbers, name: str, layer: int, claim: dict) -> np.ndarray:
    """The factor that a verdict on an A or G means, without its scale."""
    place = claim.get("place") or ""
    if name.startswith("A"):
        x = arranged(activities_at(numbers, layer, place), claim.get("bias"))[None]
    else:
        x = derivatives_at(numbers, layer, place, claim.get("fisher"))
    return moment(x, x, claim)


def decayed(numbers: Numbers, layer: int, text: str) -> list[np.ndarray]:
    """c W_i, where a verdict says that it was added, of the biases too or not."""
    W = numbers.W[layer - 1]
    if not (m := re.search(r"([-\d.e+]+)\*theta(, not of biases,)? added", text)):
        return []
    return [float(m[1]) * (np.concatenate([W[:, :-1], 0 * W[:, -1:]], 1) if m[2] else W)]


def gradients_claimed(numbers: Numbers, layer: int, claim: dict) -> list[np.ndarray]:
    """The gradients that a verdict with a slip may mean, without its scale."""
    place = claim.get("place") or ""
    left, right = numbers.g(layer, numbers.Y), numbers.a[layer - 1]
    if place.startswith(("derivatives", "the derivatives", "phi'", "targets")):
        fisher = "monte-carlo" if "targets sampled" in place else "empirical"
        left = derivatives_at(numbers, layer, place, fisher)[0]
    elif place:
        right = activities_at(numbers, layer, place)
    M = moment(left[None], right[None], claim)
    if M.shape != numbers.W[layer - 1].shape:
        return [M]
    l2 = 0.0 if "left out" in " ".join(claim.get("notes") or []) else float(numbers.eta)
    return [M + l2 * numbers.W[layer - 1]]


def blocks_claimed(numbers: Numbers, layers: list[int], claim: dict) -> list[np.ndarray]:
    """The dense blocks that a verdict with a slip may mean, without its scale, in the project's order."""
    place, fisher, parts = claim.get("place") or "", claim.get("fisher") or "exact", []
    for i in layers:
        a = activities_at(numbers, i, place[3:] if place.startswith("A: ") else "")
        g = derivatives_at(numbers, i, place[3:] if place.startswith("G: ") else "", fisher)
        parts.append(np.stack([[np.kron(a[n], r[n]) for n in range(len(a))] for r in g]))
        if "Kronecker" in (claim.get("matrix") or ""):
            return [np.kron(moment(a[None], a[None], {}), moment(g, g, {}))]
    rows = np.concatenate(parts, axis=2)
    return [moment(rows, rows, claim)]
