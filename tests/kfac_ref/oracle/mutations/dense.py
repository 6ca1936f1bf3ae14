"""Mutations of what is as long as θ: gradients, dense diagonal blocks and the dense Fisher."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations.factors import LEAST_AXES, Arrays, claims, dtype_of, finish, scales
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.layouts import arranged, orders, theta_order
from tests.kfac_ref.oracle.mutations.sampling import Sampling
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation

WITHOUT = (
    r"without|not incl|exclud|no l_?2|left out|omit|lack|no eta|loss alone|not scaled|unscaled|minus|missing|absent"
)
"""Some words that say that ηθ is not included."""


def gradient(rng) -> Iterator[Mutation]:
    dtype, rounded = dtype_of(rng)
    case = situation(rng, min_d=2)
    numbers = Numbers(case, dtype)
    layers = range(1, numbers.layers + 1)
    name, s = list(scales(numbers).items())[rng.integers(14)]
    N = float(numbers.N)

    def of(scale: float, l2: float) -> Arrays:
        return {f"gradient_{i}": numbers.gradient(i, scale, l2) for i in layers}

    plain = of(1.0, 1.0)
    separate = {f"gradient_weight_{i}": plain[f"gradient_{i}"][:, :-1] for i in layers}
    separate |= {f"gradient_bias_{i}": plain[f"gradient_{i}"][:, -1] for i in layers}
    without = WITHOUT if case.eta * max(np.linalg.norm(W) for W in numbers.W) > 1e-3 else ""
    plans = {
        "as it stands": (plain, ""),
        "summed": (of(N, N), ""),
        "summed, ηθ not": (of(N, 1.0), ""),
        "without ηθ": (of(1.0, 0.0), without),
        "summed without ηθ": (of(N, 0.0), without),
        "sign": (of(-1.0, -1.0), ""),
        f"loss x {name}, no ηθ": (of(s, 0.0), without),
        f"all x {name}": (of(s, s), ""),
        "transposed": ({k: g.T.copy() for k, g in plain.items()}, ""),
        "transposed, summed": ({k: g.T.copy() for k, g in of(N, N).items()}, ""),
        "bias first": ({k: arranged(g, "first") for k, g in plain.items()}, ""),
        "bias first, summed": ({k: arranged(g, "first") for k, g in of(N, N).items()}, ""),
        "bias absent": ({k: arranged(g, "absent") for k, g in plain.items()}, ""),
        "bias separate": (separate, ""),
        f"bias separate x {name}": ({k: g * g.dtype.type(s) for k, g in separate.items()}, ""),
    }
    for what in rng.choice(list(plans), 5, replace=False):
        arrays, words = plans[what]
        theirs = finish(rng, arrays, rounded)
        # where η's part is within rounding, its absence cannot be told
        visible = all(
            np.linalg.norm(case.eta * W) > 1e-2 * np.linalg.norm(numbers.gradient(i, 1.0, 0.0))
            for i, W in zip(layers, numbers.W, strict=True)
        )
        yield Mutation("gradient", str(what), case, theirs, claims(theirs, words=words if visible else ""))


LAYOUTS = {
    "column-major": (("column", "last"), 0),
    "row-major": (("row", "last"), 0),
    "weights row-major, then bias": (("row", "last"), 1),
    "bias first, column-major": (("column", "first"), 0),
    "bias first in each row, row-major": (("row", "first"), 0),
    "bias, then weights row-major": (("row", "first"), 1),
    "weights alone, column-major": (("column", "absent"), 0),
    "weights alone, row-major": (("row", "absent"), 0),
}


def _matrices(rng, kind: str, fixed: dict) -> Iterator[Mutation]:
    dtype, rounded = dtype_of(rng)
    case = situation(rng, **fixed)
    numbers = Numbers(case, dtype)
    name, s = list(scales(numbers).items())[rng.integers(14)]
    for _ in range(4):
        label = str(rng.choice(list(LAYOUTS)))
        key, which = LAYOUTS[label]
        fisher = str(rng.choice(["exact", "exact", "empirical"]))
        t = float(rng.choice([1.0, s])) if (label == "column-major") + (fisher == "exact") else 1.0
        reverse = kind == "fisher" and rng.random() < 0.3 and t == 1.0 and "column-major" in label
        theirs = {}
        for i in [None] if kind == "fisher" else range(1, numbers.layers + 1):
            layers = [i] if i else list(range(1, numbers.layers + 1))
            order = theta_order(numbers.network, layers, key, which, reverse)
            F = numbers.fisher(fisher, i)[np.ix_(order, order)]
            theirs[f"block_{i}" if i else "fisher"] = F * F.dtype.type(t)
        theirs = finish(rng, theirs, rounded)
        what = f"{fisher}, {label}{', layers reversed' if reverse else ''}" + (f", x {name}" if t != 1.0 else "")
        yield Mutation(kind, what, case, theirs, claims(theirs))


def block(rng) -> Iterator[Mutation]:
    yield from _matrices(rng, "block", {"max_d": 5, "layers": int(rng.integers(1, 4))})


def fisher(rng) -> Iterator[Mutation]:
    yield from _matrices(rng, "fisher", {"max_d": 4, "layers": int(rng.integers(1, 4))})


def kronecker_block(rng) -> Iterator[Mutation]:
    """A dense block that is K-FAC's Ā⊗G, in some layout; scales of the factors show as one."""
    dtype, rounded = dtype_of(rng)
    case = situation(rng, max_d=4, min_N=3, layers=int(rng.integers(1, 4)))
    numbers = Numbers(case, dtype)
    for fisher, t in (("exact", 1.0), ("empirical", 1.0), ("exact", float(numbers.N)), ("identity", 1.0)):
        key, which = LAYOUTS[str(rng.choice(["column-major", "row-major", "weights row-major, then bias"]))]
        theirs = {}
        for i in range(1, numbers.layers + 1):
            order = orders(*case.network.shapes[i - 1])[key][which]
            block = np.kron(numbers.A(i - 1), numbers.G(i, fisher))[np.ix_(order, order)]
            theirs[f"block_{i}"] = block * block.dtype.type(t)
        theirs = finish(rng, theirs, rounded)
        yield Mutation("kronecker-block", f"{fisher} A kron G, {key}, x {t:g}", case, theirs, claims(theirs))


def sampling_of_fisher(numbers: Numbers, i: int | None) -> Sampling:
    """The law of the sampled Fisher, or of layer i's block of it."""
    return Sampling(numbers.fisher("exact", i), lambda rng: numbers.fisher("sampled", i, numbers.sample(rng, 1)))


def sampled_fisher(rng) -> Iterator[Mutation]:
    """A dense Fisher or block estimated by sampling."""
    case = situation(rng, sizes=[[2, 3], [1, 2, 3], [3, 2, 3]][rng.integers(3)], min_N=13)
    numbers = Numbers(case)
    S = int(rng.choice([1, 5, 20]))
    targets = numbers.sample(rng, S)
    for name, i in (("fisher", None), ("block_1", 1)):
        law = sampling_of_fisher(numbers, i)
        theirs = {name: numbers.fisher("sampled", i, targets)}
        enough = law.principal[0].shape[0] >= LEAST_AXES
        said = Expected("claim" if enough else "either", fisher="monte-carlo", samples=law.range_of_samples(rng, S))
        expected = {name: said}
        yield Mutation("sampled-fisher", f"{name}, S = {S}", case, theirs, expected, sampling={name: [law]})
