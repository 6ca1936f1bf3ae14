"""The Fisher F = E[𝒟θ 𝒟θᵀ] = E_x[Jᵀ F_R J], targets from the model's own distribution (§2, App. C).

Products and forms are by passes alone; the dense matrix and its blocks are for small networks. θ is [vec W_1; …; vec
W_ℓ], vec stacks columns, and all are means over cases, weighted where the forward pass has weights. With the data's
targets in place of the model's the matrix is the *empirical* Fisher, another one, and is had by the argument or the
name that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autodiff import arrays
from autodiff.arrays import Array, namespace
from autodiff.network import Parameters
from autodiff.passes import ENTRIES, Activities, ForwardPass
from kfac_ref.curvature import cotangents, kronecker
from kfac_ref.curvature.cotangents import Cotangents

# --- products and forms, never a matrix (App. C) ---------------------------------------------------------------------


def quadratic_forms(forward_pass: ForwardPass, directions: Sequence[Parameters], cases: int | None = None) -> Array:
    """uᵀFv for all pairs of r directions, by forward-mode passes alone (App. C).

    F is the mean over the first `cases` cases of the batch (default: all). (r, r), float64, on the device.
    """
    cases = forward_pass.cases if cases is None else cases
    likelihood = forward_pass.network.likelihood
    like = directions[0][0]
    xp, r = namespace(like), len(directions)
    total = xp.zeros((r, r), dtype=xp.float64, device=arrays.device(like))
    for rows, activities in forward_pass.chunks(cases):
        J = forward_pass.forward_mode(activities, directions)
        left = xp.reshape(J, (r, -1))
        curved = forward_pass.weighted(rows, likelihood.fisher_product(activities.z, J))
        right = xp.reshape(curved, (r, -1))
        total = total + xp.astype(left @ right.T, xp.float64)
    return total / forward_pass.total(cases, xp.float64)


def product(forward_pass: ForwardPass, v: Parameters, cases: int | None = None) -> Parameters:
    """Fv = E_x[Jᵀ F_R (Jv)] by one forward-mode and one backward pass, mean over the first `cases` cases (App. C)."""
    cases = forward_pass.cases if cases is None else cases
    return [V[0, :, :] for V in _products(forward_pass, [v], cases, None)]


def operator(forward_pass: ForwardPass, damping: float = 0.0, targets: Array | None = None) -> Any:
    """F + `damping` I as a LinearOperator (P, P) on vectors in the order of θ: SciPy's on NumPy, CuPy's on CuPy (§2.2).

    Parameters
    ----------
    forward_pass : ForwardPass
        The batch.
    damping : float
        λ+η, or 0 for F itself.
    targets : (N, d_ℓ), optional
        The data's targets: the operator is then the empirical Fisher's.

    Raises
    ------
    ValueError, TypeError
        Where the targets do not fit the batch; TypeError for an array library without a LinearOperator.
    """
    network = forward_pass.network
    if targets is not None:
        network.check_batch(forward_pass.X, targets, forward_pass.X)
    size = sum(p * q for p, q in network.shapes)
    return arrays.symmetric_operator(
        size, lambda V: matmat(forward_pass, V, targets) + damping * V, forward_pass.parameters[0]
    )


def matmat(forward_pass: ForwardPass, V: Array, targets: Array | None = None) -> Array:
    """FV (P, k) for V (P, k), its columns in the order of θ; as many as memory allows go through the passes together
    (§2.2, App. C).

    With the data's `targets` (N, d_ℓ) it is the empirical Fisher's product.
    """
    xp, shapes, step = namespace(V), forward_pass.network.shapes, forward_pass.together
    parts = []
    for start in range(0, V.shape[1], step):
        columns = range(start, min(start + step, V.shape[1]))
        directions = [kronecker.unflatten(V[:, c], shapes) for c in columns]
        products = _products(forward_pass, directions, forward_pass.cases, targets)
        parts.append(xp.concat([xp.reshape(xp.permute_dims(w, (2, 1, 0)), (-1, len(columns))) for w in products]))
    return xp.concat(parts, axis=1) if parts else V


def _products(
    forward_pass: ForwardPass, directions: Sequence[Parameters], cases: int, targets: Array | None
) -> list[Array]:
    """FV for r directions: for each layer (r, d_i, d_{i−1}+1)."""
    likelihood, divisor = forward_pass.network.likelihood, forward_pass.total(cases)
    total: list[Array] = []
    for rows, activities in forward_pass.chunks(cases):
        z, Jv = activities.z, forward_pass.forward_mode(activities, directions)
        if targets is None:
            curved = likelihood.fisher_product(z, Jv)
        else:  # 𝒟z 𝒟zᵀ of the data's targets in place of F_R
            Dz = likelihood.derivative(z, targets[rows, :])
            curved = Dz * namespace(z).vecdot(Dz, Jv)[..., None]
        pulled = forward_pass.pull_back(activities, forward_pass.weighted(rows, curved))
        parts = [part / divisor for part in pulled]
        total = [t + part for t, part in zip(total, parts, strict=True)] if total else parts
    return total


# --- dense, for small networks ---------------------------------------------------------------------------------------


def dense(forward_pass: ForwardPass) -> Array:
    """F as one matrix (P, P) (§2.2). Its size is left to the caller: P² numbers, and work of N P²/2."""
    return _dense(forward_pass, cotangents.exact(forward_pass))


def dense_empirical(forward_pass: ForwardPass, Y: Array) -> Array:
    """The empirical Fisher as one matrix (P, P), with the data's targets Y (N, d_ℓ) (§5, footnote)."""
    return _dense(forward_pass, cotangents.empirical(forward_pass, Y))


def block(forward_pass: ForwardPass, i: int, j: int, targets: Array | None = None) -> Array:
    """F_{i,j} = E[ā_{i−1}ā_{j−1}ᵀ ⊗ g_i g_jᵀ] alone, from ā and g (§3).

    Layers i, j = 1 … ℓ. (d_i (d_{i−1}+1), d_j (d_{j−1}+1)). With the data's `targets` (N, d_ℓ) it is the empirical
    Fisher's. ValueError if there is no such layer.
    """
    require_layers(forward_pass, i, j)
    if targets is None:
        return _blocks(forward_pass, cotangents.exact(forward_pass), [(i, j)])[i, j]
    return _blocks(forward_pass, cotangents.empirical(forward_pass, targets), [(i, j)])[i, j]


def require_layers(forward_pass: ForwardPass, *layers: int) -> None:
    """ValueError unless these are layers of the network, counted from 1."""
    network = forward_pass.network
    for i in layers:
        if not 1 <= i <= network.layers:
            raise ValueError(f"there is no layer {i}: the layers of the network {network} are 1 … {network.layers}")


def _dense(forward_pass: ForwardPass, Dz: Cotangents) -> Array:
    layers = range(1, forward_pass.network.layers + 1)
    blocks = _blocks(forward_pass, Dz, [(i, j) for i in layers for j in layers if i <= j])
    concat = namespace(forward_pass.X).concat
    return concat([concat([blocks[i, j] if i <= j else blocks[j, i].T for j in layers], axis=1) for i in layers])


def _blocks(
    forward_pass: ForwardPass, Dz: Cotangents, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Array]:
    network = forward_pass.network
    by_moments = [pair for pair in pairs if all(map(network.has_one_row, pair))]
    others = [pair for pair in pairs if pair not in by_moments]
    found = _blocks_by_moments(forward_pass, Dz, by_moments) if by_moments else {}
    return found | (_blocks_by_derivatives(forward_pass, Dz, others) if others else {})


def _blocks_by_moments(
    forward_pass: ForwardPass, Dz: Cotangents, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Array]:
    """From E[g gᵀ | x] of each case: for layers whose 𝒟W is g āᵀ."""
    xp, shapes = namespace(forward_pass.X), forward_pass.network.shapes
    sums: dict[tuple[int, int], Array] = {}
    for _, activities, moments in case_moments(forward_pass, Dz, pairs):
        for (i, j), gg in moments.items():
            a, b = activities.rows(i), activities.rows(j)
            aa = xp.reshape(a[:, :, None] * b[:, None, :], (a.shape[0], -1))
            part = aa.T @ xp.reshape(gg, (a.shape[0], -1)) / forward_pass.total()
            sums[i, j] = sums[i, j] + part if (i, j) in sums else part
    # entries [a, b, g, h] of ā_{i−1}, ā_{j−1}, g_i, g_j, put where A⊗G has them
    return {
        (i, j): kronecker.as_block(xp.reshape(total, (shapes[i - 1][1], shapes[j - 1][1], shapes[i - 1][0], -1)))
        for (i, j), total in sums.items()
    }


def _blocks_by_derivatives(
    forward_pass: ForwardPass, Dz: Cotangents, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Array]:
    """From vec(𝒟W) of each case and cotangent: for layers whose 𝒟W is a sum over locations, or has no rows."""
    shapes = forward_pass.network.shapes
    wanted = sorted({i for pair in pairs for i in pair})
    forward_pass = forward_pass.limited(ENTRIES // max(d * p for d, p in (shapes[i - 1] for i in wanted)))
    sums: dict[tuple[int, int], Array] = {}
    for rows, activities in forward_pass.chunks():
        for piece in Dz(rows, activities.z):
            g = forward_pass.backward(activities, piece)
            for r in range(piece.shape[0]):
                one = [g_i[r, ...] for g_i in g]
                D = {i: forward_pass.case_gradients(activities, one, i) for i in wanted}
                for i, j in pairs:
                    part = D[i].T @ D[j] / forward_pass.total()
                    sums[i, j] = sums[i, j] + part if (i, j) in sums else part
    return sums


def case_moments(
    forward_pass: ForwardPass, Dz: Cotangents, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[slice, Activities, dict[tuple[int, int], Array]]]:
    """E[g_i g_jᵀ | x] of each case times its weight, (m, d_i, d_j), for pairs of layers (i, j), with these cases' rows
    and activities (§3).

    The layers have one row for each case. The cases come in chunks small enough for their products ā_{i−1} ⊗ ā_{j−1}
    and g_i ⊗ g_j.
    """
    shapes = forward_pass.network.shapes
    largest = max(max(shapes[i - 1][k] * shapes[j - 1][k] for k in (0, 1)) for i, j in pairs)
    forward_pass = forward_pass.limited(ENTRIES // largest)
    permute = namespace(forward_pass.X).permute_dims
    for rows, activities in forward_pass.chunks():
        moments: dict[tuple[int, int], Array] = {}
        for piece in Dz(rows, activities.z):
            g = forward_pass.backward(activities, piece)
            for i, j in pairs:
                part = permute(g[i - 1], (1, 2, 0)) @ permute(g[j - 1], (1, 0, 2))
                moments[i, j] = moments[i, j] + part if (i, j) in moments else part
        yield rows, activities, moments


# --- Monte Carlo -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo estimate, entry by entry: both arrays have the shape of what is estimated."""

    value: Array
    standard_error: Array
    """That of `value`: the sample variance, over the draws of y for each case, divided by their number. x is taken as
    given. It says little where a rare y decides the matter and was not drawn."""


def monte_carlo(forward_pass: ForwardPass, samples: int, key: Sequence[int], V: Array | None = None) -> Estimate:
    """F (P, P), or FV for V (P, k), from `samples` ≥ 2 targets for each case, drawn from the model (§2.2). ValueError
    for fewer.

    The key is that of `arrays`' random numbers; the draws do not depend on the chunks.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2, or there is no standard error; got {samples}")
    xp, shapes = namespace(forward_pass.X), forward_pass.network.shapes
    P = sum(p * q for p, q in shapes)
    k = P if V is None else V.shape[1]
    forward_pass = forward_pass.limited(ENTRIES // (P * k))
    cases = min(forward_pass.cases, forward_pass.chunk_size)
    Dz, step = cotangents.sampled(forward_pass, samples, key), max(ENTRIES // (P * cases), 1)
    mean: Array = 0.0
    variance: Array = 0.0
    for rows, activities in forward_pass.chunks():
        first: Array = 0.0  # Σ over the draws of 𝒟θ 𝒟θᵀ, per case
        second: Array = 0.0  # Σ over draws and cases of its entries squared
        for piece in Dz(rows, activities.z):
            draws = piece.shape[0]
            for start in range(0, draws, step):
                g = forward_pass.backward(activities, piece[start : min(start + step, draws), ...])
                D = _derivatives(forward_pass, activities, g)
                DV = D if V is None else D @ V
                first = first + xp.matrix_transpose(D) @ DV
                second = second + xp.reshape(D**2, (-1, P)).T @ xp.reshape(DV**2, (-1, k))
        mean = mean + xp.sum(first, axis=0) / samples / forward_pass.total()
        variance = variance + (second - xp.sum(first**2, axis=0) / samples) / (samples - 1)
    return Estimate(mean, xp.sqrt(arrays.positive_part(variance) / samples) / forward_pass.total())


def _derivatives(forward_pass: ForwardPass, activities: Activities, g: Sequence[Array]) -> Array:
    """𝒟θ of every case and draw, (m, r, P), from the g_i of r draws."""
    xp = namespace(activities.z)
    layers = range(1, forward_pass.network.layers + 1)
    D = xp.concat([forward_pass.case_gradients(activities, g, i) for i in layers], axis=-1)
    return xp.permute_dims(D, (1, 0, 2))
