"""Two lines that say what is the matter: what differs and why, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping

from kfac_ref.oracle.preconditioned_checks import OWN_FACTORS
from kfac_ref.oracle.verdict import MATCH, NO_MATCH, Explanation, Verdict

KINDS = {
    "A": "A",
    "G": "G",
    "G_bias": "bias's G",
    "gradient": "gradient",
    "gradient_weight": "gradient",
    "gradient_bias": "gradient",
    "preconditioned": "preconditioned gradient",
    "preconditioned_weight": "preconditioned gradient",
    "preconditioned_bias": "preconditioned gradient",
    "block": "block",
    "fisher": "Fisher",
}


BIASES = {
    "first": "with the bias first",
    "absent": "without the bias",
    "separate": "with the bias in a block of its own",
}


def summarise(verdicts: Mapping[str, Verdict]) -> str:
    """Two lines on all verdicts."""
    differing = {name: v for name, v in verdicts.items() if v.verdict != MATCH}
    if not differing:
        which = (
            f"All {len(verdicts)} quantities match as they stand" if len(verdicts) > 1 else "It matches as it stands"
        )
        return f"{which}.\nNothing is to be converted."
    unexplained = [name for name, v in differing.items() if v.verdict == NO_MATCH]
    explained: dict[tuple[str, str], list[str]] = {}
    advice: list[str] = []
    for name, v in differing.items():
        if v.explanation is None:
            continue
        kind = KINDS[name.rsplit("_", 1)[0] if name != "fisher" else name]
        explained.setdefault((kind, _said(v.explanation)), []).append(name)
        advice += [a for a in _advice(v.explanation, kind) if a not in advice]
    sentences = []
    for (kind, said), names in explained.items():
        of_kind = [n for n in verdicts if KINDS[n.rsplit("_", 1)[0] if n != "fisher" else n] == kind]
        which = "" if len(names) == len(of_kind) else f" ({_listed(names)})"
        sentences.append(f"Your {kind}{which} is {said}")
    if unexplained:
        sentences.append(f"nothing known explains {_listed(unexplained)}")
    first = "; ".join(s.replace("Your", "your", 1) for s in sentences)
    done = "; ".join(advice) or f"the table says {'what comes closest' if unexplained else 'how to convert it'}"
    return f"{first[0].upper()}{first[1:]}.\n{done[0].upper()}{done[1:]}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _said(e: Explanation) -> str:
    """What a quantity is, in place of what it should be."""
    whose = {"exact": "", "empirical": "the empirical Fisher's", "identity": "the identity (forward only)"}
    parts = []
    if e.fisher == "monte-carlo":
        count = f" from about {e.samples} sample{'s' if e.samples != 1 else ''} a case" if e.samples else ""
        parts.append(f"a Monte-Carlo estimate{count}")
    elif e.fisher and whose[e.fisher]:
        parts.append(whose[e.fisher])
    if e.matrix in ("Kronecker product of the factors", "block-tridiagonal inverse"):
        parts.append(f"the {e.matrix}'s" if "inverse" in e.matrix else f"the {e.matrix}")
    if e.start:
        start = "zero" if e.start == "zero" else "the identity"
        parts.append(f"a running average that started from {start} (decay {e.history})")
    if e.scale is not None and e.expression != "1" and e.start != "zero":
        if e.expression == "N" and e.matrix is None:
            parts.append("summed instead of averaged")
        elif e.expression == "-1":
            parts.append("of the opposite sign")
        else:
            value = f" (near {e.nearest})" if e.nearest else ""
            if e.expression and not e.expression.isdigit():
                value = f" = {e.scale:.6g}"
            text = f"{e.expression or f'{e.scale:.6g}'}{value}"
            parts.append(f"{text} times too large" if abs(e.scale) > 1 else f"scaled by {text}")
    if e.bias in ("first", "absent", "separate") and not e.as_it_stands:
        parts.append(
            {
                "first": "with the bias first",
                "absent": "without the bias",
                "separate": "with the bias in a block of its own",
            }[e.bias]
        )
    if e.layout and e.layout != "column-major":
        parts.append(e.layout)
    if e.damping and not e.expected:
        parts.append(f"damped so: {e.damping}" if e.damping != "none" else "undamped")
    parts += [n for n in e.notes if n != OWN_FACTORS]
    return ", ".join(parts) or "another than expected"


def _advice(e: Explanation, kind: str) -> list[str]:
    """What is to be done about it."""
    advice = []
    if e.expression and e.expression != "1" and e.scale:
        value = f" = {e.scale:.6g}" if not e.expression.lstrip("-").isdigit() else ""
        if e.start != "zero":
            advice.append(f"divide {kind} by {e.expression}{value}")
    elif e.scale is not None and e.expression is None:
        advice.append(f"divide {kind} by {e.scale:.6g}")
    if e.fisher == "empirical":
        advice.append("sample targets from the model, or take the expectation over it, in place of the data's targets")
    if e.fisher == "identity":
        advice.append("the Fisher's G takes a backward pass from targets of the model")
    if e.fisher == "monte-carlo" and kind != "preconditioned gradient":
        advice.append("more samples come nearer to the expectation")
    if e.start == "zero":
        advice.append("correct the running average for its start, or begin with the first estimate")
    if e.start == "identity":
        advice.append("begin the running average with the first estimate")
    return advice
