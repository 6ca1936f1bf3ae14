"""Slips of damping: π by another convention, a gradient with weight decay added before it is preconditioned, a result
clipped by one number for all layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations.damping import named
from tests.kfac_ref.oracle.mutations.factors import Arrays, dtype_of, finish
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


Plans = dict[str, tuple[list[np.ndarray], str]]
"""The preconditioned gradients of each slip, and what must be said of it, by name."""


def pi_plans(numbers: Numbers, gamma: float) -> Plans:
    """π without the dimensions, squared, the other way round, one for the whole network, clipped."""
    p, g, L = traces(numbers), gradients(numbers), numbers.layers
    plans = {
        "pi without dimensions": (undimensioned(numbers), r"without (the )?dimensions"),
        "pi squared": ([x**2 for x in p], r"pi\^2|squared"),
        "1/pi": ([1 / x for x in p], r"1/pi"),
        "mean pi": ([float(np.mean(p))] * L, r"one pi"),
        "geometric mean pi": ([float(np.exp(np.mean(np.log(p))))] * L, r"one pi"),
        "pooled pi": ([pooled(numbers)] * L, r"one pi"),
        "first layer's pi": ([p[0]] * L, r"one pi"),
        "constant pi": ([1.7] * L, r"one pi|pi = 1\.7"),
        "clipped pi": ([float(np.clip(x, 0.8, 1.25)) for x in p], r""),
    }
    return {what: (with_pi(numbers, g, values, gamma), words) for what, (values, words) in plans.items()}


def pi(rng) -> Iterator[Mutation]:
    """π by other conventions."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    which = ["sqrt(lambda)", "gamma"][rng.integers(2)]
    plans = pi_plans(numbers, amount(numbers, which))
    for what in rng.choice(list(plans), 4, replace=False):
        U, words = plans[what]
        theirs = finish(rng, named(U), rounded)
        expected = {k: Expected("claim", words=words) for k in theirs}
        if what == "first layer's pi":
            expected["preconditioned_1"] = Expected("claim")  # which is as it should be
        yield Mutation("pi", f"{what}, {which}", case, theirs, expected)


STRUCTURES = (("traces", "gamma"), ("plain", "lambda"), ("product", "lambda"), ("plain", "sqrt(lambda)"))


def clip_plans(numbers: Numbers, structure: str, value: float, kappa: float, lr: float) -> Plans:
    """One number for all layers: a KL clip, a norm clipped or taken over."""
    g = gradients(numbers)
    U = precondition(numbers, g, structure, value)
    inner = float(sum(np.vdot(u, v) for u, v in zip(U, g, strict=True)))
    size, all_g = (float(np.sqrt(sum(np.vdot(x, x) for x in xs))) for xs in (U, g))
    flat, F = np.concatenate([u.ravel(order="F") for u in U]), numbers.fisher()
    plans = {
        "KL clip": (np.sqrt(kappa / (lr**2 * inner)), "kl clip"),
        "KL clip by F": (np.sqrt(2 * kappa / (flat @ F @ flat)), "kl|trust"),
        "norm clipped": (0.1 / size, "norm"),
        "gradient's norm clipped": (0.5 / all_g, "norm"),
        "gradient's norm": (all_g / size, "norm"),
    }
    found = {}
    for what, (nu, words) in plans.items():
        nu = min(1.0, float(nu)) if what != "gradient's norm" else float(nu)
        found[what] = [u * u.dtype.type(nu) for u in U], words if nu != 1 else ""
    return found


def clips(rng) -> Iterator[Mutation]:
    """One number for all layers, on top of damping."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    structure, which = STRUCTURES[rng.integers(4)]
    kappa, lr = float(rng.choice([1e-3, 1e-2])), float(rng.choice([1.0, 0.1, 0.3]))
    plans = clip_plans(numbers, structure, amount(numbers, which), kappa, lr)
    for what in rng.choice(list(plans), 3, replace=False):
        U, words = plans[what]
        theirs = finish(rng, named(U), rounded)
        said = f"{what}, kappa {kappa}, lr {lr}; {structure}, {which}"
        yield Mutation("clip", said, case, theirs, {k: Expected("claim", words=words) for k in theirs})


def decay_plans(numbers: Numbers, structure: str, value: float, c: float) -> dict[str, Arrays]:
    """c W added before, of biases too or not; or after, where rounding lets it be seen."""
    W, single = numbers.W, numbers.dtype == np.float32
    W_0 = [np.concatenate([w[:, :-1], 0 * w[:, -1:]], 1) for w in W]
    found = {}
    for what, decayed in (("c W", W), ("c W, biases not", W_0)):
        g = [x + numbers.dtype(c) * w for x, w in zip(gradients(numbers, 1.0, 0.0), decayed, strict=True)]
        found[f"{what}, gradient"] = {f"gradient_{i}": x for i, x in enumerate(g, start=1)}
        found[f"{what}, before"] = named(precondition(numbers, g, structure, value))
    U = precondition(numbers, gradients(numbers, 1.0, 0.0), structure, value)
    if c * min(np.linalg.norm(w) / np.linalg.norm(u) for u, w in zip(U, W, strict=True)) > (0.02 if single else 1e-4):
        found["c W, after"] = named([u + numbers.dtype(c) * w for u, w in zip(U, W, strict=True)])
    return found


def decay(rng) -> Iterator[Mutation]:
    """Weight decay that is none of the case."""
    dtype, rounded = dtype_of(rng)
    case = networks(rng)
    numbers = Numbers(case, dtype)
    c = float(rng.choice([5e-4, 1e-2, 0.1, 0.37]))
    c = 0.02 if c == case.eta else c
    structure, which = STRUCTURES[rng.integers(4)]
    for what, arrays in decay_plans(numbers, structure, amount(numbers, which), c).items():
        theirs = finish(rng, arrays, rounded)
        expected = {k: Expected("claim", words="theta|weight decay") for k in theirs}
        yield Mutation("decay", f"{what}, c = {c}; {structure}, {which}", case, theirs, expected)
