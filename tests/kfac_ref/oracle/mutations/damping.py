"""Mutations of preconditioned gradients: where and how much damping, which G, which gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.kfac_ref.oracle.mutations.factors import claims, dtype_of, finish, sampling_of
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.layouts import arranged
from tests.kfac_ref.oracle.mutations.preconditioners import FACTORED, amount, gradients, precondition
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation

WAYS = [
    ("traces", "gamma"), ("traces", "sqrt(lambda)"), ("traces", "sqrt(lambda+eta)"), ("frobenius", "gamma"),
    ("frobenius", "sqrt(lambda)"), ("plain", "gamma"), ("plain", "sqrt(lambda)"), ("plain", "sqrt(lambda+eta)"),
    ("plain", "lambda"), ("plain", "lambda+eta"), ("product", "lambda"), ("product", "lambda+eta"), ("ekfac", "lambda"),
    ("ekfac", "lambda+eta"), ("dense", "lambda"), ("dense", "lambda+eta"), ("tridiagonal", "gamma"),
]  # fmt: skip
EXTRAS = (
    "",
    "",
    "sign",
    "summed",
    "ηθ left out",
    "summed, ηθ not",
    "empirical",
    "identity",
    "bias first",
    "transposed",
)
MOST_CONDITION = 1e3
"""Condition numbers above it would leave nothing of float32's digits."""


def damped_case(rng, **fixed):
    lam, gamma = float(rng.uniform(0.02, 0.6)), float(rng.uniform(0.1, 0.9))
    given = [{"lam": lam}, {"lam": lam}, {"lam": lam}, {"gamma": gamma}, {"lam": lam, "gamma": gamma}][rng.integers(5)]
    return situation(rng, **({"max_d": 5, "min_d": 2, "layers": int(rng.integers(1, 4))} | given | fixed))


def named(U: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"preconditioned_{i}": u for i, u in enumerate(U, start=1)}


def with_company(rng, numbers: Numbers, theirs, fisher: str = "exact"):
    """Sometimes the gradient and the factors are there too."""
    if rng.random() < 0.4:
        theirs = theirs | {f"gradient_{i}": numbers.gradient(i) for i in range(1, numbers.layers + 1)}
    if rng.random() < 0.3:
        theirs = theirs | {f"A_{i}": numbers.A(i) for i in range(numbers.layers)}
        theirs |= {f"G_{i}": numbers.G(i, fisher) for i in range(1, numbers.layers + 1)}
    return theirs


def steady(numbers: Numbers, gamma: float, rounded: bool) -> bool:
    """Whether F̂⁻¹∇h is known well enough: Σ_{i|i+1} may be all but singular."""
    wave = [W * (1 + 1e-9 * np.cos(np.arange(W.size)).reshape(W.shape)) for W in numbers.case.parameters]
    near = [Numbers(numbers.case), Numbers(replace(numbers.case, parameters=wave))]
    U, V = (precondition(x, gradients(x), "tridiagonal", gamma) for x in near)
    growth = max(np.linalg.norm(u - v) / np.linalg.norm(u) for u, v in zip(U, V, strict=True)) / 1e-9
    return bool(growth < (30 if rounded or numbers.dtype == np.float32 else 1e3))


def damping(rng) -> Iterator[Mutation]:
    """Where and how much; and one thing more: the gradient's scale or sign, ηθ, another G, a layout."""
    dtype, rounded = dtype_of(rng)
    case = damped_case(rng)
    numbers = Numbers(case, dtype)
    N = float(numbers.N)
    ways = [way for way in WAYS if amount(numbers, way[1]) is not None]
    for k in rng.choice(len(ways), 5, replace=False):
        structure, which = ways[k]
        value = amount(numbers, which)
        extra = str(rng.choice(EXTRAS))
        if structure in ("dense", "tridiagonal", "ekfac") and extra in ("empirical", "identity"):
            extra = ""
        fisher = extra if extra in ("empirical", "identity") else "exact"
        g = gradients(numbers)
        if extra in ("sign", "summed"):
            g = [numbers.dtype(N if extra == "summed" else -1) * x for x in g]
        elif extra == "ηθ left out":
            g = gradients(numbers, 1.0, 0.0)
        elif extra == "summed, ηθ not":
            g = gradients(numbers, N, 1.0)
        U = precondition(numbers, g, structure, value, fisher)
        if structure == "tridiagonal" and not steady(numbers, value, rounded):
            continue
        if extra == "bias first":
            U = [arranged(u, "first") for u in U]
        elif extra == "transposed":
            U = [u.T.copy() for u in U]
        theirs = with_company(rng, numbers, named(U), fisher) if extra != "transposed" else named(U)
        theirs = finish(rng, theirs, rounded)
        yield Mutation("damping", f"{structure}, {which}; {extra}", case, theirs, claims(theirs))


def undamped(rng) -> Iterator[Mutation]:
    """Ā⁻¹ and G⁻¹ where they exist."""
    dtype, rounded = dtype_of(rng)
    while True:
        case = damped_case(rng, min_N=13, max_d=4, likelihood=str(rng.choice(["bernoulli", "gaussian"])))
        numbers = Numbers(case, dtype)
        matrices = [numbers.A(i) for i in range(numbers.layers)]
        matrices += [numbers.G(i, f) for i in range(1, numbers.layers + 1) for f in ("exact", "empirical")]
        if max(np.linalg.cond(M) for M in matrices) < MOST_CONDITION:
            break
    N = float(numbers.N)
    for what, g, fisher in (
        ("", gradients(numbers), "exact"),
        ("summed", [numbers.dtype(N) * x for x in gradients(numbers)], "exact"),
        ("sign, empirical", [-x for x in gradients(numbers)], "empirical"),
    ):
        theirs = with_company(rng, numbers, named(precondition(numbers, g, "none", 0.0, fisher)), fisher)
        theirs = finish(rng, theirs, rounded)
        yield Mutation("undamped", f"no damping; {what}", case, theirs, claims(theirs))


def scaled_factors(rng) -> Iterator[Mutation]:
    """Factors summed, or too small, before they are damped."""
    dtype, rounded = dtype_of(rng)
    case = damped_case(rng, min_N=2)
    numbers = Numbers(case, dtype)
    N = float(numbers.N)
    ways = [w for w in WAYS if w[0] in FACTORED and amount(numbers, w[1]) is not None]
    for what, s in {"both summed": (N, N), "G summed": (1.0, N), "A summed": (N, 1.0), "G / N": (1.0, 1 / N)}.items():
        structure, which = ways[rng.integers(len(ways))]
        U = precondition(numbers, gradients(numbers), structure, amount(numbers, which), "exact", s)
        theirs = named(U)
        if rng.random() < 0.6:
            theirs |= {f"A_{i}": numbers.dtype(s[0]) * numbers.A(i) for i in range(numbers.layers)}
            theirs |= {f"G_{i}": numbers.dtype(s[1]) * numbers.G(i) for i in range(1, numbers.layers + 1)}
        theirs = finish(rng, theirs, rounded)
        yield Mutation("scaled-factors", f"{structure}, {which}; {what} before damping", case, theirs, claims(theirs))


def separate_blocks(rng) -> Iterator[Mutation]:
    """The bias preconditioned by itself, or the joint result split."""
    dtype, rounded = dtype_of(rng)
    case = damped_case(rng)
    numbers = Numbers(case, dtype)
    ways = [w for w in WAYS if w[0] in ("plain", "product", "traces") and amount(numbers, w[1]) is not None]
    for separate in (False, True):
        structure, which = ways[rng.integers(len(ways))]
        U = precondition(numbers, gradients(numbers), structure, amount(numbers, which), separate=separate)
        theirs = {f"preconditioned_weight_{i}": u[:, :-1] for i, u in enumerate(U, start=1)}
        theirs |= {f"preconditioned_bias_{i}": u[:, -1] for i, u in enumerate(U, start=1)}
        theirs = finish(rng, theirs, rounded)
        what = "blocks of their own" if separate else "split"
        yield Mutation(
            "separate-blocks", f"{structure}, {which}; weights and bias {what}", case, theirs, claims(theirs)
        )


def own_factors(rng) -> Iterator[Mutation]:
    """Preconditioned with factors that are handed over too: sampled, or running averages."""
    dtype, rounded = dtype_of(rng)
    case = damped_case(rng, min_N=8, min_C=3)
    numbers, plain = Numbers(case, dtype), Numbers(case)
    layers = range(1, numbers.layers + 1)
    targets = numbers.sample(rng, int(rng.choice([1, 5])))
    sampled = {f"A_{i - 1}": numbers.A(i - 1) for i in layers} | {f"G_{i}": numbers.G(i, "", targets) for i in layers}
    w = 0.95 ** int(rng.choice([1, 5]))
    average = {f"A_{i - 1}": numbers.A(i - 1) for i in layers} | {f"G_{i}": numbers.G(i) for i in layers}
    average = {k: x * x.dtype.type(1 - w) + x.dtype.type(w) * np.eye(len(x), dtype=x.dtype) for k, x in average.items()}
    ways = [w for w in WAYS if w[0] in ("plain", "traces", "product") and amount(numbers, w[1]) is not None]
    for what, factors in (("sampled", sampled), ("running averages from the identity", average)):
        structure, which = ways[rng.integers(len(ways))]
        numbers.own = factors
        U = precondition(numbers, gradients(numbers), structure, amount(numbers, which), "own")
        theirs = finish(rng, factors | named(U), rounded)
        # the factors themselves are the matter of other kinds of mutation
        said = Expected("either", history="identity?", weight=w)
        if factors is sampled:
            said = Expected("either", fisher="monte-carlo")
        expected = {k: said if k[0] == "G" or factors is average else Expected() for k in factors} | claims(named(U))
        laws = {f"G_{i}": sampling_of(plain, i) for i in layers}
        what = f"{structure}, {which}; factors of their own, {what}"
        yield Mutation("own-factors", what, case, theirs, expected, sampling=laws)
