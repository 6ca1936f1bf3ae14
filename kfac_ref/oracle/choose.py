"""Choosing among explanations: the simplest that fits, one convention for all layers being simpler than several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kfac_ref.oracle.expressions import NAMELESS
from kfac_ref.oracle.verdict import Explanation

AGREEMENT = 0.9
"""What an explanation gains for each attribute that it shares with most others."""
RIVAL = 2.0
"""How much dearer than the cheapest an explanation may be to count as one that might be true."""
ATTRIBUTES = (
    *("fisher", "sharing", "expression", "bias", "layout", "start", "damping", "notes", "matrix"),
    *("place", "order", "cases"),
)


def choose(
    explanations: Mapping[str, Sequence[Explanation]], kinds: Mapping[str, str]
) -> dict[str, Explanation | None]:
    """For each quantity the cheapest explanation that fits, after what most quantities of its kind have in common has
    been made cheaper; None where nothing fits."""
    fitting = {name: _near_best([e for e in found if e.fits]) for name, found in explanations.items()}
    best = {name: min(found, key=lambda e: e.cost) if found else None for name, found in fitting.items()}
    common: Counter[tuple[str, str, object]] = Counter()
    votes: set[tuple[str, str]] = set()
    for name, e in best.items():
        if e is not None:
            rivals = [r for r in fitting[name] if r.cost <= e.cost + RIVAL]
            for a in ATTRIBUTES:
                # who could as well say something else has no vote
                if all(getattr(r, a) == getattr(e, a) for r in rivals):
                    common[kinds[name], a, getattr(e, a)] += 1
                    votes.add((name, a))
    sizes = Counter(kinds[name] for name in best)
    scales = [(kinds[name], name, e.fisher, e.scale) for name, e in best.items() if e is not None]

    def cost(name: str, e: Explanation) -> float:
        # how many others say the same of themselves, this one's own vote not counted
        shared = 0.0
        for a in ATTRIBUTES:
            if getattr(e, a) is None:
                continue
            key = (kinds[name], a, getattr(e, a))
            own = (name, a) in votes and getattr(best[name], a) == getattr(e, a)
            shared += (common[key] - own) / max(sizes[kinds[name]] - 1, 1)
        # a scale without a name may be that of other layers
        alike = [
            f
            for kind, other, f, s in scales
            if (kind, f) == (kinds[name], e.fisher) and other != name and _same(s, e.scale)
        ]
        return e.cost - AGREEMENT * (shared + 2 * bool(alike and e.expression is None))

    chosen: dict[str, Explanation | None] = {}
    for name, found in fitting.items():
        costs = [cost(name, e) for e in found]
        chosen[name] = found[costs.index(min(costs))] if found else None
    return chosen


def _near_best(fitting: list[Explanation]) -> list[Explanation]:
    """Those that fit about as well as the best does, what fits to the last digits counting as equal."""
    least = min((e.residual for e in fitting), default=0.0)
    return [e for e in fitting if e.residual <= max(30 * least, 0.03 * e.tolerance)]


def undecided(explanation: Explanation, others: Sequence[Explanation], decided: Sequence[Explanation]) -> bool:
    """Whether only a constant without a name tells an explanation from another Fisher, or another damping, that would
    do as well, and none of those that are decided is of the same Fisher and scale."""
    if explanation.expression is not None or explanation.together:
        return False
    if any(e.fisher == explanation.fisher and _same(e.scale, explanation.scale) for e in decided):
        return False
    return explanation.fisher != "identity" and any(
        e.fits and e.layout == explanation.layout and e.start == explanation.start and _differs(e, explanation)
        for e in others
        if e.cost < 2 * NAMELESS and e.fisher != "identity"
    )


def _differs(one: Explanation, other: Explanation) -> bool:
    """Whether they name another Fisher, or other numbers added to diagonals."""
    if one.fisher != other.fisher:
        return True
    values = one.damping_values, other.damping_values
    return len(values[0]) != len(values[1]) or any(
        abs(a - b) > 1e-5 * max(abs(a), abs(b)) for a, b in zip(*values, strict=True)
    )


def _same(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= 1e-5 * abs(one)
