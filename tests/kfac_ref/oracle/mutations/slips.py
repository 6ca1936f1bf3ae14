"""Slips of hooks: a factor, gradient or block of vectors from another place, in another order of mean and product, of
other cases; each with one convention more."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations.factors import Arrays, dtype_of, finish
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.mutations.slip_words import activity, derivatives_at, with_ones


def networks(rng):
    """Cases of different depths, equal widths among them."""
    plans = [
        {"sizes": [5, 5, 5, 4], "N": 23}, {"sizes": [4, 6, 3], "N": 40}, {"sizes": [3, 5, 4, 4, 3], "N": 13},
        {"sizes": [6, 6, 6], "N": 100}, {"sizes": [7, 4, 6, 3], "N": 7}, {"sizes": [4, 4, 4, 4, 4], "N": 60},
    ]  # fmt: skip
    hidden = [["tanh"], ["relu"], ["logistic"], ["tanh", "relu", "logistic"]][rng.integers(4)]
    return situation(rng, hidden=hidden, lam=0.2, **plans[rng.integers(len(plans))])


def conventions(rng, theirs: Arrays, N: int, without: str = "") -> Iterator[tuple[str, Arrays]]:
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


def factors(rng) -> Iterator[Mutation]:
    """Slips of place, of order and of cases in A and G."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers, N = Numbers(case, dtype), len(case.X)
    layers = range(1, numbers.layers + 1)
    fisher = str(rng.choice(["exact", "empirical"]))
    A = {f"A_{i - 1}": numbers.a[i - 1][None] for i in layers}
    g = {f"G_{i}": derivatives_at(numbers, i, "", fisher).astype(dtype) for i in layers}
    right = {k: _second(x) for k, x in (A | g).items()}
    m = int(rng.integers(2, N))
    j = int(rng.integers(N))

    def of(rows: Arrays) -> Arrays:
        return {k: _second(x.astype(dtype)) for k, x in rows.items()}

    def mean_first(rows: Arrays) -> Arrays:
        return {k: np.einsum("rp,rq->pq", x.mean(1), x.mean(1)) for k, x in rows.items()}

    def hidden(place: str) -> Arrays:
        return {f"G_{i}": derivatives_at(numbers, i, place, fisher) for i in layers if i < numbers.layers}

    below = {f"A_{i - 1}": with_ones(numbers.s[i - 2])[None] for i in layers if i > 1}
    width = numbers.network.sizes
    alike = [i for i in layers if width[i] == width[i - 1]]
    plans: dict[str, Arrays] = {
        "G behind phi": of(hidden("derivatives by activities")),
        "phi' twice": of(hidden("phi' applied twice")),
        "A of pre-activations": of(below),
        "outer product of the mean derivative": mean_first(g),
        "outer product of the mean activities": mean_first(A),
        "the layer's output": of({f"A_{i - 1}": with_ones(activity(numbers, i))[None] for i in alike}),
        "the neighbour's derivatives": of(
            {f"G_{i}": derivatives_at(numbers, i + 1, "", fisher) for i in layers[:-1] if width[i] == width[i + 1]}
        ),
        "the first case": of({k: x[:, :1] for k, x in (A | g).items()}),
        "the last mini-batch": of({k: x[:, -(N % m or m) :] for k, x in (A | g).items()}),
        "the remainder dropped": of({k: x[:, : N - N % m] for k, x in (A | g).items()}) if N % m else {},
        "a case twice": of({k: np.concatenate([x, x[:, j : j + 1]], 1) for k, x in (A | g).items()}),
        "the square": {k: x @ x for k, x in right.items() if len(x) > 1},
        "the diagonal": {k: np.diag(np.diag(x)) for k, x in right.items() if len(x) > 1},
    }
    for what in rng.choice(list(plans), 5, replace=False):
        wrong = {k: x for k, x in plans[what].items() if not np.allclose(x, right[k], rtol=0, atol=1e-12)}
        if not wrong:
            continue
        for more, theirs in conventions(rng, right | wrong, N, "bias missing" if what == "the square" else ""):
            theirs = finish(rng, theirs, rounded)
            expected = {k: Expected("claim" if len(x) > 2 else "either") for k, x in theirs.items()}
            yield Mutation("slips", f"{what}, {fisher}; {more}", case, theirs, expected)


def gradients(rng) -> Iterator[Mutation]:
    """The same of gradients, with one convention more."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers, N = Numbers(case, dtype), len(case.X)
    layers = range(1, numbers.layers + 1)
    g = {i: numbers.g(i, numbers.Y) for i in layers}
    a = {i: numbers.a[i - 1] for i in layers}
    m, j, l2 = int(rng.integers(2, N)), int(rng.integers(N)), numbers.dtype(float(rng.choice([0.0, case.eta])))

    def of(left: Arrays, right: Arrays) -> Arrays:
        return {f"gradient_{i}": left[i].T @ right[i] / len(left[i]) + l2 * numbers.W[i - 1] for i in left}

    def cases(take) -> Arrays:
        return of({i: take(g[i]) for i in layers}, {i: take(a[i]) for i in layers})

    hidden = {i: derivatives_at(numbers, i, "derivatives by activities", "empirical")[0] for i in layers[:-1]}
    plans: dict[str, Arrays] = {
        "behind phi": of(hidden, a),
        "phi missing": of(
            {i: g[i] for i in layers if i > 1}, {i: with_ones(numbers.s[i - 2]) for i in layers if i > 1}
        ),
        "mean first": {f"gradient_{i}": np.outer(g[i].mean(0), a[i].mean(0)) + l2 * numbers.W[i - 1] for i in layers},
        "the first case": cases(lambda x: x[:1]),
        "the last mini-batch": cases(lambda x: x[-(N % m or m) :]),
        "the remainder dropped": cases(lambda x: x[: N - N % m]),
        "a case twice": cases(lambda x: np.concatenate([x, x[j : j + 1]])),
    }
    for what in rng.choice(list(plans), 3, replace=False):
        wrong = plans[what]
        theirs = {
            f"gradient_{i}": wrong.get(f"gradient_{i}", numbers.gradient(i, 1.0, l2 / case.eta if case.eta else 0.0))
            for i in layers
        }
        ways = {
            "": theirs,
            "transposed": {k: x.T.copy() for k, x in theirs.items()},
            "bias first": {k: np.roll(x, 1, 1) for k, x in theirs.items()},
            "negative": {k: -x for k, x in theirs.items()},
            "without bias": {k: x[:, :-1] for k, x in theirs.items()},
        }
        for more in ("", str(rng.choice(list(ways)[1:]))):
            sent = finish(rng, ways[more], rounded)
            yield Mutation("gradient-slips", f"{what}; {more}", case, sent, {k: Expected("claim") for k in sent})


def blocks(rng) -> Iterator[Mutation]:
    """The same of dense blocks: of each case's gradient, or Kronecker products."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers, N = Numbers(case, dtype), len(case.X)
    layers = range(1, numbers.layers + 1)
    fisher = str(rng.choice(["exact", "empirical"]))

    def rows(i: int, place: str = "", of: str = fisher) -> np.ndarray:
        g = derivatives_at(numbers, i, place, of)
        return np.einsum("np,rnd->rnpd", numbers.a[i - 1], g).reshape(*g.shape[:2], -1)

    behind = {i: derivatives_at(numbers, i, "derivatives by activities", fisher) for i in layers[:-1]}
    mean = {i: rows(i, of="empirical").mean(1) for i in layers}
    plans = {
        "mean gradient": {i: np.outer(m, m) for i, m in mean.items()},
        "behind phi": {i: _second(rows(i, "derivatives by activities")) for i in layers[:-1]},
        "factors behind phi": {i: np.kron(numbers.A(i - 1), _second(g)) for i, g in behind.items()},
        "the first case": {i: _second(rows(i)[:, :1]) for i in layers},
        "the last mini-batch": {i: _second(rows(i)[:, -(N % 5 or 5) :]) for i in layers},
        "the diagonal": {i: np.diag(np.diag(_second(rows(i)))) for i in layers},
    }
    for what in rng.choice(list(plans), 2, replace=False):
        theirs = finish(rng, {f"block_{i}": np.asarray(x, dtype=dtype) for i, x in plans[what].items()}, rounded)
        yield Mutation("block-slips", f"{what}, {fisher}", case, theirs, {k: Expected("claim") for k in theirs})
