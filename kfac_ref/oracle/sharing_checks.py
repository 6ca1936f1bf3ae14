"""Which kind of factors, expand, reduce or KFC's, somebody else's A and G are of, seen together: of a layer with T > 1
locations both are of one kind, or something is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from kfac_ref.oracle.references import SHARINGS, References
from kfac_ref.oracle.verdict import Explanation

NEARER = 1.5
"""How many times farther than from the expectations of another kind of factors estimates may be from their own."""
MIXED = 1.0
"""How far-fetched it is that A and G of a layer are factors of two kinds."""
FARTHER = 20.0
"""How many times farther than the closest explanation an estimate may be from its expectation: what is near to a matrix
in one layout is no estimate in another."""

Found = Mapping[str, Sequence[Explanation]]
"""What was found of each quantity."""


def of_one_kind(
    found: Found, chosen: Mapping[str, Explanation | None], kinds: Mapping[str, str | None], positions: bool
) -> dict[str, Explanation]:
    """Explanations by which G are of the kind of their layers' A, where both fit: a scale of all layers, or that of a
    loss that is a mean over positions, is likelier than a T that both factors carry, or neither does.

    Parameters
    ----------
    found, chosen : what was found of the quantities, and what was chosen
    kinds : for the name of each G the kind of its layer's A
    positions : whether there are outputs for each of several positions
    """
    others: dict[str, list[Explanation]] = {}
    for name, kind in kinds.items():
        e = chosen[name]
        if e is None or None in (e.sharing, kind) or e.sharing == kind:
            continue
        same = [x for x in found[name] if x.fits and (x.sharing, x.fisher) == (kind, e.fisher)]
        likely = [
            x for x in same if x.expression and x.cost < e.cost + MIXED and (positions or "T" not in x.expression)
        ]
        others[name] = sorted(likely, key=lambda x: x.cost)[:1]
    alike = all(others.values()) and len({x.expression for (x,) in others.values()}) == 1
    return {name: x[0] for name, x in others.items() if x} if alike or positions else {}


def near_their_own(found: Found, sampled: Mapping[str, Explanation]) -> bool:
    """Whether what are said to be estimates, of layers with T > 1, are nearer to their own expectations than to those
    of another kind, and no nearer to a multiple of them than estimates are."""
    shared = [name for name, e in sampled.items() if e.sharing is not None]
    reduced = {name: _distance(found[name], ("reduce",)) for name in shared}
    others = {name: _distance(found[name], ("expand", "kfc")) for name in shared}
    own, other = (reduced, others) if any(sampled[n].sharing == "reduce" for n in shared) else (others, reduced)
    own_size, other_size = (sum(d**2 for d in distances.values()) for distances in (own, other))
    claimed = sum(sampled[name].residual ** 2 for name in shared)
    return own_size <= NEARER**2 * other_size and claimed <= FARTHER**2 * own_size


def _distance(found: Sequence[Explanation], sharings: Collection[str]) -> float:
    """How far a G is from a multiple of the exact G of one of these kinds."""
    return min((e.residual for e in found if e.fisher == "exact" and e.sharing in sharings), default=np.inf)


def likely_kinds(of_A: Sequence[str], references: References) -> list[str]:
    """Which factors the G may be, given what the A of layers with T > 1 are: what most of these are comes first."""
    if all(references.locations(i) == 1 for i in range(1, references.layers + 1)):
        return ["expand"]
    known = sorted(SHARINGS, key=lambda s: (-of_A.count(s), SHARINGS[s]))
    if of_A and references.network.likelihood.positions > 1:
        # the same estimates but for T, which may be that of a loss that is a mean over positions
        known.remove("kfc" if of_A.count("expand") >= of_A.count("kfc") else "expand")
    return known


def mixture(A: str | None, G: str | None) -> str | None:
    """What is wrong with an A and a G of these kinds of factors; None where nothing is."""
    if None in (A, G) or A == G:
        return None
    if (A, G) == ("kfc", "expand"):
        return "A and G both carry T: their product is T times F's"
    if (A, G) == ("expand", "kfc"):
        return "neither A nor G carries T: their product is F's divided by T"
    names = {"kfc": "KFC's", "expand": "KFAC-expand's", "reduce": "KFAC-reduce's"}
    return f"of mixed kinds (A {names[str(A)]}, G {names[str(G)]})"
