"""`check` on made-up numbers of layers with shared weights: what was done must be named, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.kfac_ref.oracle.shared_mutations import BIASES, Mutation, generate

LEAST_RIGHT = 0.98


def says(v: dict, expected: dict) -> bool:
    """Whether a verdict has the fields expected."""
    for key, value in expected.items():
        said = v.get(key)
        if key == "words":
            fits = value in v["convention"]
        elif key == "scale":
            fits = said is not None and abs(said / value - 1) < 1e-3
        elif key == "damping":
            fits = value in (said or "")
        else:
            fits = said == value
        if not fits:
            return False
    return True


def another_reading(mutation: Mutation, name: str, v: dict) -> bool:
    """Whether a claim of a factor, computed, is theirs as well: where kinds are multiples of each other, for one."""
    if name[0] not in "AG" or v["scale"] is None or "order" in v["convention"]:
        return False
    i = int(name[2:])
    ours = mutation.numbers.factor(name[0], i, v["sharing"] or "expand", v["fisher"] or "exact")
    ours = v["scale"] * (BIASES.get(v["bias"], BIASES["last"])(ours) if name[0] == "A" else ours)
    theirs = mutation.theirs[name]
    return ours.shape == theirs.shape and np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def coincide(mutation: Mutation, name: str, v: dict) -> bool:
    """Whether expand and reduce of a factor are multiples of each other, so that either name is right."""
    i, fisher = int(name[2:]), v["fisher"] or "exact"
    a, b = (mutation.numbers.factor(name[0], i, sharing, fisher) for sharing in ("expand", "reduce"))
    return bool(np.linalg.norm(a * np.vdot(a, b) / np.vdot(a, a) - b) <= 1e-8 * np.linalg.norm(b))


def grade(mutation: Mutation, name: str, v: dict) -> str:
    """right, unnamed (also where another reading fits), or wrong."""
    if says(v, mutation.said[name]):
        return "right"
    if v["verdict"] == "no-match":
        return "unnamed"
    if another_reading(mutation, name, v):
        return "right" if coincide(mutation, name, v) else "unnamed"
    return "wrong"


@pytest.fixture(scope="module")
def graded():
    """(mutation, whether captured, grades of its quantities, what was said)."""
    found = []
    for mutation in generate():
        for captured in (False, True):
            case = mutation.numbers.captured if captured else mutation.numbers.case
            verdicts = check(mutation.theirs, case).as_dict()["quantities"]
            grades = {name: grade(mutation, name, v) for name, v in verdicts.items()}
            said = {name: v["convention"] for name, v in verdicts.items() if grades[name] != "right"}
            found.append((mutation, captured, grades, said))
    return found


def told(graded, bad: str) -> str:
    return "\n".join(
        f"{mutation.numbers.name}{' captured' * captured}: {mutation.what}: {said}"
        for mutation, captured, grades, said in graded
        if bad in grades.values()
    )


def test_no_claim_is_wrong(graded):
    assert not told(graded, "wrong"), told(graded, "wrong")


def test_nearly_all_are_named_right(graded):
    counts = Counter("right" if set(grades.values()) == {"right"} else "not" for _, _, grades, _ in graded)
    assert len(graded) >= 300
    assert counts["right"] >= LEAST_RIGHT * len(graded), f"{counts}\n{told(graded, 'unnamed')}"
