"""Every statement of `python -m validation theorems`, Hypothesis picking network and data, and shrinking them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings

from tests.validation.theorems.mutations import MUTATIONS
from tests.validation.theorems.strategies import INPUTS, instances
from validation.theorems import STATEMENTS
from validation.theorems.statement import Deviation, Instance, Space

FEW_ADMITTED = [HealthCheck.filter_too_much, HealthCheck.too_slow]


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement(name):
    """As many instances as the command tries, which is fewer where they take long."""
    statement = STATEMENTS[name]

    @settings(max_examples=statement.instances, suppress_health_check=FEW_ADMITTED)
    @given(instances(statement.space))
    def holds(instance: Instance) -> None:
        deviation = statement.check(instance)
        assert deviation.within, f"deviates by {deviation.value:.2g}, allowed are {deviation.tolerance:.2g}"

    holds()


# --- what a failing statement shrinks to ------------------------------------------------------------------------------


def smallest(space: Space, fails) -> Instance:
    return find(instances(space), fails, settings=settings(max_examples=500, database=None))


@pytest.mark.parametrize("name", ["fisher-dense", "tridiagonal-inverse", "pi", "theorem-1-affine-full"])
def test_what_always_fails_shrinks_to_the_smallest_instance_of_its_space(name):
    space = STATEMENTS[name].space
    instance = smallest(space, lambda instance: not Deviation(1.0, 0.0).within)
    layers, width = space.layers[0], space.width[0]
    assert instance.sizes == (*[width] * layers, (space.outputs or space.width)[0])
    assert instance.activations == space.activations[:1] * (layers - 1)
    assert (instance.likelihood, instance.cases) == (space.likelihoods[0], space.cases[0])
    assert instance.seed == 0
    assert type(instance) is Instance  # its inputs are normal


def test_it_shrinks_to_what_fails_yet():
    """Of what fails with three layers or more, and not for seed 0."""
    instance = smallest(Space(), lambda instance: len(instance.sizes) > 3 and instance.seed > 0)
    assert (instance.sizes, instance.cases, instance.seed) == ((1, 1, 1, 1), 1, 1)


def test_a_transposed_psi_is_shown_on_the_smallest_network(monkeypatch):
    MUTATIONS["psi_transposed"].apply(monkeypatch)
    statement = STATEMENTS["tridiagonal-two-layers"]
    instance = smallest(statement.space, lambda instance: not statement.check(instance).within)
    assert (instance.sizes, instance.cases) == ((1, 1, 1), 1)


@pytest.mark.parametrize("inputs", INPUTS)
def test_inputs(inputs):
    """Each kind is found, is what it is called, and is the same each time."""
    space = Space(width=(3, 3), cases=(4, 4))
    instance = smallest(space, lambda instance: getattr(instance, "inputs", "normal") == inputs)
    X = instance.X
    assert X.shape == (4, 3)
    assert {
        "normal": lambda: abs(X.std() - 1) < 0.5,
        "one case repeated": lambda: np.ptp(X, axis=0).max() == 0 < np.ptp(X),
        "the first 0": lambda: np.all(X[:, 0] == 0) and np.all(X[:, 1:] != 0),
        "all equal": lambda: np.ptp(X, axis=1).max() == 0 < np.ptp(X),
        "all 0": lambda: not X.any(),
        "small": lambda: 0 < np.abs(X).max() < 0.1,
    }[inputs]()
