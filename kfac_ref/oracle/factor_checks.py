"""What somebody else's Kronecker factors are: A_i, G_i, and a lone G for the bias."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kfac_ref import damping
from kfac_ref.oracle import expressions, fits, monte_carlo
from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

FISHERS = {"exact": "exact", "empirical": "empirical", "sampled": "monte-carlo"}
"""What the kinds of references are called in a verdict."""

ALONE = 8
"""Rows of the smallest G that is believed to be sampled where others beside it are not."""


def explain_A(theirs: np.ndarray, layer: int, references: References, separate: bool) -> list[Explanation]:
    """Explanations of an A of `layer` (i, its reference being Ā_{i−1,i−1}), whether they fit or not.

    Parameters
    ----------
    separate : bool
        Whether the bias has a block of its own; else, where it is missing, it is absent.
    """
    return _explain(theirs, [*_A(layer, references, separate), *_swapped(_G(layer, references))], layer, references)


def explain_G(theirs: np.ndarray, layer: int, references: References, bias: str | None = None) -> list[Explanation]:
    """Explanations of a G of `layer`, or of the G of its bias, whether they fit or not."""
    candidates = [*_G(layer, references), *_swapped(_A(layer, references, separate=False))]
    return _explain(theirs, candidates, layer, references)


def _A(layer: int, references: References, separate: bool) -> list[Candidate]:
    A = references.A(layer)
    n = len(A)
    first = np.r_[n - 1, : n - 1]
    weights, mean = A[:-1, :-1], A[:-1, -1]
    missing = "separate" if separate else "absent"
    centred = ("activities centred (covariance, not second moment)",)
    return [
        Candidate(A, claim(bias="last", expected=True)),
        Candidate(A[np.ix_(first, first)], claim(bias="first", cost=0.5)),
        Candidate(weights, claim(bias=missing, cost=0.5)),
        Candidate(weights - np.outer(mean, mean), claim(bias=missing, notes=centred, cost=3.0)),
    ]


def _G(layer: int, references: References) -> list[Candidate]:
    found = [
        Candidate(
            references.G(layer, kind),
            claim(fisher=FISHERS[kind], cost=0.0 if kind == "exact" else 0.4, expected=kind == "exact"),
        )
        for kind in references.kinds
    ]
    identity = np.eye(len(found[0].matrix))
    return [*found, Candidate(identity, claim(fisher="identity", cost=0.4))]


def _swapped(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates for the other factor."""
    return [
        Candidate(c.matrix, replace(c.says, layout="A and G swapped", cost=c.says.cost + 2.5, expected=False))
        for c in candidates
    ]


def _explain(theirs: np.ndarray, candidates: list[Candidate], layer: int, references: References) -> list[Explanation]:
    symbols = references.symbols(layer)
    found = [fits.from_zero(e, symbols) for e in fits.scaled(theirs, candidates, symbols)]
    return found + fits.averaged_or_damped(theirs, candidates, symbols, _dampings(layer, references))


def _dampings(layer: int, references: References) -> dict[str, float]:
    """What may have been added to the diagonal of a factor of `layer`."""
    table: dict[str, float] = {}
    A, G = references.A(layer), references.G(layer, "exact")
    for name, value in references.dampings().items():
        root = np.sqrt(value)
        table |= {name: value, f"sqrt({name})": root}
        for norm in damping.PI_NORMS:
            p = float(damping.pi(A, G, norm))
            table |= {f"pi*sqrt({name}) ({norm})": p * root, f"sqrt({name})/pi ({norm})": root / p}
    return {name: value for name, value in table.items() if value > 0}


def explain_sampled(
    theirs: Mapping[str, tuple[int, np.ndarray]],
    references: References,
    starts: Mapping[str, float],
    hints: Collection[float],
) -> dict[str, Explanation]:
    """Those of the G's {name: (layer, matrix)} that are Monte-Carlo estimates, explained.

    `starts` are the weights, where known, that running averages still give to an identity that they started from, and
    `hints` scales that other quantities make likely.

    Together first, as one pass with sampled targets gives all of them; then one by one, and the small ones beside those
    that were recognised.
    """
    found: dict[str, Explanation] = {}
    if not theirs:
        return found
    if starts:
        return _averaged(theirs, references, starts, hints)
    biases = [name for name in theirs if name.startswith("G_bias")]
    groups = [list(theirs), [name for name in theirs if name not in biases], biases, *([name] for name in theirs)]
    for names in groups:
        names = [name for name in names if name not in found]
        for signs in (False, True):
            if names and names[0] not in found:
                # where not all fit together something else is the matter, and what fits must fit better
                margin = 3.3 if len(names) == len(theirs) else 6.0
                more = _recognise(names, theirs, references, hints, signs, margin=margin) or {}
                if len(names) == 1 < len(theirs):
                    more = {
                        name: e for name, e in more.items() if e.expression is not None and _is_telling(theirs[name])
                    }
                found |= more
    scales = {name: e.scale for name, e in found.items() if e.expression is not None}
    for name in theirs:
        if name not in found and scales:
            both = _recognise([*scales, name], theirs, references, hints, False, scales) or {}
            found |= {name: both[name]} if name in both else {}
    return found


def _is_telling(quantity: tuple[int, np.ndarray]) -> bool:
    """Whether a G is large enough to be recognised alone where those beside it are not."""
    return len(quantity[1]) >= ALONE


def _averaged(
    theirs: Mapping[str, tuple[int, np.ndarray]],
    references: References,
    starts: Mapping[str, float],
    hints: Collection[float],
) -> dict[str, Explanation]:
    """The same for running averages from the identity: what is left when that is taken away."""
    bare = {}
    for name, (layer, M) in theirs.items():
        weight = starts.get(name, 0.0)
        rest = (M.astype(np.float64) - weight * np.eye(len(M))) / (1 - weight)
        bare[name] = layer, rest.astype(M.dtype)
    found = explain_sampled(bare, references, {}, hints)
    return {
        name: replace(e, start="identity", history=expressions.decay_of(starts[name], 1e-6)) if name in starts else e
        for name, e in found.items()
    } or explain_sampled(theirs, references, {}, hints)


def _recognise(
    names: list[str],
    theirs: Mapping[str, tuple[int, np.ndarray]],
    references: References,
    hints: Collection[float],
    signs: bool,
    known: Mapping[str, float | None] | None = None,
    margin: float = 6.0,
) -> dict[str, Explanation] | None:
    matrices = [theirs[name][1].astype(np.float64) for name in names]
    if any(not np.allclose(M, M.T, rtol=0, atol=1e-5 * np.linalg.norm(M)) for M in matrices):
        return None
    rounding = max(fits.rounding(theirs[name][1]) for name in names)
    network = references.network
    jacobians = [references.jacobians[theirs[name][0] - 1] for name in names]
    rng = np.random.default_rng(77)
    most = monte_carlo.widest(len(matrices), references.cases)
    projections = [monte_carlo.projection(rng, len(M), most) for M in matrices]
    projected = [K @ P for K, P in zip(jacobians, projections, strict=True)]
    model = monte_carlo.Model(network.likelihood, references.passed.z, projected, projections, signs)
    # a bias has no A over which its scale could be split
    biases = all(name.startswith("G_bias") for name in names)
    hints = [h for h in hints if not biases or not expressions.is_root(h, references.symbols())]
    candidates = expressions.hinted(expressions.usual(references.symbols()), hints, references.symbols())
    scales = [(known or {}).get(name) for name in names]
    sampled = monte_carlo.recognise(matrices, model, candidates, rounding, scales, margin)
    if sampled is None:
        return None
    notes = ("random signs on the root of F_R (curvature propagation)",) if signs else ()
    return {name: sampled_explanation(sampled, k, references, notes=notes) for k, name in enumerate(names)}


def sampled_explanation(sampled: monte_carlo.Sampled, k: int, references: References, **attributes: Any) -> Explanation:
    """What is to be said of the k-th of the matrices recognised."""
    return claim(
        fisher="monte-carlo",
        samples=sampled.samples,
        scale=sampled.scale.value if sampled.scale else sampled.estimate,
        expression=sampled.scale.text if sampled.scale else None,
        nearest=None if sampled.scale else sampled.likeliest.text,
        scale_error=sampled.error,
        **attributes,
    ).within(sampled.residuals[k], 4 * sampled.expected[k])
