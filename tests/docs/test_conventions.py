"""docs/conventions.md says of each program what the results that it names have, no less and no more."""

from __future__ import annotations

import re

import pytest

from tests.docs.examples import FOLDER
from validation import peers

PAGE = FOLDER.parent / "conventions.md"
RESULTS = FOLDER.parents[1] / "validation" / "results" / "peers"
TOLD_OF_FACTORS = ("A", "G", "G_bias")


def said() -> dict[str, set[str]]:
    """Example of `validation/peers`: what the check said of its factors, and of orientation and damping."""
    found: dict[str, set[str]] = {}
    for path in RESULTS.glob("*.txt"):
        for example, text in re.findall(r"^# (\w+)\n(.*?)(?=^# |\Z)", path.read_text(encoding="utf-8"), re.M | re.S):
            words = found.setdefault(example, set())
            for quantity, convention in re.findall(r"^([A-Za-z_]+)_\d+ +match(?:-under)? +\S+ +(.*)$", text, re.M):
                for part in convention.split("; "):
                    part = re.sub(r", (?:about \d+ samples a case|for a kernel of .*)$", "", part)
                    if quantity in TOLD_OF_FACTORS or re.match("damping: |transposed|row-major", part):
                        words.add(part.removeprefix("damping: "))
                words.discard("x 1")
    return found


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_it_has_twelve_programs_and_every_example():
    assert len(rows()) == len({row[0] for row in rows()}) >= 12
    named = {example for row in rows() for example in re.findall(r"`(\w+)`", row[-1])}
    assert named == {example for examples in peers.EXAMPLES.values() for example in examples}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_is_what_its_results_have(row):
    *cells, shown = row
    results = said()
    examples = re.findall(r"`(\w+)`", shown)
    assert set(examples) <= set(results)
    assert set(re.findall(r"`([^`]+)`", " ".join(cells))) == set().union(*(results[example] for example in examples))
