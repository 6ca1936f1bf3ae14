"""Numbers that implementations might have of layers with shared weights, made up: the truth of six networks with one
convention or mistake, or with two at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from kfac_ref.oracle import CapturedCase, Case
from tests.kfac_ref.oracle import curvlinops, shared_numbers
from tests.kfac_ref.oracle.dense_truth import trace_pi

Arrays = dict[str, np.ndarray]
SHARINGS, FISHERS = ("expand", "kfc", "reduce"), ("exact", "empirical")
BIASES = {
    "last": lambda A: A,
    "first": lambda A: np.roll(np.roll(A, 1, 0), 1, 1),
    "absent": lambda A: A[:-1, :-1],
}
LAMBDA = 0.07


@dataclass
class Mutation:
    """What was done, and what must be said of it."""

    what: str
    numbers: Numbers
    theirs: Arrays
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For a quantity, fields of its verdict; "words" are some of its convention's."""


class Numbers:
    """A network's numbers by sums written out."""

    def __init__(self, name: str) -> None:
        self.name = name
        case, _ = curvlinops.read(name)
        self.case = Case(case.network, case.parameters, case.X, case.Y, lam=LAMBDA)
        recorded = curvlinops.captured(case)
        shape = (case.cases, *case.network.output)
        z, Y = (x.reshape(shape) for x in (recorded.z, recorded.Y))
        self.captured = CapturedCase(recorded.likelihood, z, Y, recorded.layers, lam=LAMBDA)
        self.N, self.C = case.cases, case.network.output[-1]
        self.layers = range(1, case.network.layers + 1)
        self.T = {i: self.captured.layers[i - 1].a.shape[1] for i in self.layers}
        self.bias = {i: self.captured.layers[i - 1].bias for i in self.layers}
        self.kernels = {
            i: (layer.input[0], *layer.kernel)
            for i, layer in enumerate(case.network.weighted, 1)
            if layer.kind == "conv"
        }

    @cached_property
    def gradients(self) -> dict[int, np.ndarray]:
        return {i: shared_numbers.gradient(self.captured, i) for i in self.layers}

    def factor(self, kind: str, i: int, sharing: str, fisher: str = "exact") -> np.ndarray:
        return _factors(self, i, sharing, fisher)[kind == "G"]

    def block(self, i: int, fisher: str = "exact") -> np.ndarray:
        return _block(self, i, fisher)

    def factors(self, A: str, G: str, fisher: str, s_A: Any = 1.0, s_G: Any = 1.0, bias: str = "last") -> Arrays:
        """A_i and G_i of these kinds; scales are numbers, or functions of the layer."""
        theirs = {}
        for i in self.layers:
            a, g = (s(i) if callable(s) else s for s in (s_A, s_G))
            place = BIASES[bias] if self.bias[i] else BIASES["last"]
            theirs[f"A_{i}"] = a * place(self.factor("A", i, A))
            theirs[f"G_{i}"] = g * self.factor("G", i, G, fisher)
        return theirs

    def expected(self, A: str, G: str, fisher: str, s_A: Any = 1.0, s_G: Any = 1.0, bias: str = "last") -> dict:
        said: dict[str, dict[str, Any]] = {}
        for i in self.layers:
            a, g = (s(i) if callable(s) else s for s in (s_A, s_G))
            shared = self.T[i] > 1
            said[f"A_{i}"] = {"scale": a, "sharing": A if shared else None, "bias": bias if self.bias[i] else None}
            said[f"G_{i}"] = {"scale": g, "sharing": G if shared else None, "fisher": fisher}
        return said


@cache
def _factors(numbers: Numbers, i: int, sharing: str, fisher: str) -> tuple[np.ndarray, np.ndarray]:
    return shared_numbers.factors(numbers.captured, i, sharing, fisher)


@cache
def _block(numbers: Numbers, i: int, fisher: str) -> np.ndarray:
    return shared_numbers.block(numbers.captured, i, fisher)


def generate() -> Iterator[Mutation]:
    for name in (name for name in curvlinops.NAMES if "small" in name):
        numbers = Numbers(name)
        rng = np.random.default_rng(list(name.encode()))
        for make in (of_factors, of_rows, of_gradients, of_blocks, of_preconditioned):
            for mutation in make(numbers, rng):
                if rng.random() < 0.25:
                    mutation.what += ", float32"
                    mutation.theirs = {k: x.astype(np.float32) for k, x in mutation.theirs.items()}
                yield mutation


def of_factors(x: Numbers, rng) -> Iterator[Mutation]:
    """Kind, Fisher, scale and bias: two that are not the project's at least."""
    N, C, T = float(x.N), float(x.C), x.T
    plans = [
        ("G summed", 1.0, N), ("both summed", N, N), ("a root of N on each", N**0.5, N**0.5), ("G negative", 1.0, -1.0),
        ("a mean's gradients", 1.0, 1 / N), ("squares of a mean's gradients", 1.0, 1 / N**2),
        ("MSE without 1/2", 1.0, 2.0), ("summed, without 1/2", 1.0, 2 * N), ("a mean over outputs", 1.0, 1 / C),
    ]  # fmt: skip
    for k, (what, a, g) in enumerate(plans):
        sharing, fisher = SHARINGS[(k + len(x.name)) % 3], FISHERS[k % 2]
        bias = list(BIASES)[int(rng.integers(3))]
        args = (sharing, sharing, fisher, a, g, bias)
        yield Mutation(f"{sharing}, {fisher}, {what}, bias {bias}", x, x.factors(*args), x.expected(*args))
    for what, a, g in (
        ("sums over locations", lambda i: T[i] ** 2.0, 1.0),
        ("sums over locations, summed", lambda i: T[i] ** 2.0, N),
        ("G a mean over locations", 1.0, lambda i: 1 / T[i] ** 2),
    ):
        args = ("reduce", "reduce", "exact", a, g, "last")
        yield Mutation(f"reduce, {what}", x, x.factors(*args), x.expected(*args))
    for A, G, words in (("kfc", "expand", "A and G both carry T"), ("expand", "kfc", "neither A nor G carries T")):
        said = {k: v | ({"words": words} if T[int(k[2:])] > 1 else {}) for k, v in x.expected(A, G, "exact").items()}
        if x.captured.positions == 1:  # else a mean over positions
            yield Mutation(words, x, x.factors(A, G, "exact"), said)


def of_rows(x: Numbers, rng) -> Iterator[Mutation]:
    """Patches in another order, summed."""
    for order, words in (((1, 2, 0), "kernel row, kernel column, channel"), ((2, 1, 0), "kernel column, kernel row")):
        theirs, said = {}, {}
        for i, (c, v, h) in x.kernels.items():
            index = np.arange(c * v * h).reshape(c, v, h).transpose(order).ravel()
            A = x.factor("A", i, "expand")
            whole = np.r_[index, len(index)] if x.bias[i] else index
            theirs[f"A_{i}"] = x.N * A[np.ix_(whole, whole)]
            moved = not np.array_equal(index, np.arange(len(index)))
            said[f"A_{i}"] = {"scale": x.N, "sharing": "expand"} | ({"words": words.split(",")[0]} if moved else {})
        if theirs:
            yield Mutation(f"rows: {words}, summed", x, theirs, said)
    theirs, said = {}, {}
    for i, (c, v, h) in x.kernels.items():
        index = np.arange(c * v * h).reshape(c, v, h)[:, ::-1, ::-1].ravel()
        if len(index) > 1:
            theirs[f"A_{i}"] = x.factor("A", i, "reduce")[np.ix_(index, index)]
            said[f"A_{i}"] = {"scale": 1.0, "sharing": "reduce", "words": "flipped"}
    if theirs:
        yield Mutation("rows: kernel flipped, reduce, no bias", x, theirs, said)


def of_gradients(x: Numbers, rng) -> Iterator[Mutation]:
    plain = {f"gradient_{i}": g for i, g in x.gradients.items()}
    N = x.N
    for what, s in (("summed", N), ("sign", -1.0), ("a mean over outputs", 1 / x.C)):
        said = {k: {"scale": s} for k in plain}
        yield Mutation(f"gradient, {what}", x, {k: s * g for k, g in plain.items()}, said)
    yield Mutation(
        "gradient transposed, summed", x, {k: N * g.T for k, g in plain.items()}, {k: {"scale": N} for k in plain}
    )
    parts: Arrays = {}
    for i, g in x.gradients.items():
        weights = g[:, :-1] if x.bias[i] else g
        if i in x.kernels:
            weights = weights.reshape(len(g), *x.kernels[i])
        parts[f"gradient_weight_{i}"] = weights
        if x.bias[i]:
            parts[f"gradient_bias_{i}"] = g[:, -1]
    yield Mutation("weights as they are, biases apart", x, parts, {k: {"verdict": "match"} for k in parts})
    last = {k: (g.transpose(2, 3, 1, 0) if g.ndim == 4 else g) * N for k, g in parts.items()}
    yield Mutation("channels last, summed", x, last, {k: {"scale": N} for k in last})


def of_blocks(x: Numbers, rng) -> Iterator[Mutation]:
    for fisher, what, s in (("exact", "summed", x.N), ("empirical", "", 1.0), ("exact", "negative", -1.0)):
        theirs = {f"block_{i}": s * x.block(i, fisher) for i in x.layers if len(x.block(i)) <= 60}
        yield Mutation(f"block, {fisher} {what}", x, theirs, {k: {"scale": s, "fisher": fisher} for k in theirs})
    for sharing, s in (("expand", 1.0), ("reduce", float(x.N))):
        theirs, said = {}, {}
        for i in x.layers:
            product = np.kron(x.factor("A", i, sharing), x.factor("G", i, sharing))
            if x.T[i] > 1 and len(product) <= 60:
                theirs[f"block_{i}"] = s * product
                said[f"block_{i}"] = {"scale": s, "words": "Kronecker"}
                if np.linalg.norm(product - x.block(i)) < 1e-8 * np.linalg.norm(product):
                    del said[f"block_{i}"]["words"]
        yield Mutation(f"Kronecker product, {sharing}, x {s:g}", x, theirs, said)


def of_preconditioned(x: Numbers, rng) -> Iterator[Mutation]:
    """Where the damping goes; of which factors; of which gradient."""
    for k, way in enumerate(("with pi (trace)", "on each factor", "on the product")):
        for s in (1.0, float(x.N)):
            sharing = "reduce" if (k + (s > 1)) % 2 else "expand"
            fisher = FISHERS[int(rng.integers(2))]
            theirs, said = {}, {}
            for i in x.layers:
                A, G = x.factor("A", i, sharing), x.factor("G", i, sharing, fisher)
                theirs[f"preconditioned_{i}"] = s * inverse(A, G, way) @ x.gradients[i].ravel(order="F")
                theirs[f"preconditioned_{i}"] = theirs[f"preconditioned_{i}"].reshape(x.gradients[i].shape, order="F")
                shared = sharing if x.T[i] > 1 else None
                said[f"preconditioned_{i}"] = {"scale": s, "sharing": shared, "fisher": fisher, "damping": way}
            yield Mutation(f"preconditioned, {sharing}, {fisher}, {way}, x {s:g}", x, theirs, said)


def inverse(A: np.ndarray, G: np.ndarray, way: str) -> np.ndarray:
    root = np.sqrt(LAMBDA)
    if way == "on the product":
        return np.linalg.inv(np.kron(A, G) + LAMBDA * np.eye(len(A) * len(G)))
    pi = trace_pi(A, G) if "pi" in way else 1.0
    return np.linalg.inv(np.kron(A + pi * root * np.eye(len(A)), G + root / pi * np.eye(len(G))))
