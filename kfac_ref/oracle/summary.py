"""Two lines that say what is the matter: what differs and why, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping

from kfac_ref.oracle.formulas import advice
from kfac_ref.oracle.preconditioned_checks import OWN_FACTORS
from kfac_ref.oracle.theirs import kind_of
from kfac_ref.oracle.verdict import MATCH, NO_MATCH, Explanation, Verdict

LONGEST = 5
"""Sentences in a line; what there is besides is left to the table."""
BIASES = {
    "first": "with the bias first",
    "absent": "without the bias",
    "separate": "with the bias in a block of its own",
}
MATRICES = {
    "Kronecker product of the factors": "the Kronecker product of the factors",
    "block-tridiagonal inverse": "the block-tridiagonal inverse's",
}


def summarise(verdicts: Mapping[str, Verdict]) -> str:
    """Two lines on all verdicts."""
    differing = {name: v for name, v in verdicts.items() if v.verdict != MATCH}
    if not differing:
        which = f"All {len(verdicts)} quantities match" if len(verdicts) > 1 else "It matches"
        return f"{which} as {'they stand' if len(verdicts) > 1 else 'it stands'}.\nNothing is to be converted."
    explained = {name: v.explanation for name, v in differing.items() if v.explanation is not None}
    sentences = [
        f"your {which} is {what}"
        for which, what in _grouped({n: [_said(n, e)] for n, e in explained.items()}, verdicts)
    ]
    unexplained = [name for name, v in differing.items() if v.verdict == NO_MATCH]
    if unexplained:
        sentences.append(f"nothing known explains {_listed(unexplained)}")
    said = {n: advice(e, called(n) != "preconditioned gradient") for n, e in explained.items()}
    advised = [what.replace("{}", which) for which, what in _grouped(said, verdicts, named=True)]
    advised = list(dict.fromkeys(advised))
    if not advised:
        advised = [f"the table has {'what comes closest' if unexplained else 'what is to be converted'}"]
    return f"{_line(sentences)}\n{_line(advised)}"


def called(name: str) -> str:
    """What a quantity is called: A, G, "bias's G", gradient, …"""
    kind = kind_of(name)
    special = {"fisher": "Fisher", "G_bias": "bias's G"}
    return special.get(kind) or {"preconditioned": "preconditioned gradient"}.get(first := kind.split("_")[0], first)


def _grouped(
    said: Mapping[str, list[str]], verdicts: Mapping[str, Verdict], named: bool = False
) -> list[tuple[str, str]]:
    """(which, what) for everything said of quantities: which are all of their kind, or named."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, sentences in said.items():
        for what in sentences:
            groups.setdefault((called(name), what), []).append(name)
    found = []
    for (kind, what), names in groups.items():
        whole = len(names) == sum(called(n) == kind for n in verdicts)
        which = _listed(names)
        found.append((kind if whole else which if named else f"{kind} ({which})", what))
    return found


def _line(sentences: list[str]) -> str:
    if len(sentences) > LONGEST:
        sentences = [*sentences[:LONGEST], "more is in the table"]
    line = "; ".join(sentences)
    return f"{line[0].upper()}{line[1:]}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _said(name: str, e: Explanation) -> str:
    """What a quantity is, in place of what it should be."""
    parts = []
    if e.fisher == "monte-carlo":
        count = f" from about {e.samples} sample{'s' if e.samples != 1 else ''} a case" if e.samples else ""
        parts.append(f"a Monte-Carlo estimate{count}")
    elif e.fisher in ("empirical", "identity"):
        parts.append("the empirical Fisher's" if e.fisher == "empirical" else "the identity (forward only)")
    if e.matrix in MATRICES:
        parts.append(MATRICES[e.matrix])
    parts += [slip for slip in (e.place, e.order, e.cases) if slip]
    if e.start:
        start = "zero" if e.start == "zero" else "the identity"
        parts.append(f"a running average that started from {start} (decay {e.history})")
    if e.scale is not None and e.expression != "1" and e.start != "zero":
        parts.append(_scale(e))
    if e.bias in BIASES and not e.as_it_stands and not ("_weight_" in name or "_bias_" in name):
        parts.append(BIASES[e.bias])
    if e.layout and e.layout != "column-major":
        parts.append(e.layout)
    if e.damping and not e.expected:
        parts.append(f"damped so: {e.damping}" if e.damping != "none" else "undamped")
    parts += [n for n in e.notes if n != OWN_FACTORS]
    return ", ".join(parts) or "another than expected"


def _scale(e: Explanation) -> str:
    """How a scale is off, in words."""
    assert e.scale is not None
    sign, size = ("of the opposite sign", abs(e.scale)) if e.scale < 0 else ("", e.scale)
    text = (e.expression or f"{size:.6g}").removeprefix("-")
    if text == "1":
        return sign
    if text == "N" and e.matrix is None:
        how = "summed instead of averaged"
    else:
        value = f" = {size:.6g}" if e.expression and not text.isdigit() else ""
        near = f" (near {e.nearest.removeprefix('-')})" if e.nearest else ""
        how = f"{text}{value}{near} times too large" if size > 1 else f"scaled by {text}{value}{near}"
    return f"{sign}, {how}" if sign else how
