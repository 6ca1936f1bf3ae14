"""Numbers that no known explanation fits: the only right verdict is that nothing does.

What sampling might have made, though it did not (a deviation that is within the span, the size and the spread of what
sampled targets give), may be called so: no check can know better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kfac_ref.oracle.case import Case
from tests.conftest import positive_definite
from tests.kfac_ref.oracle.mutations.damping import damped_case, named
from tests.kfac_ref.oracle.mutations.dense import sampling_of_fisher
from tests.kfac_ref.oracle.mutations.factors import Arrays, sampling_of
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.preconditioners import amount, gradients, precondition
from tests.kfac_ref.oracle.mutations.situations import SLOPES, Numbers, elsewhere, situation

LEAST_ENTRIES = 6
"""Fewer numbers than this may be explained by a scale and a history alone."""


def off(numbers: Numbers, name: str, x: np.ndarray) -> bool:
    """Whether x is far from every known matrix under the name, scaled and with a multiple of I added."""
    i = int(name.rpartition("_")[2])
    if x.size < LEAST_ENTRIES or not np.linalg.norm(x):
        return False
    if name[0] == "g":
        known = [numbers.gradient(i, 1.0, l2) for l2 in (0.0, 1.0)]
    elif name[0] == "A":
        known = [numbers.A(i), np.eye(len(x))]
        cov = numbers.A(i) - np.outer(numbers.a[i].mean(0), numbers.a[i].mean(0))
        known.append(cov)
    else:
        known = [numbers.G(i), np.eye(len(x)), numbers.G(i, "empirical")]
    pairs = [(a, b) for a in known for b in (known if name[0] != "G" else [known[1]])]
    if name[0] == "g":
        pairs = [(a, a) for a in known]
    for pair in pairs:
        K = np.array([k.ravel() for k in pair]).T
        rest = x.ravel() - K @ np.linalg.lstsq(K, x.ravel(), rcond=None)[0]
        if np.linalg.norm(rest) < 2e-7 * np.linalg.norm(x):
            return False
    return True


def pack(rng, kind: str, what: str, case: Case, wrong: Arrays, right: Arrays) -> Iterator[Mutation]:
    """A mutation of those wrong arrays that are far from all that is known, among right ones."""
    numbers = Numbers(case)
    kept = {k: x for k, x in wrong.items() if off(numbers, k, x)}
    if not kept:
        return
    laws = {k: sampling_of(numbers, int(k[2:])) for k in kept if k[0] == "G"}
    expected = {k: Expected("no-match" if k in kept else "claim") for k in right}
    yield Mutation(kind, what, case, right | kept, expected, sampling=laws)


def true_factors(numbers: Numbers) -> Arrays:
    theirs = {f"A_{i}": numbers.A(i) for i in range(numbers.layers)}
    return theirs | {f"G_{i}": numbers.G(i) for i in range(1, numbers.layers + 1)}


def noise(rng) -> Iterator[Mutation]:
    case = situation(rng, min_d=3, min_C=3, min_N=2)
    numbers = Numbers(case)
    layers = range(1, numbers.layers + 1)
    right = true_factors(numbers) | {f"gradient_{i}": numbers.gradient(i) for i in layers}
    for size in (1e-2, 1e-4, 1e-6):
        for symmetric in (False, True):
            wrong = {}
            for k, x in right.items():
                E = rng.standard_normal(x.shape)
                E = (E + E.T) / 2**0.5 if symmetric and k[0] != "g" else E
                wrong[k] = x * (1 + size * E)
            yield from pack(rng, "noise", f"{size:g} relative{', symmetric' if symmetric else ''}", case, wrong, right)
    wrong = {}
    for i in layers:
        # of the size of one sample's deviation, but isotropic
        law = sampling_of(numbers, i)[0]
        E = rng.standard_normal(law.mean.shape)
        size = np.sqrt(np.mean(np.sum(law.draws**2, 1))) / rng.choice([1, 3, 10])
        wrong[f"G_{i}"] = law.mean + size * (E + E.T) / np.linalg.norm(E + E.T)
    yield from pack(rng, "noise", "isotropic, of the size of sampling's", case, wrong, right)


def other(rng) -> Iterator[Mutation]:
    """Matrices of something else."""
    case = situation(rng, min_d=3, min_C=3, min_N=3)
    numbers = Numbers(case)
    right, layers = true_factors(numbers), range(1, case.network.layers + 1)
    plans: dict[str, Arrays] = {"random": {k: positive_definite(rng, len(x)) for k, x in right.items()}}
    for what in ("network", "inputs"):
        elsewhere_ = Numbers(elsewhere(rng, case, what))
        plans[f"another {what}"] = {k: x for k, x in true_factors(elsewhere_).items() if not np.allclose(x, right[k])}
    plans["activities of the pre-activations"] = {
        f"A_{i}": pre.T @ pre / numbers.N
        for i in range(1, numbers.layers)
        for pre in [np.concatenate([numbers.s[i - 1], np.ones((numbers.N, 1))], 1)]
        if numbers.network.activations[i - 1].name != "identity"
    }
    C = numbers.C
    uniform = {"categorical": np.eye(C)[:, None, :], "bernoulli": np.array([np.zeros(C), np.ones(C)])[:, None, :]}
    if numbers.name in uniform:
        targets = np.broadcast_to(uniform[numbers.name], (len(uniform[numbers.name]), numbers.N, C))
        plans["uniform labels"] = {f"G_{i}": numbers.G(i, "uniform", targets) for i in layers}
    plans["absolute values"] = {k: np.abs(x) for k, x in right.items() if np.min(x) < -1e-3 * np.max(x)}
    plans["KFRA"] = {k: x for k, x in kfra(numbers).items() if not np.allclose(x, right[k])}
    wrong_slopes = {
        "tanh": lambda s: 1 - s**2,
        "relu": np.ones_like,
        "logistic": lambda s: SLOPES["logistic"](s) ** 0.5,
        "identity": np.ones_like,
    }
    buggy = Numbers(case, slopes=wrong_slopes)
    plans["a wrong derivative of the activation"] = {
        f"G_{i}": buggy.G(i) for i in layers if not np.allclose(buggy.G(i), numbers.G(i))
    }
    for what, wrong in plans.items():
        yield from pack(rng, "other", what, case, wrong, right)


def kfra(numbers: Numbers) -> Arrays:
    """G_{i,i} by KFRA's recursion (Botev et al., 2017), which takes expectations of every factor apart."""
    G = numbers.G(numbers.layers)
    result = {f"G_{numbers.layers}": G}
    for i in range(numbers.layers - 1, 0, -1):
        slope = SLOPES[numbers.network.activations[i - 1].name](numbers.s[i - 1])
        W = numbers.W[i][:, :-1]
        G = (W.T @ G @ W) * (slope.T @ slope / numbers.N)
        result[f"G_{i}"] = G
    return result


def slip(rng) -> Iterator[Mutation]:
    """The right matrix, but for a slip."""
    case = situation(rng, min_d=3, min_C=3, min_N=3)
    numbers = Numbers(case)
    layers = range(1, case.network.layers + 1)
    right = true_factors(numbers) | {f"gradient_{i}": numbers.gradient(i) for i in layers}
    entry, rows, units = {}, {}, {}
    for k, x in right.items():
        # the bias, last, stays where it is
        p, q = int(rng.integers(x.shape[0])), int(rng.integers(x.shape[1]))
        size = 10.0 ** -rng.integers(1, 6)
        entry[k] = x.copy()
        entry[k][p, q if k[0] == "g" else p] += size * np.linalg.norm(x)
        if k[0] != "g":
            swap = np.arange(len(x))
            swap[[0, 1]] = 1, 0
            rows[k], units[k] = x[swap], x[np.ix_(swap, swap)]
    plans = {"one entry changed": entry, "two rows exchanged": rows, "two units exchanged": units}
    if numbers.layers > 1 and case.network.sizes[0] == case.network.sizes[1]:
        plans["a cross-moment"] = {"A_0": numbers.a[0].T @ numbers.a[1] / numbers.N}
    for what, wrong in plans.items():
        yield from pack(rng, "slip", what, case, wrong, right)
    i = int(rng.integers(1, numbers.layers + 1))
    turned = right | {f"gradient_{i}": -right[f"gradient_{i}"]}
    expected = {k: Expected("either" if k == f"gradient_{i}" else "claim") for k in turned}
    yield Mutation("slip", "one layer's gradient turned round", case, turned, expected)
    centred = right | {"A_0": numbers.A(0) - np.outer(numbers.a[0].mean(0), numbers.a[0].mean(0))}
    expected = {k: Expected("no-match" if k == "A_0" else "claim") for k in centred}
    yield Mutation("slip", "a centred covariance", case, centred, expected)


def preconditioned(rng) -> Iterator[Mutation]:
    """Preconditioned by something else: another λ, another network, noise, another layer's factors."""
    case = damped_case(rng, min_d=3, min_C=3, min_N=5)
    numbers = Numbers(case)
    g = gradients(numbers)
    right = precondition(numbers, g, "traces", case.gamma_used)
    product = precondition(numbers, g, "product", amount(numbers, "lambda+eta"))
    network = Numbers(elsewhere(rng, case, "network"))
    plans = {
        "random": [rng.standard_normal(u.shape) for u in right],
        "of another network": precondition(network, gradients(network), "traces", case.gamma_used),
        "1 % noise": [u * (1 + 1e-2 * rng.standard_normal(u.shape)) for u in right],
        "1e-4 noise": [u * (1 + 1e-4 * rng.standard_normal(u.shape)) for u in right],
        "1e-6 noise": [u * (1 + 1e-6 * rng.standard_normal(u.shape)) for u in product],
        "G's inverse applied once more": [_again(numbers.G(i), u) for i, u in enumerate(right, start=1)],
    }
    for what, U in plans.items():
        theirs = {k: u for k, u in named(U).items() if u.size >= 2 * LEAST_ENTRIES and np.all(np.isfinite(u))}
        if theirs:
            yield Mutation("preconditioned-impostor", what, case, theirs, {k: Expected("no-match") for k in theirs})


def _again(G: np.ndarray, U: np.ndarray) -> np.ndarray:
    """(G + 0.04 I)⁻¹ U; nan where G is a multiple of I, where it would be a scale."""
    if np.allclose(G, G[0, 0] * np.eye(len(G))):
        return np.full_like(U, np.nan)
    return np.linalg.solve(G + 0.04 * np.eye(len(G)), U)


def blocks(rng) -> Iterator[Mutation]:
    case = situation(rng, min_d=2, max_d=4, min_N=3, layers=int(rng.integers(1, 4)))
    numbers = Numbers(case)
    right = {f"block_{i}": numbers.fisher(i=i) for i in range(1, numbers.layers + 1)} | {"fisher": numbers.fisher()}
    away = replace(case, X=rng.standard_normal(np.shape(case.X)))
    plans = {
        "noise 1e-4": {k: x * (1 + 1e-4 * rng.standard_normal(x.shape)) for k, x in right.items()},
        "noise 1e-6": {k: x * (1 + 1e-6 * rng.standard_normal(x.shape)) for k, x in right.items()},
        "random": {k: positive_definite(rng, len(x)) for k, x in right.items()},
        "absolute values": {k: np.abs(x) for k, x in right.items() if np.min(x) < -1e-3 * np.max(x)},
        "other inputs": {f"block_{i}": Numbers(away).fisher(i=i) for i in range(1, numbers.layers + 1)},
    }
    for what, wrong in plans.items():
        if wrong:
            laws = {k: [sampling_of_fisher(numbers, int(k[-1]) if k != "fisher" else None)] for k in wrong}
            expected = {k: Expected("no-match") for k in wrong}
            yield Mutation("blocks-impostor", what, case, wrong, expected, sampling=laws)
