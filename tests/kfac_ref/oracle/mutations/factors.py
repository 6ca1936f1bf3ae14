"""Mutations of the factors Ā and G: scale, matrix, layout, history, and two of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kfac_ref.oracle.case import Case
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation
from tests.kfac_ref.oracle.mutations.layouts import arranged
from tests.kfac_ref.oracle.mutations.sampling import Sampling
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation

Arrays = dict[str, np.ndarray]
ARBITRARY = (0.3717, 17.3)
"""Constants that are nothing; of a sampled matrix they can't be told."""
LEAST_AXES = 16
"""Sampled matrices in which fewer numbers than this are random may be anything else as well."""


def dtype_of(rng):
    """float64 twice as often as float32; float32 from the start, or rounded at the end."""
    return [(np.float64, False), (np.float64, False), (np.float32, False), (np.float64, True)][rng.integers(4)]


def finish(rng, theirs: Arrays, rounded: bool) -> Arrays:
    return {k: np.asarray(x, dtype=np.float32) if rounded else x for k, x in theirs.items()}


def factors_of(rng, numbers: Numbers, fisher: str = "exact", targets=None) -> Arrays:
    """A_i and G_i of every layer; Ā counted from 0 or, sometimes, from 1."""
    first = int(rng.random() < 0.25)
    theirs = {f"A_{i + first}": numbers.A(i) for i in range(numbers.layers)}
    return theirs | {f"G_{i}": numbers.G(i, fisher, targets) for i in range(1, numbers.layers + 1)}


def scales(numbers: Numbers) -> dict[str, float]:
    N, C = float(numbers.N), float(numbers.C)
    return {
        "N": N, "1/N": 1 / N, "1/N^2": 1 / N**2, "N^2": N**2, "1/2": 0.5, "2": 2.0, "4": 4.0, "1/C": 1 / C,
        "1/C^2": 1 / C**2, "C": C, "2/C": 2 / C, "4/C^2": 4 / C**2,
        **{str(x): x for x in ARBITRARY},
    }  # fmt: skip


def scaled(theirs: Arrays, factors: Callable[[str], float]) -> Arrays:
    """Every array times the factor for its name, in its dtype."""
    return {k: x * x.dtype.type(factors(k)) for k, x in theirs.items()}


def claims(theirs: Arrays, **fields) -> dict[str, Expected]:
    return {k: Expected(**fields) for k in theirs}


def scale(rng) -> Iterator[Mutation]:
    dtype, rounded = dtype_of(rng)
    case = situation(rng)
    numbers = Numbers(case, dtype)
    table = scales(numbers)
    (name, s), (other, t) = (list(table.items())[k] for k in rng.integers(len(table), size=2))
    root = float(np.sqrt(s))
    per_layer = {i: list(table.values())[rng.integers(len(table))] for i in range(10)}
    fisher = str(rng.choice(["exact", "empirical"]))
    for what, factors in {
        f"G x {name}": lambda k: s if k[0] == "G" else 1.0,
        f"A x {name}": lambda k: s if k[0] == "A" else 1.0,
        f"A x {name}, G x {other}": lambda k: t if k[0] == "G" else s,
        f"sqrt({name}) on both": lambda k: root,
        "another scale in each layer": lambda k: per_layer[int(k[2:])] if k[0] == "G" else 1.0,
    }.items():
        base = fisher if what[0] == "A" and what[1:3] != " x" else "exact"
        theirs = finish(rng, scaled(factors_of(rng, numbers, base), factors), rounded)
        yield Mutation("scale", what, case, theirs, claims(theirs))


def matrix(rng) -> Iterator[Mutation]:
    dtype, rounded = dtype_of(rng)
    case = situation(rng)
    numbers = Numbers(case, dtype)
    table = scales(numbers)
    name, s = list(table.items())[rng.integers(len(table))]
    plans = {
        "exact": ("exact", 1.0),
        "empirical": ("empirical", 1.0),
        f"empirical x {name}": ("empirical", s),
        "identity": ("identity", 1.0),
        f"identity x {name}": ("identity", s),
    }
    for what, (fisher, s) in plans.items():
        factors = scaled(factors_of(rng, numbers, fisher), lambda k, s=s: s if k[0] == "G" else 1.0)
        theirs = finish(rng, factors, rounded)
        yield Mutation("matrix", what, case, theirs, claims(theirs))


def monte_carlo(rng) -> Iterator[Mutation]:
    """Sampled G, for cases in which sampling leaves an imprint: several outputs, units and cases."""
    dtype, rounded = dtype_of(rng)
    case = situation(rng, min_N=8, min_d=2, max_d=5, min_C=3)
    numbers, plain = Numbers(case, dtype), Numbers(case)
    S = int(rng.choice([1, 2, 5, 20, 100]))
    name, s = list(scales(plain).items())[rng.integers(len(scales(plain)))]
    base = factors_of(rng, numbers, "sampled", numbers.sample(rng, S))
    drawn = {f"G_{i}": sampling_of(plain, i) for i in range(1, numbers.layers + 1)}
    axes = sum(law.principal[0].shape[0] for law, *_ in drawn.values())
    for what, t in {f"S = {S}": 1.0, f"S = {S}, x {name}": s}.items():
        theirs = finish(rng, scaled(base, lambda k, t=t: t if k[0] == "G" else 1.0), rounded)
        expected = claims(theirs)
        for k, (law, *_) in drawn.items():
            # what happens to be all but certain, such as Gaussian outputs of one unit, may be called by another name
            clear = law.tenable(theirs[k] / t, 20) and axes >= LEAST_AXES and t not in ARBITRARY
            low_high = law.range_of_samples(rng, S)
            expected[k] = (
                Expected(fisher="monte-carlo", samples=low_high) if clear else Expected("either", "monte-carlo")
            )
        yield Mutation("monte-carlo", what, case, theirs, expected, sampling=drawn)


def sampling_of(numbers: Numbers, i: int) -> list[Sampling]:
    """The law of a sampled G_{i,i}; and those where signs are drawn for the columns of a root of F_R (curvature
    propagation), which have the same expectation."""
    p, w, Q = numbers.mean, *np.linalg.eigh(numbers.F_R)
    roots = [Q * np.sqrt(np.maximum(w, 0))[:, None, :]]
    if numbers.name == "categorical":
        roots.append(np.stack([np.diag(np.sqrt(q)) - np.outer(q, np.sqrt(q)) for q in p]))

    def signs(rng, B) -> np.ndarray:
        return numbers.G(i, "sampled", p - np.einsum("ncd,nd->nc", B, rng.choice([-1.0, 1.0], p.shape)))

    laws = [lambda rng: numbers.G(i, "sampled", numbers.sample(rng, 1))]
    laws += [lambda rng, B=B: signs(rng, B) for B in roots]
    return [Sampling(numbers.G(i), law) for law in laws]


def sampled_targets_known(rng) -> Iterator[Mutation]:
    """The case holds the targets that were sampled, and they were used."""
    dtype, rounded = dtype_of(rng)
    case = situation(rng, min_N=2, min_C=2)
    case = Case(**{**vars_of(case), "sampled": Numbers(case).sample(rng, 1)[0]})
    numbers = Numbers(case, dtype)
    theirs = finish(rng, factors_of(rng, numbers, "sampled", np.asarray(case.sampled)), rounded)
    law = {f"G_{i}": sampling_of(Numbers(case), i) for i in range(1, numbers.layers + 1)}
    expected = claims(theirs) | {k: Expected(fisher="monte-carlo", samples=(1, 1)) for k in law}
    yield Mutation("sampled-known", "the case's own sampled targets", case, theirs, expected, sampling=law)


def vars_of(case: Case) -> dict:
    return {k: getattr(case, k) for k in case.__dataclass_fields__}


def layout(rng) -> Iterator[Mutation]:
    dtype, rounded = dtype_of(rng)
    case = situation(rng)
    numbers = Numbers(case, dtype)
    name, s = list(scales(numbers).items())[rng.integers(14)]
    fisher = str(rng.choice(["exact", "empirical"]))
    base = factors_of(rng, numbers, fisher)
    first = 0 if "A_0" in base else 1
    shaped = {
        b: {k: arranged(x, b, both=True) if k[0] == "A" else x for k, x in base.items()} for b in ("first", "absent")
    }
    lone = {f"G_bias_{i}": numbers.G(i, fisher) for i in range(1, numbers.layers + 1)}
    swapped = {}
    for i in range(1, numbers.layers + 1):
        swapped[f"A_{i - 1 + first}"], swapped[f"G_{i}"] = base[f"G_{i}"], base[f"A_{i - 1 + first}"]
    for what, arrays in {
        "bias first": shaped["first"],
        "bias absent": shaped["absent"],
        "bias in a block of its own": shaped["absent"] | lone,
        "swapped": swapped,
    }.items():
        for t, times in ((1.0, ""), (s, f", G x {name}")):
            is_G = "A" if what == "swapped" else "G"
            theirs = finish(rng, scaled(arrays, lambda k, t=t, f=is_G: t if k[0] == f else 1.0), rounded)
            yield Mutation("layout", f"{what}, {fisher}{times}", case, theirs, claims(theirs))


def history(rng) -> Iterator[Mutation]:
    dtype, rounded = dtype_of(rng)
    case = situation(rng, min_d=2)
    numbers = Numbers(case, dtype)
    table = scales(numbers)
    fisher = str(rng.choice(["exact", "empirical"]))
    name, s = list(table.items())[rng.integers(8)]
    decay, k = float(rng.choice([0.5, 0.9, 0.95, 0.99])), int(rng.choice([1, 2, 5, 10]))
    w = decay**k
    for start in ("zero", "identity"):
        for t, times in ((1.0, ""), (s, f", G x {name} before")):
            base = scaled(factors_of(rng, numbers, fisher), lambda q, t=t: t if q[0] == "G" else 1.0)
            theirs, expected = {}, {}
            for q, M in base.items():
                eye = np.eye(len(M), dtype=M.dtype)
                theirs[q] = M.dtype.type(1 - w) * M + (M.dtype.type(w) * eye if start == "identity" else 0)
                # with a scale of the matrix too, a start from zero is one constant like any other
                known = t == 1.0 if start == "zero" else tells(M, w)
                # a single number is explained by too much to be named
                hidden = start == "identity" and not known and (rounded or M.dtype == np.float32)
                verdict = "claim" if M.size > 1 and not hidden else "either"
                expected[q] = Expected(verdict, history=start if known else f"{start}?", weight=w)
            theirs = finish(rng, theirs, rounded)
            what = f"{fisher}, running average from {start}, decay {decay}, {k} updates{times}"
            yield Mutation("history", what, case, theirs, expected)


def tells(M: np.ndarray, w: float) -> bool:
    """Whether a start from the identity can be told from a mere scale and from nothing but it, in float32 too."""
    off, eye = np.linalg.norm(M - np.eye(len(M)) * np.trace(M) / len(M)), w * len(M) ** 0.5
    return bool(off > 1e-2 * np.linalg.norm(M) and eye > 1e-2 * np.linalg.norm(M) and (1 - w) * off > 1e-2 * eye)
