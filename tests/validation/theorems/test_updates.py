"""Updates with F̆, F̂ and F̃ against dense solves, and pseudo-inverses."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.passes import ForwardPass
from kfac_ref.curvature import fisher, kronecker, kronecker_fisher
from validation.theorems.statement import Instance
from validation.theorems.updates import APPROXIMATIONS, Place, pseudo_root, pseudo_update, rescaled

INSTANCE = Instance((3, 3, 4), ("tanh",), "bernoulli", 30, seed=2, scale=2.0)
CLASSES = Instance((3, 3, 4), ("tanh",), "categorical", 30, seed=2, scale=2.0)


def place(instance: Instance) -> Place:
    return Place.at(instance.forward_pass, instance.Y)


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_updates_solve_with_the_dense_approximation(name):
    here, approximation = place(INSTANCE), APPROXIMATIONS[name]
    F_0 = kronecker_fisher.dense(approximation.of(here.factors))
    found = kronecker.flatten(approximation.update(here))
    np.testing.assert_allclose(F_0 @ found, -kronecker.flatten(here.gradient), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(approximation.condition(here.factors), np.linalg.cond(F_0), rtol=1e-6)


def test_the_gradient_is_the_slope_of_the_mean_loss():
    direction, step = [np.ones_like(W) for W in INSTANCE.parameters], 1e-6

    def h(t: float) -> float:
        moved = [W + t * v for W, v in zip(INSTANCE.parameters, direction, strict=True)]
        z = next(ForwardPass(INSTANCE.network, moved, INSTANCE.X).chunks())[1].z
        return float(np.mean(INSTANCE.network.likelihood.nll(z, INSTANCE.Y)))

    slope = sum(float(np.sum(g)) for g in place(INSTANCE).gradient)
    np.testing.assert_allclose(slope, (h(step) - h(-step)) / (2 * step), rtol=1e-7)


def test_rescaled_updates_minimise_the_model_along_them():
    here = place(INSTANCE)
    direction = APPROXIMATIONS["full"].update(here)
    delta = kronecker.flatten(rescaled(INSTANCE.forward_pass, here, direction))
    F, slope = fisher.dense(INSTANCE.forward_pass), kronecker.flatten(here.gradient)
    # the derivative of M along the update is 0 at its end
    assert abs(delta @ F @ delta + slope @ delta) < 1e-10 * abs(slope @ delta)


def test_pseudo_roots(rng):
    B = rng.standard_normal((5, 3))
    R = pseudo_root(B @ B.T)
    assert R.shape == (3, 5)
    np.testing.assert_allclose(R.T @ R, np.linalg.pinv(B @ B.T, rcond=1e-10), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_pseudo_updates_are_updates_where_nothing_is_singular(name):
    here = place(INSTANCE)
    found, expected = pseudo_update(name, here), APPROXIMATIONS[name].update(here)
    np.testing.assert_allclose(kronecker.flatten(found), kronecker.flatten(expected), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_pseudo_updates_of_classes_solve_what_can_be_solved(name):
    here = place(CLASSES)
    F_0 = kronecker_fisher.dense(APPROXIMATIONS[name].of(here.factors))
    assert np.linalg.matrix_rank(F_0, tol=1e-10) == len(F_0) - 4  # a number for all logits in each column of W_2
    found = kronecker.flatten(pseudo_update(name, here))
    np.testing.assert_allclose(F_0 @ found, -kronecker.flatten(here.gradient), rtol=1e-7, atol=1e-10)
