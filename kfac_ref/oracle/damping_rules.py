"""Ways to damp a layer's Kronecker factors: the known ones, for factors of any scale, and those of unknown strength."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kfac_ref.curvature.damping import PI_NORMS
from kfac_ref.oracle.verdict import Explanation


class Pair:
    """Factors that a layer's gradient may have been preconditioned with, and their eigenbases."""

    def __init__(self, A: np.ndarray, G: np.ndarray, says: Explanation, own: bool = False) -> None:
        """`own`: whether they came with the preconditioned gradient, and are not the oracle's."""
        self.A, self.G, self.says, self.own = A, G, says, own
        self.s_A, self.U_A = _eigenbasis(A)
        self.s_G, self.U_G = _eigenbasis(G)

    def pi(self, norm: str) -> float:
        """π of §6.3."""
        a, g = (s.mean() if norm == "trace" else np.sqrt(np.mean(s**2)) for s in (self.s_A, self.s_G))
        return float(np.sqrt(a / g)) if g > 0 else 1.0

    def into(self, V: np.ndarray) -> np.ndarray:
        """V (d, p) in the eigenbases, of its shape."""
        return self.U_G.T @ V @ self.U_A

    def denominators(self, rule: Rule, rows: Any = slice(None), columns: Any = slice(None)) -> np.ndarray:
        """What the gradient is divided by in the eigenbases, (d, p), or in some rows and columns."""
        s_A, s_G = self.s_A[None, columns], self.s_G[rows, None]
        return s_G * s_A + rule.product if rule.product else (s_G + rule.G) * (s_A + rule.A)

    def range(self, rule: Rule) -> tuple[float, float]:
        """The largest and the smallest of these."""
        ends = [0, -1]
        found = self.denominators(rule, ends, ends)
        return float(found.max()), float(found.min())


def _eigenbasis(M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    return np.maximum(values, 0), vectors


@dataclass(frozen=True)
class Rule:
    """A way to damp: what is added to A, to G, or to their Kronecker product."""

    text: str
    A: float
    G: float
    product: float = 0.0
    cost: float = 0.0
    expected: bool = False


def root_of(name: str) -> str:
    """What the root of a damping is called."""
    return "gamma" if name == "gamma^2" else f"sqrt({name})"


def with_pi(name: str, norm: str) -> str:
    """What factored Tikhonov damping is called (§6.3)."""
    return f"{root_of(name)} with pi ({norm})"


def rules(
    pair: Pair, dampings: Mapping[str, float], gamma: float | None, s_A: float = 1.0, s_G: float = 1.0
) -> Iterator[Rule]:
    """The known ways, for factors that are s_A and s_G times `pair`; what they add is divided by these scales. `gamma`
    is the case's own, with which the project itself damps."""
    yield Rule("none", 0.0, 0.0, expected=not gamma)
    for name, x in dampings.items():
        if x <= 0:
            continue
        root = np.sqrt(x)
        rooted = root_of(name)
        for norm, cost in zip(PI_NORMS, (0.0, 0.6), strict=True):
            p = pair.pi(norm) * np.sqrt(s_A / s_G)
            yield Rule(
                with_pi(name, norm),
                p * root / s_A,
                root / p / s_G,
                cost=cost,
                expected=norm == "trace" and bool(gamma) and abs(root / (gamma or 1) - 1) < 1e-9,
            )
            yield Rule(f"{rooted} with 1/pi ({norm})", root / p / s_A, p * root / s_G, cost=cost + 2.5)
            yield Rule(f"{name} with pi ({norm})", p * x / s_A, x / p / s_G, cost=cost + 1.5)
        yield Rule(f"{rooted} on each factor", root / s_A, root / s_G, cost=0.4)
        yield Rule(f"{name} on each factor", x / s_A, x / s_G, cost=0.6)
        yield Rule(f"{name} on the product", 0.0, 0.0, x / (s_A * s_G), cost=0.4)
        for which, a, g in (("A", 1.0, 0.0), ("G", 0.0, 1.0)):
            yield Rule(f"{rooted} on {which} alone", a * root / s_A, g * root / s_G, cost=2.0)
            yield Rule(f"{name} on {which} alone", a * x / s_A, g * x / s_G, cost=2.0)


def of_unknown_strength(pair: Pair, a: float, b: float) -> Rule:
    """A rule of a strength that is not the case's."""
    strength = np.sqrt(abs(a * b))
    for norm in PI_NORMS:
        if b > 0 and a > 0 and abs(np.sqrt(a / b) / pair.pi(norm) - 1) < 1e-5:
            return Rule(f"{strength:.6g} with pi ({norm})", a, b, cost=4.5)
    if abs(a - b) <= 1e-5 * abs(a):
        return Rule(f"{a:.6g} on each factor", a, b, cost=4.5)
    return Rule(f"{a:.6g} on A, {b:.6g} on G", a, b, cost=6.0)


def alike(known: Rule, found: Rule, near: float) -> bool:
    """Whether two rules add the same but for a part `near` of it."""
    pairs = ((known.A, found.A), (known.G, found.G), (known.product, found.product))
    return all(abs(k - f) <= near * max(abs(k), abs(f)) for k, f in pairs)


def scalar(M: np.ndarray) -> float | None:
    """m, if M (n, n) is m·I."""
    m = float(np.mean(np.diag(M)))
    return m if np.linalg.norm(M - m * np.eye(len(M))) <= 1e-12 * np.linalg.norm(M) else None
