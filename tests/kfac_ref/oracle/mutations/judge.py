"""Is a verdict right? A judge that rebuilds what a verdict claims from its own numbers, and compares it with theirs.

A claim is *wrong* if the matrix it names, in the layout, at the scale and with the history or damping that it names, is
not theirs to rounding (a Monte-Carlo claim: if theirs was not sampled and is not within what sampling gives). A claim
that is numerically true but does not say all that was done is *misnamed*; "no-match" where something is to be named is
*unnamed*.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kfac_ref.oracle.case import Case
from tests.kfac_ref.oracle.mutations.rebuild import canonical, expression_of, rebuilt, split_name, words_of
from tests.kfac_ref.oracle.mutations.sampling import Sampling
from tests.kfac_ref.oracle.mutations.situations import Numbers

DECAYS = (0.5, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
FISHERS = ("exact", "empirical", "monte-carlo", "identity")


@dataclass(frozen=True)
class Expected:
    """What the verdict on one quantity must be, besides being true."""

    verdict: str = "claim"
    """"claim", "no-match", or "either" where both are right."""
    fisher: str | None = None
    """Judged only where it is "monte-carlo"; for the others the numbers tell."""
    samples: tuple[float, float] | None = None
    history: str | None = None
    """"zero" or "identity" if that must be said; "zero?" or "identity?" if it may."""
    weight: float = 0.0
    """What is left of the start of a history: its decay to the power of the updates."""
    words: str = ""
    """A regular expression for the verdict's strings, lower case and in ASCII."""


@dataclass
class Mutation:
    kind: str
    what: str
    case: Case
    theirs: dict[str, np.ndarray]
    expected: dict[str, Expected]
    seed: int = 0
    sampling: dict[str, list[Sampling]] = field(default_factory=dict)

    def __str__(self) -> str:
        c = self.case
        return (
            f"[{self.kind} #{self.seed}] {self.what} · {c.network}, N = {len(c.X)}, gamma {c.gamma}, lambda {c.lam}, "
            f"eta {c.eta}, {next(iter(self.theirs.values())).dtype}"
        )


def close(x, y, tolerance: float) -> bool:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return x.shape == y.shape and bool(np.linalg.norm(x - y) <= tolerance * max(np.linalg.norm(y), 1e-300))


def judge(mutation: Mutation, report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Per quantity: "right", "unnamed", "misnamed" or "wrong", and why."""
    json.dumps(report, allow_nan=False)
    numbers = Numbers(mutation.case)
    numbers.own = {k: x.astype(float) for k, x in mutation.theirs.items() if k[0] in "AG"}
    numbers.first_A = int(f"A_{numbers.layers}" in mutation.theirs)  # whether Ā is counted from 1
    return {
        name: _judge(mutation, numbers, name, expected, report["quantities"].get(name))
        for name, expected in mutation.expected.items()
    }


def _judge(mutation: Mutation, numbers: Numbers, name: str, expected: Expected, claim: dict | None) -> tuple[str, str]:
    if claim is None:
        return "unnamed", "the quantity is not in the report"
    theirs = np.asarray(mutation.theirs[name], dtype=float)
    if claim["verdict"] == "no-match":
        free = _is_one_number(numbers, name, theirs, 1e-5)
        return ("right", "") if free or expected.verdict != "claim" else ("unnamed", "nothing was named")
    single = mutation.theirs[name].dtype == np.float32
    # preconditioning amplifies rounding by condition numbers
    tolerance = (2e-3 if single else 1e-6) if name.startswith("pre") else (1e-4 if single else 1e-8)
    if claim["verdict"] not in ("match", "match-under"):
        return "wrong", f"verdict {claim['verdict']!r}"
    if claim.get("fisher") not in (*FISHERS, None):
        return "wrong", f"fisher {claim['fisher']!r}"
    if claim.get("fisher") == "monte-carlo" and not name.startswith("pre"):
        return _judge_sampled(mutation, name, expected, claim, theirs)
    if expected.verdict == "no-match" and name.startswith("pre"):
        return "wrong", "nothing known was done, but something is named"
    if claim.get("scale") is None:
        return _judge_scaleless(numbers, name, claim, theirs, tolerance)
    built = list(rebuilt(numbers, name, claim, theirs))
    if not any(close(b, theirs, tolerance) for b in built):
        by_value = rebuilt(numbers, name, claim, theirs, by_value=True) if name.startswith("pre") else ()
        if any(close(b, theirs, tolerance) for b in by_value):
            return "misnamed", "a damping's value that is nothing of the case, in place of what was done"
        nearest = min(
            (np.linalg.norm(b - theirs) / np.linalg.norm(theirs) for b in built if b.shape == theirs.shape),
            default=np.inf,
        )
        return "wrong", f"what it claims is {nearest:.1e} off"
    if (said := expression_of(numbers, claim)) is not None:
        return "wrong", said
    stands = close(canonical(numbers, name), theirs, tolerance)
    # F̂⁻¹∇h is in the truth too
    tridiagonal = name.startswith("pre") and "tridiagonal" in words_of(claim) + str(claim.get("matrix"))
    if claim["verdict"] == "match" and not stands and not tridiagonal:
        return "wrong", '"match", but it does not as it stands'
    # an identity may be one where the exact G is one too, and blocks of their own may be called so
    other = claim.get("fisher") not in (None, "exact") or "_weight_" in name or "_bias_" in name
    other = other or bool(claim.get("matrix"))  # such as Ā⊗G where F is the same
    other = other or any(k.startswith("G_bias") for k in mutation.theirs)
    exactly = close(canonical(numbers, name), theirs, 1e-6 if single else 1e-12)
    if claim["verdict"] == "match-under" and exactly and not other:
        return "misnamed", '"match-under", but it matches as it stands'
    history = (claim.get("history") or {}).get("start")
    if expected.history == "identity" and history != "identity":
        return "misnamed", "the history is not named"
    if expected.history == "zero" and history is None and not claim.get("expression"):
        return "misnamed", "the history is not named"
    if history and not _decay_is(claim["history"]["decay"], expected, 1e-3 if single else 1e-6):
        return "misnamed", f"a history with decay {claim['history']['decay']:g}, of which nothing tells"
    if not stands and not re.search(expected.words, words_of(claim)):
        return "misnamed", f"/{expected.words}/ is not said"
    return "right", ""


def _judge_scaleless(numbers: Numbers, name: str, claim: dict, theirs, tolerance: float) -> tuple[str, str]:
    """A claim that nothing tells which of several proportional matrices it is, nor the scale therefore."""
    for B in rebuilt(numbers, name, claim | {"scale": 1.0}, theirs):
        ratio = np.vdot(B, theirs) / np.vdot(B, B) if B.shape == theirs.shape else 0.0
        if close(ratio * B, theirs, tolerance):
            if claim.get("history") or (claim.get("damping") and not name.startswith("pre")):
                return "misnamed", "far-fetched: a scale that is not told, and more"
            return ("misnamed", "the scale is simple") if simple(numbers, ratio) else ("right", "")
    return "wrong", "it is not proportional to what it claims"


def simple(numbers: Numbers, ratio: float) -> bool:
    """Whether a ratio is one of the simple ones; any other might be made of many things."""
    N, C = numbers.N, numbers.C
    ratios = [1, -1, N, 1 / N, 1 / N**2, N**2, 0.5, 2, 4, 1 / C, 1 / C**2, C]
    return any(np.isclose(ratio, r, rtol=1e-4) for r in ratios)


def _is_one_number(numbers: Numbers, name: str, theirs: np.ndarray, tolerance: float) -> bool:
    """Whether all that there is to explain is one number, and no simple one: a single entry, or a multiple of the exact
    matrix where the empirical one or the identity is one too."""
    kind, i = split_name(numbers, name)
    B = canonical(numbers, name)
    if theirs.size == 1:
        return B.size != 1 or not simple(numbers, theirs.item() / B.item())
    if kind not in ("G", "block", "fisher") or B.shape != theirs.shape:
        return False
    others = [np.eye(len(B)), numbers.G(i, "empirical") if kind == "G" else numbers.fisher("empirical", i)]
    ratio = np.vdot(B, theirs) / np.vdot(B, B)
    proportional = [close(np.vdot(B, M) / np.vdot(B, B) * B, M, 1e-9) for M in others]
    return close(ratio * B, theirs, tolerance) and any(proportional) and not simple(numbers, float(ratio))


def _decay_is(decay: float, expected: Expected, tolerance: float) -> bool:
    """Whether some number of updates with this decay leaves the start's weight (0.9² is as good as 0.81); where there
    was no history, whether the decay is one that is used, so that the claim is not far-fetched."""
    if not expected.weight:
        return any(abs(decay - d) < 1e-6 for d in DECAYS)
    if not expected.history or expected.history.endswith("?"):
        # a coincidence, such as (1 − 0.9)/5 = 1 − 0.98, or out of float32's sight
        return (
            tolerance > 1e-4
            or any(abs(decay - d) < 1e-6 for d in DECAYS)
            or _decay_is(decay, replace(expected, history="identity"), tolerance)
        )
    updates = np.log(expected.weight) / np.log(decay)
    return bool(round(updates) >= 1 and abs(updates - round(updates)) < tolerance * max(1.0, updates))


def _judge_sampled(mutation: Mutation, name: str, expected: Expected, claim: dict, theirs) -> tuple[str, str]:
    laws, samples = mutation.sampling.get(name, []), claim.get("samples")
    if name.startswith("gradient") or (name.startswith("A_") and claim.get("layout") != "swapped"):
        return "wrong", "nothing is sampled in it"
    if expected.fisher == "monte-carlo":
        if claim.get("scale") is None or not laws:
            return "wrong", "no scale"
        if not any(law.tenable(theirs / claim["scale"], 20) for law in laws):
            return "wrong", f"at the scale {claim['scale']:g} it is out of what sampling gives"
        low, high = expected.samples or (1, np.inf)
        known = expected.samples == (1, 1) and samples is None  # the case's own
        if not known and (samples is None or not low <= samples <= high):
            return "misnamed", f"samples {samples}, expected {low:.3g} to {high:.3g}"
        return "right", ""
    if expected.verdict == "claim":
        return "wrong", "it was not sampled"
    # it may be called so at a scale that is something; at any scale, too much would fit
    if claim.get("scale") and claim.get("expression") and any(law.tenable(theirs / claim["scale"]) for law in laws):
        return "right", ""
    return "wrong", "it was not sampled, and is out of what sampling gives"
