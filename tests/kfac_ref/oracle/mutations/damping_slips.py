"""Slips of damping: π by another convention, a gradient with weight decay added before it is preconditioned, a result
clipped by one number for all layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations.damping import named
from tests.kfac_ref.oracle.mutations.factors import dtype_of, finish
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.preconditioners import _solve, amount, gradients, precondition
from tests.kfac_ref.oracle.mutations.situations import Numbers
from tests.kfac_ref.oracle.mutations.slips import networks


def traces(numbers: Numbers, fisher: str = "exact") -> list[float]:
    """π_i of every layer (§6.3)."""
    pairs = [(numbers.A(i - 1), numbers.G(i, fisher)) for i in range(1, numbers.layers + 1)]
    return [float(np.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))) for A, G in pairs]


def undimensioned(numbers: Numbers, fisher: str = "exact") -> list[float]:
    pairs = [(numbers.A(i - 1), numbers.G(i, fisher)) for i in range(1, numbers.layers + 1)]
    return [float(np.sqrt(np.trace(A) / np.trace(G))) for A, G in pairs]


def pooled(numbers: Numbers) -> float:
    layers = range(1, numbers.layers + 1)
    a = np.mean([np.trace(numbers.A(i - 1)) / len(numbers.A(i - 1)) for i in layers])
    return float(np.sqrt(a / np.mean([np.trace(numbers.G(i)) / len(numbers.G(i)) for i in layers])))


def with_pi(numbers: Numbers, gradient, pi: list[float], gamma: float, fisher: str = "exact") -> list[np.ndarray]:
    """(G + γ/π I)⁻¹ V (Ā + πγ I)⁻¹ with any π."""
    found = []
    for i, (V, p) in enumerate(zip(gradient, pi, strict=True), start=1):
        found.append(_solve(numbers.G(i, fisher), gamma / p) @ V @ _solve(numbers.A(i - 1), p * gamma))
    return found


def _words(*words: str) -> str:
    return "|".join(words)


def pi(rng) -> Iterator[Mutation]:
    """π without the dimensions, squared, the other way round, one for the whole network, clipped."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    p, g, L = traces(numbers), gradients(numbers), numbers.layers
    which = ["sqrt(lambda)", "gamma"][rng.integers(2)]
    gamma = amount(numbers, which)
    plans = {
        "without the dimensions": (undimensioned(numbers), r"without (the )?dimensions"),
        "squared": ([x**2 for x in p], r"pi\^2|squared"),
        "the other way round": ([1 / x for x in p], r"1/pi"),
        "the mean of all": ([float(np.mean(p))] * L, r"one pi"),
        "the geometric mean of all": ([float(np.exp(np.mean(np.log(p))))] * L, r"one pi"),
        "pooled": ([pooled(numbers)] * L, r"one pi"),
        "of the first layer": ([p[0]] * L, r"one pi"),
        "a constant": ([1.7] * L, r"one pi|pi = 1\.7"),
        "clipped": ([float(np.clip(x, 0.8, 1.25)) for x in p], r""),
    }
    for what in rng.choice(list(plans), 4, replace=False):
        values, words = plans[what]
        theirs = finish(rng, named(with_pi(numbers, g, values, gamma)), rounded)
        expected = {k: Expected("claim", words=words) for k in theirs}
        if what == "clipped":
            for i, x in enumerate(p, start=1):
                outside = not 0.8 <= x <= 1.25
                expected[f"preconditioned_{i}"] = Expected("claim", words=r"clipped|pi = " if outside else "")
        yield Mutation("pi", f"{what}, {which}", case, theirs, expected)


def clips(rng) -> Iterator[Mutation]:
    """One number for all layers: a KL clip, a norm clipped or taken over."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    g = gradients(numbers)
    structure, which = [("traces", "gamma"), ("plain", "lambda"), ("product", "lambda"), ("plain", "sqrt(lambda)")][
        rng.integers(4)
    ]
    U = precondition(numbers, g, structure, amount(numbers, which))
    inner = float(sum(np.vdot(u, v) for u, v in zip(U, g, strict=True)))
    size, all_g = (float(np.sqrt(sum(np.vdot(x, x) for x in xs))) for xs in (U, g))
    kappa, lr = float(rng.choice([1e-3, 1e-2])), float(rng.choice([1.0, 0.1, 0.3]))
    flat, F = np.concatenate([u.ravel(order="F") for u in U]), numbers.fisher()
    plans = {
        "KL clip": (np.sqrt(kappa / (lr**2 * inner)), "kl clip"),
        "KL clip by the Fisher": (np.sqrt(2 * kappa / (flat @ F @ flat)), "kl|trust"),
        "norm clipped": (0.1 / size, "norm"),
        "gradient's norm clipped": (0.5 / all_g, "norm"),
        "gradient's norm taken over": (all_g / size, "norm"),
    }
    for what in rng.choice(list(plans), 3, replace=False):
        nu, words = plans[what]
        nu = min(1.0, float(nu))
        theirs = finish(rng, named([u * u.dtype.type(nu) for u in U]), rounded)
        yield Mutation(
            "clip",
            f"{what} {nu:.4g}, kappa {kappa}, lr {lr}; {structure}, {which}",
            case,
            theirs,
            {k: Expected("claim", words=words if nu < 1 else "") for k in theirs},
        )


def decay(rng) -> Iterator[Mutation]:
    """c W added to the gradient before it is preconditioned, of biases too or not; or to the result."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    c = float(rng.choice([5e-4, 1e-2, 0.1, 0.37]))
    c = 0.02 if c == case.eta else c
    W = numbers.W
    W_0 = [np.concatenate([w[:, :-1], 0 * w[:, -1:]], 1) for w in W]
    structure, which = [("traces", "gamma"), ("plain", "lambda"), ("product", "lambda"), ("plain", "sqrt(lambda)")][
        rng.integers(4)
    ]
    N = float(numbers.N)
    value = amount(numbers, which)
    for what, decayed in (("c W", W), ("c W without biases", W_0)):
        g = [x + numbers.dtype(c) * w for x, w in zip(gradients(numbers, 1.0, 0.0), decayed, strict=True)]
        said = "theta|weight decay"
        theirs = finish(rng, {f"gradient_{i}": x for i, x in enumerate(g, start=1)}, rounded)
        yield Mutation(
            "decay", f"gradient + {what}, c = {c}", case, theirs, {k: Expected("claim", words=said) for k in theirs}
        )
        theirs = finish(rng, named(precondition(numbers, g, structure, value)), rounded)
        yield Mutation(
            "decay",
            f"{what}, c = {c}, before; {structure}, {which}",
            case,
            theirs,
            {k: Expected("claim", words=said) for k in theirs},
        )
    U = precondition(numbers, gradients(numbers, N, 0.0), structure, value)
    theirs = finish(rng, named([u + numbers.dtype(c) * w for u, w in zip(U, W, strict=True)]), rounded)
    single = any(x.dtype == np.float32 for x in theirs.values())
    if c * min(np.linalg.norm(w) / np.linalg.norm(u) for u, w in zip(U, W, strict=True)) < (0.02 if single else 1e-4):
        return  # out of rounding's sight
    yield Mutation(
        "decay",
        f"c W after, c = {c}, summed; {structure}, {which}",
        case,
        theirs,
        {k: Expected("claim", words="theta|weight decay") for k in theirs},
    )
