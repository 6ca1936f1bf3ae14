"""What a verdict's words about a preconditioned gradient mean, rebuilt: π by any convention, weight decay, factors of
vectors from another place."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations.situations import Numbers
from tests.kfac_ref.oracle.mutations.slip_words import activities_at, decayed, derivatives_at, moment


def claimed(numbers: Numbers, layer: int, claim: dict) -> Iterator[np.ndarray]:
    """The preconditioned gradients of a layer that a verdict may mean, without its scale."""
    text, scale = claim.get("damping") or "", claim.get("scale") or 1.0
    notes = " | ".join(claim.get("notes") or [])
    fisher = claim.get("fisher") or "exact"
    if fisher == "monte-carlo" and numbers.case.sampled is None:
        return
    factors = [_factors(numbers, i, claim, fisher) for i in range(1, numbers.layers + 1)]
    if claim.get("bias") == "absent":
        factors = [(A[:-1, :-1], G) for A, G in factors]
    A, G = factors[layer - 1]
    damped = _damped(numbers, text, factors, layer, claim)
    if damped is None:
        return
    W = (decayed(numbers, layer, notes) or [None])[0]
    if W is not None and "to the gradient" in notes:
        gradients = [numbers.gradient(layer, 1.0, 0.0) + W]
    elif W is not None:
        gradients = [numbers.gradient(layer, 1.0, 0.0)]
    else:
        gradients = [
            numbers.gradient(layer, 1.0, l2) for l2 in (1.0, 0.0, 1 / numbers.N, 1 / scale, 0.5, 2 / numbers.C)
        ]
    a, g, both = damped
    for V in gradients:
        V = V[:, : len(A)]
        if both:
            M = np.kron(A, G) + both * np.eye(len(A) * len(G))
            U = np.linalg.solve(M, V.ravel(order="F")).reshape(V.shape, order="F")
        else:
            try:
                U = np.linalg.solve(G + g * np.eye(len(G)), V) @ np.linalg.inv(A + a * np.eye(len(A)))
            except np.linalg.LinAlgError:
                return
        yield U + W[:, : len(A)] / scale if W is not None and "to the result" in notes else U


def _factors(numbers: Numbers, layer: int, claim: dict, fisher: str) -> tuple[np.ndarray, np.ndarray]:
    """Ā and G of a layer, with the slips of place and order that a verdict says of either; right where a layer has no
    such place."""
    found = []
    for side in "AG":
        place, order = ((claim.get(k) or "").removeprefix(f"{side}: ") for k in ("place", "order"))
        place = place if (claim.get("place") or "").startswith(side) else ""
        order = order if (claim.get("order") or "").startswith(side) else ""
        first, last = layer == 1, layer == numbers.layers
        below = "pre-activations in place of act" in place or "layer below" in place
        above = "by activities" in place or "applied twice" in place or "layer above" in place or "before phi" in place
        if (first and below) or (last and (above or "pre-activations in place of der" in place)):
            place = ""
        if side == "A":
            x = activities_at(numbers, layer, place)[None]
        elif fisher == "identity":
            found.append(np.eye(numbers.network.sizes[layer]))
            continue
        else:
            x = derivatives_at(numbers, layer, place, fisher)
        found.append(moment(x, x, {"order": order}))
    return found[0], found[1]


def _damped(numbers: Numbers, text: str, factors, layer: int, claim) -> tuple[float, float, float] | None:
    """What is added to A, to G, or to their product."""
    if text == "none":
        return 0.0, 0.0, 0.0
    strength, _, how = text.partition(" ")
    x = _amount(numbers, strength)
    if x is None:
        return None
    if how == "on each factor":
        return x, x, 0.0
    if how == "on the product":
        return 0.0, 0.0, x
    if m := re.fullmatch(r"on ([AG]) alone", how):
        return x * (m[1] == "A"), x * (m[1] == "G"), 0.0
    p = _pi(how.removeprefix("with "), factors, layer, claim)
    return None if p is None else (p * x, x / p, 0.0)


def _amount(numbers: Numbers, name: str) -> float | None:
    case = numbers.case
    both = None if case.lam is None else case.lam + case.eta
    if case.lam is None and case.gamma is not None:
        both = case.gamma**2
    table = {"lambda": case.lam if case.lam is not None else both, "lambda+eta": both}
    table |= {"gamma^2": None if case.gamma is None else case.gamma**2, "gamma": case.gamma_used}
    root = re.fullmatch(r"sqrt\((.*)\)", name)
    value = table.get(root[1] if root else name)
    return None if value is None else value**0.5 if root else value


def _pi(text: str, factors, layer: int, claim) -> float | None:
    """π of every convention that has a name."""

    def traces(A, G):
        return np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))

    A, G = factors[layer - 1]
    F = np.linalg.norm
    frobenius = np.sqrt(F(A) / len(A) ** 0.5 / (F(G) / len(G) ** 0.5))
    bare = np.trace(A) / np.trace(G)
    if m := re.match(r"pi = ([\d.e+-]+) ", text):
        a, g = claim["damping_values"]
        return (a / g) ** 0.5 if abs((a / g) ** 0.5 / float(m[1]) - 1) < 1e-4 else None
    p = [traces(*f) for f in factors]
    ends = [np.array([[np.trace(M), len(M)] for M in side]) for side in zip(*factors, strict=True)]
    (tr_A, n), (tr_G, d) = (e.T for e in ends)
    table = {
        "pi (trace)": traces(A, G),
        "pi (frobenius)": frobenius,
        "1/pi (trace)": 1 / traces(A, G),
        "1/pi (frobenius)": 1 / frobenius,
        "pi without the dimensions (trace)": bare**0.5,
        "pi without the dimensions (frobenius)": np.sqrt(F(A) / F(G)),
        "pi^2 (trace), its root not taken": traces(A, G) ** 2,
        "pi^2 (frobenius), its root not taken": frobenius**2,
        "1/pi without the dimensions (trace)": bare**-0.5,
        "1/pi^2 (trace)": traces(A, G) ** -2,
        "sqrt(pi) (trace)": traces(A, G) ** 0.5,
        "pi by the largest eigenvalues": np.sqrt(np.linalg.norm(A, 2) / np.linalg.norm(G, 2)),
        "pi (trace), the bias not counted as a dimension": np.sqrt(bare * len(G) / (len(A) - 1)),
        "pi (trace) of the weights alone": np.sqrt((np.trace(A) - 1) / (len(A) - 1) / (np.trace(G) / len(G))),
    }
    network = {
        "the mean of all": np.mean(p),
        "the geometric mean of all": np.prod(p) ** (1 / len(p)),
        "of mean traces over all layers": np.sqrt(np.mean(tr_A / n) / np.mean(tr_G / d)),
        "of all traces and dimensions summed": np.sqrt(sum(tr_A) / sum(n) / (sum(tr_G) / sum(d))),
        "of all traces summed, without the dimensions": np.sqrt(sum(tr_A) / sum(tr_G)),
        "that of the first layer": p[0],
        "that of the last layer": p[-1],
        "the largest": max(p),
        "the smallest": min(p),
    }
    table |= {f"one pi for the whole network ({k})": x for k, x in network.items()}
    return None if text not in table else float(table[text])
