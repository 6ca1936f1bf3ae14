"""Rebuilding what a verdict claims from the claim alone: matrix, scale, layout, history, damping."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import numpy as np

from tests.kfac_ref.oracle.mutations import damping_words, preconditioners, slip_words
from tests.kfac_ref.oracle.mutations.layouts import arranged, candidates
from tests.kfac_ref.oracle.mutations.situations import Numbers


def plain(text: str) -> str:
    for greek, ascii_ in (
        ("λ", "lambda"), ("γ", "gamma"), ("π", "pi"), ("√", "sqrt "), ("η", "eta"), ("θ", "theta"), ("⊗", " kron "),
        ("₂", "2"), ("ℓ", "l"), ("²", "^2"), ("½", "1/2"), ("·", "*"), ("×", "*"), ("⁻¹", "^-1"), ("−", "-"),
    ):  # fmt: skip
        text = text.replace(greek, ascii_)
    return text.lower()


def words_of(claim: dict[str, Any]) -> str:
    return plain(" | ".join(str(claim.get(k) or "") for k in ("convention", "damping", "layout", "matrix", "notes")))


def canonical(numbers: Numbers, name: str) -> np.ndarray:
    """The truth under a quantity's name, as formats have it."""
    kind, i = split_name(numbers, name)
    if kind == "A":
        return numbers.A(i)
    if kind in ("G", "G_bias"):
        return numbers.G(i)
    if kind.startswith("gradient"):
        g = numbers.gradient(i)
        return {"gradient": g, "gradient_weight": g[:, :-1], "gradient_bias": g[:, -1]}[kind]
    if kind.startswith("preconditioned"):
        U = preconditioners.canonical(numbers)[i - 1]
        return {"preconditioned": U, "preconditioned_weight": U[:, :-1], "preconditioned_bias": U[:, -1]}[kind]
    return numbers.fisher(i=i)


def split_name(numbers: Numbers, name: str) -> tuple[str, int | None]:
    """("A", 0), ("G_bias", 2), ("fisher", None); Ā is counted from 0 here."""
    kind, _, number = name.rpartition("_")
    if not number.isdigit():
        return name, None
    return kind, int(number) - (numbers.first_A if kind == "A" else 0)


def rebuilt(numbers: Numbers, name: str, claim: dict, theirs: np.ndarray, by_value: bool = False):
    """Every array that the claim may mean (what a claim leaves unsaid is tried); `by_value`: with the values that it
    gives for the damping, not their names."""
    kind, i = split_name(numbers, name)
    scale = claim.get("scale")
    if scale is None:
        return
    if claim.get("fisher") is None and kind[0] != "A" and not kind.startswith(("pre", "gradient")):
        for fisher in ("exact", "empirical"):  # which are proportional
            yield from rebuilt(numbers, name, claim | {"fisher": fisher}, theirs)
        return
    text, fisher = words_of(claim), claim.get("fisher") or "exact"
    if kind.startswith("preconditioned"):
        values = list(claim.get("damping_values") or []) if by_value else None
        bases = chain(
            damping_words.claimed(numbers, i, claim),
            preconditioners.matching(numbers, text, i, claim.get("fisher"), scale, claim.get("bias"), values),
        )
        part = kind.rpartition("_")[2]
    elif kind.startswith("gradient"):
        bases = [numbers.gradient(i), numbers.gradient(i, 1.0, 0.0)]
        bases += [numbers.gradient(i, 1.0, 1 / scale)] if scale else []
        bases += slip_words.gradients_claimed(numbers, i, claim) if slip_words.is_slip(claim) else []
        bases += [numbers.gradient(i, 1.0, 0.0) + w / scale for w in slip_words.decayed(numbers, i, text)]
        part = kind.rpartition("_")[2]
    elif kind in ("block", "fisher"):
        layers = [i] if i else list(range(1, numbers.layers + 1))
        bases = [numbers.fisher(fisher, i)] if fisher != "identity" else []
        if i:
            bases.append(np.kron(numbers.A(i - 1), numbers.G(i, fisher)))
        bases = slip_words.blocks_claimed(numbers, layers, claim) if slip_words.is_slip(claim) else bases
        for B in bases:
            for order in candidates(numbers.network, layers, text, claim.get("bias")):
                yield scale * B[np.ix_(order, order)]
        return
    elif slip_words.is_slip(claim) and kind in ("A", "G", "G_bias"):
        M = slip_words.factor_claimed(numbers, kind, i + 1 if kind == "A" else i, claim)
        added = sum(claim.get("damping_values") or [0.0])
        if (claim.get("order") or "").startswith("its inverse"):
            yield np.linalg.inv(scale * M + added * np.eye(len(M)))
            return
        yield from _with_history(M, scale, claim.get("history"))
        return
    else:
        factor = "G" if (kind == "A") == ("swapped" in text) else "A"
        # under "swapped" A_{i−1} holds G_i
        M = numbers.A(i if kind == "A" else i - 1) if factor == "A" else numbers.G(i if kind != "A" else i + 1, fisher)
        bias = claim.get("bias") if factor == "A" else "last"
        M = arranged(M, bias, both=True) if factor == "A" else M
        if re.search("centred|centered|covariance", text) and factor == "A":
            mean = numbers.a[i].mean(0)
            M = M - arranged(np.outer(mean, mean), bias, both=True)
        # "added to the diagonal": a factor that was damped before it was handed over
        added = sum(claim.get("damping_values") or [0.0]) if M.shape[0] == M.shape[1] else 0.0
        for B in _with_history(M, scale, claim.get("history")):
            yield B + added * np.eye(len(M)) if added else B
        return
    for U in bases:
        if part in ("weight", "bias"):
            yield scale * (U[:, :-1] if part == "weight" else U[:, -1].reshape(theirs.shape))
            continue
        U = arranged(U, claim.get("bias"))
        yield scale * (U.T if "transposed" in text else U)


def _with_history(M, scale, history):
    if not history or history["start"] == "zero":
        if history:  # its weight must have made the scale, from some simple one
            decay = history["decay"]
            if not 0 < decay < 1:
                return
        yield scale * M
        return
    for k in range(1, 200):
        w = history["decay"] ** k
        yield w * np.eye(len(M)) + (1 - w) * scale * M


def expression_of(numbers: Numbers, claim: dict) -> str | None:
    """What is wrong with the claim's expression, None if its value is the scale for some width d."""
    expression, scale = claim.get("expression"), claim.get("scale")
    if not expression or scale is None:
        return None
    code = plain(expression).upper().replace("SQRT", "sqrt").replace("^", "**")
    code = re.sub(r"sqrt ?([NCD0-9]+)", r"sqrt(\1)", code)
    code = re.sub(r"(?<=[0-9NCD)]) (?=[NCDs(])", "*", code)
    names = {"N": numbers.N, "C": numbers.C, "sqrt": np.sqrt}
    names |= {f"D_{i}": d for i, d in enumerate(numbers.network.sizes)}
    values = []
    for d in {*numbers.network.sizes, *(d + 1 for d in numbers.network.sizes)}:
        try:
            widths = dict.fromkeys(("D", "D_IN", "D_OUT"), d)
            values.append(eval(code, {"__builtins__": {}}, names | widths))
        except (NameError, SyntaxError, TypeError):
            return f"expression {expression!r} can't be read"
    if any(abs(v - abs(scale)) <= 1e-4 * abs(scale) or abs(v - scale) <= 1e-4 * abs(scale) for v in values):
        return None
    return f"expression {expression!r} is not the scale {scale:g}"
