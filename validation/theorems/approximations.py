"""F̃: Lemma 4, the error of a block split into cumulants, the cases in which it is exact, its factors (§3, §5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np

from autodiff.passes import ForwardPass
from kfac_ref.curvature import cumulants, factors, fisher, kronecker_fisher
from validation.theorems import enumerated
from validation.theorems.comparison import apart, small
from validation.theorems.enumerated import Blocks
from validation.theorems.statement import Deviation, Instance, Space, Statement, worst

# --- Lemma 4 and the cumulants (§3.1) --------------------------------------------------------------------------------


def lemma_4(instance: Instance) -> Deviation:
    """E[u g_i] of random functions u of x, and of the entries of every ā_j and their products, beside E[|u| |g_i|].

    g is the library's, from its own 𝒟z for every target that a case may have.
    """
    forward_pass, rng = instance.forward_pass, instance.rng(3)
    (_, activities), *_ = forward_pass.chunks()
    weights, targets = zip(*(enumerated.outcomes(instance.likelihood, z) for z in activities.z), strict=True)
    derivative = instance.network.likelihood.derivative
    Dz = np.stack([derivative(activities.z, y) for y in np.stack(targets, axis=1)])
    p = np.stack(weights, axis=1) / instance.cases
    abar = np.concatenate(activities.a, axis=1)
    u = np.concatenate([rng.standard_normal((instance.cases, 3)), abar, abar * rng.permuted(abar, axis=1)], axis=1)
    deviations = []
    for g in forward_pass.backward(activities, Dz):
        expectation = np.einsum("rn,nu,rnd->ud", p, u, g)
        deviations.append(small(expectation, np.einsum("rn,nu,rnd->ud", p, np.abs(u), np.abs(g)), 200))
    return worst(*deviations)


def cumulant_identity(instance: Instance) -> Deviation:
    """Every entry of every block: each term by the definition of its cumulant, and their sum, beside E[|ā¹ā²g¹g²|]."""
    drawn, forward_pass = enumerated.distribution(instance), instance.forward_pass
    layers = range(1, instance.network.layers + 1)
    deviations = []
    for i, j in ((i, j) for i in layers for j in layers):
        ours = cumulants.kronecker_error(forward_pass, i, j)
        w, v = drawn.weights, [drawn.a[i - 1], drawn.a[j - 1], drawn.g[i - 1], drawn.g[j - 1]]
        first = _moment(w, v, [0])[:, None, None, None] * _cumulant(w, [v[1], v[2], v[3]])[None]
        second = _moment(w, v, [1])[None, :, None, None] * _cumulant(w, [v[0], v[2], v[3]])[:, None]
        size = float(np.max(_moment(w, [np.abs(x) for x in v], [0, 1, 2, 3])))
        error = _moment(w, v, [0, 1, 2, 3]) - np.multiply.outer(_moment(w, v, [0, 1]), _moment(w, v, [2, 3]))
        pairs = ((ours.fourth, _cumulant(w, v)), (ours.first, first), (ours.second, second), (ours.error, error))
        deviations += [small(term - _as_block(expected), size, 500) for term, expected in pairs]
        deviations.append(small(ours.fourth + ours.first + ours.second - _as_block(error), size, 500))
    return worst(*deviations)


def _partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    for partition in _partitions(items[1:]):
        yield [items[:1], *partition]
        for k, part in enumerate(partition):
            yield [*partition[:k], [items[0], *part], *partition[k + 1 :]]


def _moment(weights: np.ndarray, variables: Sequence[np.ndarray], which: list[int]) -> np.ndarray:
    """E of the products of one entry of each of these variables (n, d): an array with an axis for each."""
    rows = reduce(lambda product, k: product[..., None] * _broadcast(variables[k], product.ndim), which, weights)
    return rows.sum(axis=0)


def _broadcast(variable: np.ndarray, axes: int) -> np.ndarray:
    return variable.reshape(len(variable), *[1] * (axes - 1), -1)


def _cumulant(weights: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
    """κ = Σ over all partitions of (−1)^{b−1} (b−1)! Π over the b parts of their moments, with an axis for each."""
    total, r = np.zeros([v.shape[1] for v in variables]), len(variables)
    for partition in _partitions(list(range(r))):
        term = np.array((-1.0) ** (len(partition) - 1) * math.factorial(len(partition) - 1))
        for part in partition:
            moment = _moment(weights, variables, part)
            term = term * moment.reshape([variables[k].shape[1] if k in part else 1 for k in range(r)])
        total += term
    return total


def _as_block(entries: np.ndarray) -> np.ndarray:
    """[ā¹, ā², g¹, g²] as the block with rows (ā¹, g¹) and columns (ā², g²)."""
    p, q, k, l = entries.shape
    return entries.swapaxes(1, 2).reshape(p * k, q * l)


# --- F̃, and where it is F --------------------------------------------------------------------------------------------


def kronecker_blocks(instance: Instance) -> Deviation:
    """F̃ as a matrix and its products, with numpy.kron of the moments; all Ā and G with those moments."""
    drawn, ours = enumerated.distribution(instance), factors.exact(instance.forward_pass)
    A, G, saturation = drawn.A(), drawn.G(), enumerated.saturation(instance)
    F = enumerated.kronecker_fisher(A, G)
    columns = [enumerated.vec(kronecker_fisher.product(ours, enumerated.unvec(e, instance))) for e in np.eye(len(F))]
    return worst(
        apart(kronecker_fisher.dense(ours), F, 200),
        apart(np.stack(columns, axis=1), F, 200),
        *(apart(ours.A[index], A[index], 200) for index in A),
        *(apart(ours.G[index], G[index], 200, saturation) for index in G),
    )


def exact(instance: Instance) -> Deviation:
    """F̃ from the library's factors with F, by the library and by enumeration."""
    approximation = kronecker_fisher.dense(factors.exact(instance.forward_pass))
    return worst(
        apart(approximation, fisher.dense(instance.forward_pass), 200),
        apart(approximation, enumerated.distribution(instance).fisher, 200),
    )


# --- estimates (§5) --------------------------------------------------------------------------------------------------


def unbiased(instance: Instance) -> Deviation:
    """A backward pass with targets from the model estimates G without bias: the mean over all targets of each case."""
    G = enumerated.distribution(instance).G()
    total = {index: np.zeros_like(g) for index, g in G.items() if index[1] - index[0] in (0, 1)}
    for x in instance.X:
        forward_pass = ForwardPass(instance.network, instance.parameters, x[None, :])
        z = enumerated.forward(instance, instance.parameters, x)[0][-1]
        for p, y in zip(*enumerated.outcomes(instance.likelihood, z), strict=True):
            given = _estimate(forward_pass, y[None, :], 1).G
            for index in total:
                total[index] += p * given[index] / instance.cases
    saturation = enumerated.saturation(instance)
    return worst(*(apart(total[index], G[index], 200, saturation) for index in total))


def running_average(instance: Instance) -> Deviation:
    """ε = min(1 − 1/k, 0.95): the mean of the first 20 estimates, then 0.95 of the average and 0.05 of the new."""
    rng, updates = instance.rng(3), int(instance.rng(4).integers(1, 31))
    running, estimates = None, []
    for k in range(1, updates + 1):
        cases, Y = int(rng.integers(1, instance.cases + 1)), rng.permutation(instance.Y)
        new = _estimate(instance.forward_pass, Y, cases)
        running = factors.running_average(running, new, factors.averaging_weight(k, 0.95))
        estimates.append(enumerated.distribution(instance, Y, cases))
    # the weights of the estimates, oldest first
    first, later = min(updates, 20), max(updates - 20, 0)
    weights = [0.95**later / first] * first + [0.05 * 0.95**k for k in reversed(range(later))]
    assert running is not None
    A, G = (_mean(weights, blocks) for blocks in ([e.A() for e in estimates], [e.G() for e in estimates]))
    condition = enumerated.saturation(instance) / min(e.residual for e in estimates)
    return worst(
        *(apart(a, A[index], 200) for index, a in running.A.items()),
        *(apart(g, G[index], 200, condition) for index, g in running.G.items()),
    )


def _estimate(forward_pass: ForwardPass, targets: np.ndarray, cases: int) -> factors.Factors:
    return factors.estimate(forward_pass, lambda rows, z: targets[rows], cases, tridiagonal=True)


def _mean(weights: Sequence[float], estimates: Sequence[Blocks]) -> Blocks:
    return {index: np.tensordot(weights, [e[index] for e in estimates], 1) for index in estimates[0]}


LINEAR = Space(activations=("identity",), likelihoods=("gaussian",))

STATEMENTS = (
    Statement(
        "lemma-4",
        "§3.1",
        "E[u g_i] = 0 for all u that depend on x alone",
        "random u, all ā_j and products of two, over every y of every case; allowed: 200 ε E[|u| |g_i|]",
        Space(),
        lemma_4,
        60,
    ),
    Statement(
        "cumulants",
        "§3.1",
        "the error of F̃ is κ(ā¹,ā²,g¹,g²) + E[ā¹] κ(ā²,g¹,g²) + E[ā²] κ(ā¹,g¹,g²)",
        "all entries of all blocks, each cumulant by all its partitions; allowed: 500 ε max E[|ā¹ā²g¹g²|]",
        Space(layers=(1, 3), width=(1, 3), cases=(1, 6)),
        cumulant_identity,
        50,
    ),
    Statement(
        "kronecker-blocks",
        "§3",
        "F̃_{i,j} = Ā_{i−1,j−1} ⊗ G_{i,j}",
        "F̃, its products, Ā and G, with numpy.kron of the moments over every y; allowed: 200 ε, for G 200 ε/min φ′",
        Space(),
        kronecker_blocks,
        50,
    ),
    Statement(
        "exact-for-one-case",
        "§3",
        "F̃ = F for a single case",
        "the dense matrices, and F over every y; allowed: 200 ε",
        Space(cases=(1, 1)),
        exact,
        50,
    ),
    Statement(
        "exact-for-linear-networks",
        "§3",
        "F̃ = F for deep linear networks and the Gaussian",
        "the dense matrices, and F over every y; allowed: 200 ε",
        LINEAR,
        exact,
        50,
    ),
    Statement(
        "exact-for-linear-models",
        "§3",
        "F̃ = F for one linear layer and the Gaussian",
        "the dense matrices, and F over every y; allowed: 200 ε",
        Space(layers=(1, 1), likelihoods=("gaussian",)),
        exact,
        40,
    ),
    Statement(
        "sampled-targets-unbiased",
        "§5",
        "targets from the model estimate G without bias",
        "the mean of the estimates over every y, with E[g_i g_jᵀ]; allowed: 200 ε/min φ′",
        Space(width=(1, 3)),
        unbiased,
        40,
    ),
    Statement(
        "running-average",
        "§5",
        "ε = min(1 − 1/k, 0.95) gives the plain mean up to k = 20",
        "up to 30 updates, with the weighted mean of all by outer products; allowed: 200 ε, for G 200 ε/(min φ′ |𝒟z|)",
        Space(),
        running_average,
        40,
    ),
)
