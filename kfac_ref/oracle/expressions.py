"""Names for constants: which simple expression in the number of cases, of outputs and of units a scale is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

NAMELESS = 8.0
"""The cost of a constant that no expression names."""
DEAREST = 4.5
"""The cost of the most far-fetched expression that counts as a name."""
USUAL_DECAYS = (0.95, 0.9, 0.99, 0.5, 0.999, 0.75, 0.8, 0.7, 0.6, 0.98, 0.97, 0.96, 0.995, 0.85, 0.1, 0.2, 0.25, 0.3)
MOST_UPDATES = 500
MOST_PARTS = 64
"""Of micro-batches or processes, the most whose number names a scale."""
HINTED = 2.0
"""What a scale gains where another quantity makes it likely."""


@dataclass(frozen=True)
class Expression:
    """A constant with a name."""

    text: str
    value: float
    cost: float
    """How far-fetched it is: 0 for 1, about 1 for each factor."""


@dataclass(frozen=True)
class Decay:
    """ε^k, the weight that a running average still gives to its start after k updates."""

    decay: float
    updates: int

    @property
    def weight(self) -> float:
        """ε^k."""
        return self.decay**self.updates

    def __str__(self) -> str:
        return f"{self.decay:g}" if self.updates == 1 else f"{self.decay:g}^{self.updates}"


@dataclass(frozen=True)
class Symbols:
    """What a scale may be expressed in, and the likelihood, on which it depends what is likely."""

    likelihood: str
    N: int
    """Cases."""
    C: int
    """Outputs of the network."""
    d: int = 1
    """Outputs of the layer."""
    d_in: int = 1
    """Inputs of the layer."""
    T: int = 1
    """Locations at which the layer's weights are applied."""
    T_in: int = 1
    """Pixels of a convolution's input, where they are not T; else 1."""
    R: int = 1
    """Positions of the output, each with targets of its own."""


def named(value: float, symbols: Symbols, tolerance: float) -> Expression | None:
    """The simplest expression that is `value` (of either sign) within a relative tolerance, or None."""
    values, expressions = _sorted(symbols)
    size = abs(value)
    # the first of them that are near enough; they are sorted by their values
    low, high = np.searchsorted(values, [size / (1 + tolerance), size / max(1 - tolerance, 1e-12)])
    near = expressions[max(low - 1, 0) : high + 1]
    fitting = [e for e in near if abs(e.value - size) <= tolerance * e.value]
    return _signed(min(fitting, key=lambda e: e.cost, default=None), value)


def nearest(value: float, symbols: Symbols) -> Expression | None:
    """The expression nearest to `value` on a logarithmic scale, a simpler one counting as nearer; None for 0."""
    if value == 0 or not math.isfinite(value):
        return None
    off = {e: abs(math.log(e.value / abs(value))) + 0.02 * e.cost for e in _expressions(symbols)}
    return _signed(min(off, key=lambda e: off[e]), value)


def usual(symbols: Symbols) -> list[Expression]:
    """The scales that implementations are known to give to a factor or a Fisher, for a choice among few.

    A loss scaled by s gives s (its Hessian) or s² (its gradients, squared), s being 2 where MSE lacks its ½, 1/C where
    a loss is averaged over outputs; and a sum or a mean over cases, of gradients of a sum or of a mean, a power of N.
    """
    N, C, R = float(symbols.N), float(symbols.C), float(symbols.R)
    table: dict[float, Expression] = {}
    for (p, c), (hessian, squared) in _LOSSES[symbols.likelihood].items():
        for power, cost in ((1, hessian), (2, squared)):
            for a, cost_a in ((0, 0.0), (-1, 1.0), (1, 0.8), (-2, 1.2), (2, 2.5)):
                # a loss may be a mean over positions too
                for r, cost_r in ((0, 0.0), (-1, 0.4)) if R > 1 else ((0, 0.0),):
                    powers = {"2": p * power, "N": a if N > 1 else 0, "C": c * power if C > 1 else 0, "R": r * power}
                    value = 2.0 ** powers["2"] * N ** powers["N"] * C ** powers["C"] * R ** powers["R"]
                    key, total = round(math.log(value), 9), cost + cost_a + cost_r * power
                    if key not in table or total < table[key].cost:
                        table[key] = Expression(_text(powers), value, total)
    return list(table.values())


_LOSSES: dict[str, dict[tuple[int, int], tuple[float, float]]] = {
    "gaussian": {
        (0, 0): (0.0, 0.0),
        (1, 0): (0.7, 1.4),
        (1, -1): (0.8, 1.5),
        (0, -1): (1.3, 2.0),
        (-1, 0): (2.2, 3.2),
        (-1, -1): (2.8, 3.8),
        (0, 1): (3.0, 4.0),
    },
    "bernoulli": {
        (0, 0): (0.0, 0.0),
        (0, -1): (0.8, 1.4),
        (1, 0): (2.0, 3.0),
        (-1, 0): (2.2, 3.2),
        (1, -1): (3.0, 4.0),
        (0, 1): (3.0, 4.0),
    },
    "categorical": {
        (0, 0): (0.0, 0.0),
        (0, -1): (1.8, 2.5),
        (1, 0): (2.0, 3.0),
        (-1, 0): (2.2, 3.2),
        (1, -1): (3.0, 4.0),
        (0, 1): (3.0, 4.0),
    },
}
"""For losses scaled by 2^p C^c, by (p, c): how far-fetched the Hessian's scale is, and that of squared gradients."""


def is_root(value: float, symbols: Symbols) -> bool:
    """Whether its name is a square root."""
    name = named(value, symbols, 1e-9)
    return name is not None and name.text.startswith("sqrt(")


def hinted(scales: list[Expression], hints: Collection[float], symbols: Symbols) -> list[Expression]:
    """The scales, cheaper where another quantity makes them likely, having itself one of these scales; but if one of
    these is a root, as when a scale is split over both factors, then what goes with it."""
    roots = [hint for hint in hints if is_root(hint, symbols)]
    if roots:
        likely = [e for e in scales if e.cost <= 2]
        products = [(e, v) for e in likely for hint in roots for v in (e.value * hint, e.value / hint)]
        both = [(e, named(value, symbols, 1e-9)) for e, value in products]
        return [replace(name, cost=e.cost) for e, name in both if name is not None]
    return [
        replace(e, cost=e.cost - HINTED) if any(abs(e.value / hint - 1) < 1e-9 for hint in hints) else e for e in scales
    ]


def over_samples(samples: int, cost: float = 1.7) -> list[Expression]:
    """Scales of a mean over samples done wrongly: the sum, or divided once too often, or by a wrong power."""
    return [
        Expression("S", float(samples), cost),
        Expression("1/sqrt(S)", samples**-0.5, cost),
        Expression("1/S", 1 / samples, cost),
    ]


def decay_of(weight: float, tolerance: float) -> Decay | None:
    """The decay and number of updates whose power `weight` is: usual decays first, else one update; None unless the
    weight lies strictly between 0 and 1."""
    if not tolerance < weight < 1 - tolerance:
        return None
    for updates in range(1, MOST_UPDATES + 1):
        for decay in USUAL_DECAYS:
            if abs(decay**updates - weight) <= tolerance * weight:
                return Decay(decay, updates)
    return Decay(weight, 1)


def start_of(weight: float, precise: float) -> Decay | None:
    """The same for the commonest decays and few updates, of a weight that is 1 less a number known to `precise`."""
    if not 0 < weight < 1:
        return None
    for updates in range(1, 11):
        for decay in USUAL_DECAYS[:5]:
            if abs(decay**updates - weight) <= precise * (1 - weight):
                return Decay(decay, updates)
    return None


def is_usual(decay: Decay | None) -> bool:
    """Whether it is one that people set."""
    return decay is not None and decay.decay in USUAL_DECAYS


def _signed(e: Expression | None, value: float) -> Expression | None:
    if e is None or value > 0:
        return e
    return Expression(f"-{e.text}", -e.value, e.cost + 0.5)


@lru_cache(maxsize=64)
def _sorted(symbols: Symbols) -> tuple[np.ndarray, list[Expression]]:
    """All expressions in the order of their values, and these."""
    ordered = sorted(_expressions(symbols), key=lambda e: e.value)
    return np.array([e.value for e in ordered]), ordered


@lru_cache(maxsize=64)
def _expressions(symbols: Symbols) -> tuple[Expression, ...]:
    return tuple(_generate(symbols))


def _generate(symbols: Symbols) -> Iterator[Expression]:
    N, C = float(symbols.N), float(symbols.C)
    places = [(name, float(n)) for name, n in (("T", symbols.T), ("T_in", symbols.T_in), ("R", symbols.R)) if n > 1]
    widths = {"": 1.0} | {name: float(d) for name, d in (("d", symbols.d), ("d_in", symbols.d_in)) if d > 1}
    for p in range(-4, 5):
        for a in range(-3, 4):
            for c in range(-2, 3):
                if (a and N == 1) or (c and C == 1):
                    continue
                for name, d in widths.items():
                    for e in (1, -1, -2) if name else (0,):
                        powers, value = {"2": p, "N": a, "C": c, name: e}, 2.0**p * N**a * C**c * d**e
                        yield from _with_root(powers, value, symbols.likelihood)
                        for place, n in places if not name else ():
                            for t in (1, -1, 2, -2):
                                yield from _with_root(powers | {place: t}, value * n**t, symbols.likelihood)
    for p in range(3, MOST_PARTS + 1):
        # of a sum over micro-batches, or over processes, that should be a mean
        yield Expression(f"{p}", float(p), 3.4)
        yield Expression(f"1/{p}", 1 / p, 3.6)
    if N > 2:
        yield Expression("N/(N-1)", N / (N - 1), 2.0)
        yield Expression("N-1", N - 1, 2.5)
        yield Expression("1/(N-1)", 1 / (N - 1), 2.5)


_WEIGHTS = {"gaussian": (0.9, 1.1), "bernoulli": (1.5, 1.0), "categorical": (1.2, 1.3)}
"""How far-fetched a factor 2, and a factor C, are."""


def _with_root(powers: dict[str, int], value: float, likelihood: str) -> Iterator[Expression]:
    two, C = _WEIGHTS[likelihood]
    weight = {"2": two, "N": 0.9, "C": C, "T": 1.0, "R": 1.0, "T_in": 1.5}
    cost = sum(weight.get(name, 2.0) * abs(e) for name, e in powers.items() if name)
    # a gradient of a mean, squared: one idea, not two
    cost -= 0.5 * sum(abs(e) == 2 for e in powers.values())
    if cost <= DEAREST:
        text = _text(powers)
        yield Expression(text, value, cost)
        if any(e % 2 for e in powers.values()):
            yield Expression(f"sqrt({text})", math.sqrt(value), cost + 0.7)


def _text(powers: Mapping[str, int]) -> str:
    def join(sign: int) -> list[str]:
        two = powers.get("2", 0) * sign
        factors = [str(2**two)] if two > 0 else []
        for name, e in powers.items():
            if name not in ("2", "") and e * sign > 0:
                factors.append(name if abs(e) == 1 else f"{name}^{abs(e)}")
        return factors

    above, below = join(1), join(-1)
    if not below:
        return "*".join(above) or "1"
    denominator = "*".join(below)
    return f"{'*'.join(above) or '1'}/{denominator if len(below) == 1 else f'({denominator})'}"
