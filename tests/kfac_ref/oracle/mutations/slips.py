"""Slips of hooks: a factor, gradient or block of vectors from another place, in another order of mean and product, of
other cases; each with one convention more."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations.factors import Arrays, dtype_of, finish
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.mutations.slip_words import activity, derivatives_at, with_ones

NETWORKS = (
    {"sizes": [5, 5, 5, 4], "N": 23, "likelihood": "categorical", "hidden": ["tanh"]},
    {"sizes": [4, 6, 3], "N": 40, "likelihood": "gaussian", "hidden": ["relu"]},
    {"sizes": [3, 5, 4, 4, 3], "N": 13, "likelihood": "bernoulli", "hidden": ["logistic"]},
    {"sizes": [6, 6, 6], "N": 100, "likelihood": "categorical", "hidden": ["logistic"]},
    {"sizes": [7, 4, 6, 3], "N": 7, "likelihood": "gaussian", "hidden": ["tanh", "relu"]},
    {"sizes": [4, 4, 4, 4, 4], "N": 60, "likelihood": "bernoulli", "hidden": ["relu"]},
    {"sizes": [8, 10, 5], "N": 64, "likelihood": "bernoulli", "hidden": ["tanh"]},
    {"sizes": [6, 5, 5, 3], "N": 32, "likelihood": "gaussian", "hidden": ["tanh"]},
)
"""Of different depths, equal widths among them, each likelihood and activation, few cases and many."""


def networks(rng):
    """A case of one of them, with any likelihood and activations."""
    hidden = [["tanh"], ["relu"], ["logistic"], ["tanh", "relu", "logistic"]][rng.integers(4)]
    plan = NETWORKS[rng.integers(len(NETWORKS))]
    return situation(rng, hidden=hidden, lam=0.2, sizes=plan["sizes"], N=plan["N"])


def conventions(rng, theirs: Arrays, N: int, without: tuple[str, ...] = ()) -> Iterator[tuple[str, Arrays]]:
    """As it is, and with one wrong convention more."""
    yield "", theirs
    plans = {
        "sums": {k: x * x.dtype.type(N) for k, x in theirs.items()},
        "G / N": {k: x / x.dtype.type(N) if k[0] == "G" else x for k, x in theirs.items()},
        "bias first": {k: np.roll(np.roll(x, 1, 0), 1, 1) if k[0] == "A" else x for k, x in theirs.items()},
        "bias missing": {k: x[:-1, :-1] if k[0] == "A" else x for k, x in theirs.items()},
    }
    what = str(rng.choice([p for p in plans if p not in without]))
    yield what, plans[what]


def _second(x: np.ndarray) -> np.ndarray:
    return np.einsum("rnp,rnq->pq", x, x) / x.dtype.type(x.shape[1])


Plans = dict[str, Arrays]
"""The wrong arrays of each slip, by name."""


def factors_right(numbers: Numbers, fisher: str) -> Arrays:
    """All A and G, as they are to be."""
    return {k: _second(x) for k, x in _factor_rows(numbers, fisher).items()}


def _factor_rows(numbers: Numbers, fisher: str) -> Arrays:
    layers = range(1, numbers.layers + 1)
    rows = {f"A_{i - 1}": numbers.a[i - 1][None] for i in layers}
    return rows | {f"G_{i}": derivatives_at(numbers, i, "", fisher).astype(numbers.dtype) for i in layers}


def factor_plans(rng, numbers: Numbers, fisher: str) -> Plans:
    """Slips of place, of order and of cases in A and G; without those that change nothing."""
    N, layers, width = numbers.N, range(1, numbers.layers + 1), numbers.network.sizes
    rows, right = _factor_rows(numbers, fisher), factors_right(numbers, fisher)
    A, g = ({k: x for k, x in rows.items() if k[0] == side} for side in "AG")
    m, j = int(rng.integers(2, N)), int(rng.integers(N))
    alike = [i for i in layers if width[i] == width[i - 1]]

    def of(rows: Arrays) -> Arrays:
        return {k: _second(x.astype(numbers.dtype)) for k, x in rows.items()}

    def mean_first(rows: Arrays) -> Arrays:
        return {k: np.einsum("rp,rq->pq", x.mean(1), x.mean(1)) for k, x in rows.items()}

    def at(place: str) -> Arrays:
        return of({f"G_{i}": derivatives_at(numbers, i, place, fisher) for i in layers[:-1]})

    def cases(take) -> Arrays:
        return of({k: take(x) for k, x in rows.items()})

    plans: Plans = {
        "G behind phi": at("derivatives by activities"),
        "phi' twice": at("phi' applied twice"),
        "F_R left out": of({f"G_{i}": derivatives_at(numbers, i, "derivatives of the outputs, not of the loss", None)
                            for i in layers}),
        "A of pre-activations": of({f"A_{i - 1}": with_ones(numbers.s[i - 2])[None] for i in layers if i > 1}),
        "mean derivative's product": mean_first(g),
        "mean activities' product": mean_first(A),
        "the layer's output": of({f"A_{i - 1}": with_ones(activity(numbers, i))[None] for i in alike}),
        "the neighbour's G": of(
            {f"G_{i}": derivatives_at(numbers, i + 1, "", fisher) for i in layers[:-1] if width[i] == width[i + 1]}
        ),
        "first case": cases(lambda x: x[:, :1]),
        "last mini-batch": cases(lambda x: x[:, -(N % m or m) :]),
        "half of the cases": cases(lambda x: x[:, N // 2 :]),
        "remainder dropped": cases(lambda x: x[:, : N - N % m]) if N % m else {},
        "a case twice": cases(lambda x: np.concatenate([x, x[:, j : j + 1]], 1)),
        "square": {k: x @ x for k, x in right.items() if len(x) > 1},
        "diagonal": {k: np.diag(np.diag(x)) for k, x in right.items() if len(x) > 1},
    }  # fmt: skip
    found = {}
    for what, arrays in plans.items():
        wrong = {k: x for k, x in arrays.items() if not np.allclose(x, right[k], rtol=0, atol=1e-12)}
        if wrong:
            found[what] = wrong
    return found


def factors(rng) -> Iterator[Mutation]:
    """Slips of factors among right ones, as they are and with one wrong convention more."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers, fisher = Numbers(case, dtype), str(rng.choice(["exact", "empirical"]))
    right, plans = factors_right(numbers, fisher), factor_plans(rng, numbers, fisher)
    for what in rng.choice(list(plans), 5, replace=False):
        without = ("bias missing",) if what == "square" else ()
        for more, theirs in conventions(rng, right | plans[what], numbers.N, without):
            theirs = finish(rng, theirs, rounded)
            expected = {k: Expected("claim" if len(x) > 2 else "either") for k, x in theirs.items()}
            yield Mutation("slips", f"{what}, {fisher}; {more}", case, theirs, expected)


def gradient_plans(rng, numbers: Numbers, l2: float) -> Plans:
    """Slips in the gradients of all layers, l2·θ added."""
    N, layers = numbers.N, range(1, numbers.layers + 1)
    g = {i: numbers.g(i, numbers.Y) for i in layers}
    a = {i: numbers.a[i - 1] for i in layers}
    m, j = int(rng.integers(2, N)), int(rng.integers(N))

    def of(left: dict[int, np.ndarray], right: dict[int, np.ndarray]) -> Arrays:
        products = {i: left[i].T @ right[i] / numbers.dtype(len(left[i])) for i in left}
        return {f"gradient_{i}": M + numbers.dtype(l2) * numbers.W[i - 1] for i, M in products.items()}

    def cases(take) -> Arrays:
        return of({i: take(g[i]) for i in layers}, {i: take(a[i]) for i in layers})

    hidden = {i: derivatives_at(numbers, i, "derivatives by activities", "empirical")[0] for i in layers[:-1]}
    above = {i: g[i] for i in layers[1:]}
    plans = {
        "behind phi": of(hidden, a),
        "phi missing": of(above, {i: with_ones(numbers.s[i - 2]) for i in above}),
        "mean first": of({i: x.mean(0)[None] for i, x in g.items()}, {i: x.mean(0)[None] for i, x in a.items()}),
        "first case": cases(lambda x: x[:1]),
        "last mini-batch": cases(lambda x: x[-(N % m or m) :]),
        "remainder dropped": cases(lambda x: x[: N - N % m]),
        "a case twice": cases(lambda x: np.concatenate([x, x[j : j + 1]])),
    }
    right = {f"gradient_{i}": numbers.gradient(i, 1.0, 0.0) + numbers.dtype(l2) * numbers.W[i - 1] for i in layers}
    return {what: right | wrong for what, wrong in plans.items()}


def gradients(rng) -> Iterator[Mutation]:
    """Slips of gradients, as they are and with one convention more."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    plans = gradient_plans(rng, numbers, float(rng.choice([0.0, case.eta])))
    for what in rng.choice(list(plans), 3, replace=False):
        theirs = plans[what]
        ways = {
            "transposed": {k: x.T.copy() for k, x in theirs.items()},
            "bias first": {k: np.roll(x, 1, 1) for k, x in theirs.items()},
            "negative": {k: -x for k, x in theirs.items()},
            "without bias": {k: x[:, :-1] for k, x in theirs.items()},
        }
        more = str(rng.choice(list(ways)))
        for said, sent in (("", theirs), (more, ways[more])):
            sent = finish(rng, sent, rounded)
            yield Mutation("gradient-slips", f"{what}; {said}", case, sent, {k: Expected("claim") for k in sent})


def block_plans(numbers: Numbers, fisher: str) -> Plans:
    """Slips in the dense blocks of all layers."""
    N, layers = numbers.N, range(1, numbers.layers + 1)

    def rows(i: int, place: str = "", of: str = fisher) -> np.ndarray:
        g = derivatives_at(numbers, i, place, of)
        return np.einsum("np,rnd->rnpd", numbers.a[i - 1], g).reshape(*g.shape[:2], -1)

    behind = {i: derivatives_at(numbers, i, "derivatives by activities", fisher) for i in layers[:-1]}
    mean = {i: rows(i, of="empirical").mean(1)[0] for i in layers}
    plans = {
        "mean gradient's product": {i: np.outer(m, m) for i, m in mean.items()},
        "behind phi": {i: _second(rows(i, "derivatives by activities")) for i in layers[:-1]},
        "factors behind phi": {i: np.kron(numbers.A(i - 1), _second(g)) for i, g in behind.items()},
        "first case": {i: _second(rows(i)[:, :1]) for i in layers},
        "last mini-batch": {i: _second(rows(i)[:, -(N % 5 or 5) :]) for i in layers},
        "diagonal": {i: np.diag(np.diag(_second(rows(i)))) for i in layers},
    }
    return {
        what: {f"block_{i}": np.asarray(x, dtype=numbers.dtype) for i, x in blocks.items()}
        for what, blocks in plans.items()
    }


def blocks(rng) -> Iterator[Mutation]:
    """Slips of dense blocks: of each case's gradient, or Kronecker products."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers, fisher = Numbers(case, dtype), str(rng.choice(["exact", "empirical"]))
    plans = block_plans(numbers, fisher)
    for what in rng.choice(list(plans), 2, replace=False):
        theirs = finish(rng, plans[what], rounded)
        yield Mutation("block-slips", f"{what}, {fisher}", case, theirs, {k: Expected("claim") for k in theirs})
