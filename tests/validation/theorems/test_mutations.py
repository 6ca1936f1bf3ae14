"""Each statement fails where what it says is broken on purpose, on the instances on which it holds otherwise."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.validation.theorems.mutations import MUTATIONS
from validation.theorems import STATEMENTS, attempt
from validation.theorems.statement import Instance

PATHS = 3
TRIED = 20
"""Instances of a statement; of those that train, PATHS."""


@cache
def drawn(name: str) -> tuple[Instance, ...]:
    """Instances of a statement, drawn while nothing is broken."""
    rng = np.random.default_rng([11, *name.encode()])
    return tuple(STATEMENTS[name].space.random(rng) for _ in range(PATHS if "corollary-2" in name else TRIED))


def fails(name: str, instances: tuple[Instance, ...]) -> bool:
    """Whether the statement fails on any of these: by its numbers, as one that raises would not say much."""
    # copies, as an instance keeps the network that it has made
    results = (attempt(STATEMENTS[name], replace(instance)) for instance in instances)
    return any(not deviation.within and not raised for deviation, raised in results)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_holds_where_nothing_is_broken(name):
    assert all(STATEMENTS[name].check(replace(instance)).within for instance in drawn(name))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(name, monkeypatch):
    """By every statement that it names."""
    mutation = MUTATIONS[name]
    instances = {statement: drawn(statement) for statement in mutation.caught_by}
    mutation.apply(monkeypatch)
    assert not [statement for statement in mutation.caught_by if not fails(statement, instances[statement])]


def test_every_statement_catches_a_mutation():
    caught = {statement for mutation in MUTATIONS.values() for statement in mutation.caught_by}
    assert caught == set(STATEMENTS)


def test_every_mutation_says_what_is_broken():
    assert all(mutation.says.endswith(".") and mutation.caught_by for mutation in MUTATIONS.values())
