"""π of the factored Tikhonov damping (§6.3) by other conventions than the paper's, and one π for all layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kfac_ref.oracle.damping_rules import Pair, Rule, root_of

SIGNIFICANT = (1, 2)
"""Digits of a number that somebody chose, in float32 and in float64."""


def layer_pis(pair: Pair) -> dict[str, float]:
    """π of a layer by what it may be called, but for those of `damping_rules`."""
    n, d = len(pair.s_A), len(pair.s_G)
    a, g = float(pair.s_A.sum()), float(pair.s_G.sum())
    F_a, F_g = float(np.sqrt(np.sum(pair.s_A**2))), float(np.sqrt(np.sum(pair.s_G**2)))
    if not (a > 0 and g > 0):
        return {}
    trace, frobenius = pair.pi("trace"), pair.pi("frobenius")
    table = {
        "pi without the dimensions (trace)": np.sqrt(a / g),
        "pi without the dimensions (frobenius)": np.sqrt(F_a / F_g),
        "pi^2 (trace), its root not taken": trace**2,
        "pi^2 (frobenius), its root not taken": frobenius**2,
        "1/pi without the dimensions (trace)": np.sqrt(g / a),
        "1/pi^2 (trace)": trace**-2,
        "sqrt(pi) (trace)": np.sqrt(trace),
        "pi by the largest eigenvalues": np.sqrt(pair.s_A.max() / pair.s_G.max()),
    }
    if n > 1:
        table["pi (trace), the bias not counted as a dimension"] = np.sqrt((a / (n - 1)) / (g / d))
        if a > 1:
            table["pi (trace) of the weights alone"] = np.sqrt(((a - 1) / (n - 1)) / (g / d))
    return {name: float(x) for name, x in table.items()}


def network_pis(pairs: Sequence[Pair]) -> dict[str, float]:
    """One π for all layers, by how it may have been found."""
    if len(pairs) < 2:
        return {}
    p = np.array([pair.pi("trace") for pair in pairs])
    tr_A, tr_G = (np.array([s.sum() for s in side]) for side in ([x.s_A for x in pairs], [x.s_G for x in pairs]))
    n, d = (np.array([len(s) for s in side]) for side in ([x.s_A for x in pairs], [x.s_G for x in pairs]))
    if not (np.all(tr_G > 0) and np.all(tr_A > 0)):
        return {}
    table = {
        "the mean of all": p.mean(),
        "the geometric mean of all": np.exp(np.log(p).mean()),
        "of mean traces over all layers": np.sqrt(np.mean(tr_A / n) / np.mean(tr_G / d)),
        "of all traces and dimensions summed": np.sqrt((tr_A.sum() / n.sum()) / (tr_G.sum() / d.sum())),
        "of all traces summed, without the dimensions": np.sqrt(tr_A.sum() / tr_G.sum()),
        "that of the first layer": p[0],
        "that of the last layer": p[-1],
        "the largest": p.max(),
        "the smallest": p.min(),
    }
    return {f"one pi for the whole network ({name})": float(x) for name, x in table.items()}


def pi_rules(pair: Pair, dampings: Mapping[str, float], network: Mapping[str, float]) -> Iterator[Rule]:
    """The rules by these conventions."""
    conventions = [(name, p, 1.8) for name, p in layer_pis(pair).items()]
    conventions += [(name, p, 2.2) for name, p in network.items()]
    for name, x in dampings.items():
        for text, p, cost in conventions if x > 0 else ():
            root = float(np.sqrt(x))
            yield Rule(f"{root_of(name)} with {text}", p * root, root / p, cost=cost)


def named_pi(pair: Pair, a: float, b: float, dampings: Mapping[str, float], off: float) -> Rule | None:
    """What was added to A and to G, as a known strength and a π, a and b being known to a relative precision."""
    if not (a > 0 and b > 0):
        return None
    strength, p = float(np.sqrt(a * b)), float(np.sqrt(a / b))
    for name, x in dampings.items():
        root = float(np.sqrt(x))
        if x <= 0 or abs(strength / root - 1) > 3 * off:
            continue
        for text, value in layer_pis(pair).items():
            if abs(p / value - 1) <= 3 * off:
                return Rule(f"{root_of(name)} with {text}", a, b, cost=2.0)
        digits = SIGNIFICANT[int(off < 1e-6)]
        chosen = float(f"{p:.{digits}g}")
        if abs(p / chosen - 1) <= 3 * off:
            return Rule(f"{root_of(name)} with pi = {chosen:g} (clipped, or given)", a, b, cost=2.4)
        return Rule(f"{root_of(name)} with pi = {p:.6g} (by no convention that is known)", a, b, cost=3.0)
    return None
