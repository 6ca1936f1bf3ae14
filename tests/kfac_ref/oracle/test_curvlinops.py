"""`check` on what curvlinops says of layers with shared weights: which factors, which Fisher, on which scale."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from kfac_ref.oracle import CapturedCase, check
from tests.kfac_ref.oracle import curvlinops, shared_numbers
from tests.kfac_ref.oracle.curvlinops import Output

FISHERS = {"type-2": "exact", "empirical": "empirical", "mc": "monte-carlo"}
LEAST_RIGHT = 0.97


@cache
def factor(layers: CapturedCase, name: str, sharing: str, fisher: str) -> np.ndarray:
    """By sums written out."""
    A, G = shared_numbers.factors(layers, int(name[2:]), sharing, fisher)
    return A if name[0] == "A" else G


def ratio(theirs: np.ndarray, ours: np.ndarray) -> float:
    """By how much of ours theirs is, nearest."""
    return float(np.vdot(theirs, ours) / np.vdot(ours, ours))


def off(theirs: np.ndarray, claimed: np.ndarray) -> float:
    return float(np.linalg.norm(theirs - claimed) / np.linalg.norm(theirs))


def coincide(layers: CapturedCase, name: str, fisher: str) -> bool:
    """Whether expand and reduce are multiples of each other."""
    expand, reduce = (factor(layers, name, sharing, fisher) for sharing in ("expand", "reduce"))
    return off(expand, ratio(expand, reduce) * reduce) < 1e-8


def grade(name: str, v: dict, output: Output, layers: CapturedCase, scale_of_loss: float) -> str:
    """right, unnamed or wrong; `scale_of_loss`: what G's scale must be, of Monte-Carlo."""
    theirs, T = output.theirs[name], layers.layers[int(name[2:]) - 1].a.shape[1]
    if v["verdict"] == "no-match":
        return "unnamed"
    if v["fisher"] == "monte-carlo":
        if output.fisher != "mc":
            return "wrong"
        near = abs(v["scale"] / scale_of_loss - 1) < 1e-6 or v["expression"] is None
        return "right" if near and v["sharing"] in ([output.sharing] if T > 1 else [None]) else "wrong"
    fisher, sharing = v["fisher"] or "exact", v["sharing"] or "expand"
    if any("positions added" in note for note in v["notes"]):
        # "type-2" goes backward from an output at all positions at once
        off_by = off(theirs, v["scale"] * shared_numbers.positions_together(layers, int(name[2:]), sharing))
        right = (output.fisher, output.sharing) == ("type-2", sharing) and v["expression"] is not None
        return "wrong" if off_by > 1e-8 else "right" if right else "unnamed"
    if v["scale"] is None or off(theirs, v["scale"] * factor(layers, name, sharing, fisher)) > 1e-8:
        return "wrong"
    named = v["expression"] is not None and (T == 1 or sharing == output.sharing or coincide(layers, name, fisher))
    return "right" if named and (name[0] == "A" or fisher == FISHERS[output.fisher]) else "unnamed"


@pytest.fixture(scope="module")
def graded():
    """(file, output, whether captured, quantity, verdict, grade) of all."""
    found = []
    for file, case, layers, output in curvlinops.all_outputs():
        exact = next(
            o
            for o in curvlinops.read(file)[1]
            if (o.reduction, o.fisher, o.sharing) == (output.reduction, "type-2", "expand")
        )
        scale = ratio(exact.theirs["G_1"], factor(layers, "G_1", "expand", "exact"))
        for which in (case, layers) if "small" in file else (layers,):
            verdicts = check(output.theirs, which).as_dict()["quantities"]
            for name, v in verdicts.items():
                found.append((file, output, which is layers, name, v, grade(name, v, output, layers, scale)))
    return found


def told(graded, bad: str) -> str:
    return "\n".join(
        f"{file} {o.reduction} {o.fisher} {o.sharing}{' captured' * captured} {name}: {v['convention']}"
        for file, o, captured, name, v, g in graded
        if g == bad
    )


def test_no_claim_is_wrong(graded):
    assert not told(graded, "wrong"), told(graded, "wrong")


@pytest.mark.parametrize("captured", [False, True])
def test_nearly_all_are_named_right(graded, captured):
    """An output counts where all its factors do."""
    outputs: dict[tuple, set[str]] = {}
    for file, o, which, _, _, g in graded:
        if which == captured:
            outputs.setdefault((file, o.reduction, o.fisher, o.sharing), set()).add(g)
    counts = Counter("right" if grades == {"right"} else "not" for grades in outputs.values())
    print(counts, told(graded, "unnamed"), sep="\n")
    assert len(outputs) == (144 if captured else 72)
    assert counts["right"] >= LEAST_RIGHT * len(outputs), told(graded, "unnamed")
