"""Running averages kept as rows: what they come to when they are multiplied out, and when that is."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Network, Settings, glorot_initialisation
from kfac_ref.curvature import implicit_factors
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.implicit_factors import ImplicitFactors
from tests.conftest import assert_close, assert_home, to
from tests.dense import dense_factors

NETWORK = Network([3, 8, 2], "tanh", "gaussian")


def estimates(rng, number: int, cases: int) -> list[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Parameters, inputs (6, 3) and targets (cases, 2) of some iterations."""
    return [
        (
            [rng.standard_normal(shape) for shape in NETWORK.shapes],
            rng.standard_normal((6, 3)),
            rng.standard_normal((cases, 2)),
        )
        for _ in range(number)
    ]


def running(like, made, epsilons, chunk_size=5000, tridiagonal=True):
    """Averages after each iteration."""
    found, average = [], None
    for (W, X, Y), epsilon in zip(made, epsilons, strict=True):
        parameters, inputs, targets = to(like, W, X, Y)
        average = implicit_factors.average(
            average,
            ForwardPass(NETWORK, parameters, inputs, chunk_size),
            lambda rows, z, targets=targets: targets[rows, :],
            Y.shape[0],
            tridiagonal,
            epsilon,
        )
        found.append(average)
    return found


def dense(made, epsilons, cases: int):
    """ε·old + (1−ε)·new with dense matrices."""
    A, G = None, None
    for (W, X, Y), epsilon in zip(made, epsilons, strict=True):
        new_A, new_G = dense_factors(NETWORK, W, X[:cases], Y)
        if A is None:
            A, G = new_A, new_G
        A = {i: epsilon * A[i] + (1 - epsilon) * new_A[i] for i in A}
        G = {i: epsilon * G[i] + (1 - epsilon) * new_G[i] for i in G}
    return A, G


@pytest.mark.parametrize("chunk_size", [5000, 2])
@pytest.mark.parametrize("tridiagonal", [True, False])
def test_multiplied_out_it_is_the_running_average(like, rng, chunk_size, tridiagonal):
    """3 of 6 cases an iteration, so that with 8 units the third estimate since the first fills the room."""
    epsilons = [0.0, 0.5, 0.75, 0.9, 0.95]
    made = estimates(rng, 5, 3)
    found = running(like, made, epsilons, chunk_size, tridiagonal)
    assert [isinstance(f, ImplicitFactors) for f in found] == [False, True, True, False, True]
    for n in range(1, 6):
        A, G = dense(made[:n], epsilons[:n], 3)
        pairs = [(0, 0), (1, 1), (0, 1)] if tridiagonal else [(0, 0), (1, 1)]
        assert set(found[n - 1].A) == set(pairs)
        for i, j in pairs:
            assert_close(found[n - 1].A[i, j], A[i, j], like)
            assert_close(found[n - 1].G[i + 1, j + 1], G[i + 1, j + 1], like)
            assert_home(found[n - 1].A[i, j], like)


def test_as_many_cases_as_units_are_multiplied_out_at_once(rng):
    X, W = rng.standard_normal((9, 3)), [rng.standard_normal(shape) for shape in NETWORK.shapes]
    for cases, kind in ((7, ImplicitFactors), (8, Factors), (9, Factors)):
        found = running(np.zeros(0), [(W, X, rng.standard_normal((cases, 2)))] * 2, [0.0, 0.5])
        assert isinstance(found[1], kind)


def test_what_is_kept_is_no_view_of_the_whole_mini_batch(rng):
    found = running(np.zeros(0), estimates(rng, 2, 3), [0.0, 0.5])[1]
    for rows in (*found.estimates[0].a, *found.estimates[0].g):
        assert rows.shape[0] == 3
        assert rows.base is None or rows.base.size == rows.size


def test_old_averages_do_not_change(rng):
    made = estimates(rng, 3, 3)
    second, third = running(np.zeros(0), made, [0.0, 0.5, 0.5])[1:]
    A, _ = dense(made[:2], [0.0, 0.5], 3)
    np.testing.assert_allclose(third.A[0, 0], dense(made, [0.0, 0.5, 0.5], 3)[0][0, 0], atol=1e-14)
    np.testing.assert_allclose(second.A[0, 0], A[0, 0], atol=1e-14)


def kinds(rng, iterations: int, **constants) -> list[type]:
    """What the state's factors are after each iteration, on 6 cases."""
    kfac = KFAC(NETWORK, Settings(**constants))
    state, found = kfac.init(glorot_initialisation(NETWORK, 0)), []
    for _ in range(iterations):
        X = rng.standard_normal((6, 3))
        state, _ = kfac.step(state, Batch(X, X[:, :2]))
        found.append(type(state.factors))
    return found


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
def test_k_fac_multiplies_out_where_it_inverts(rng, inverse):
    """k = 1, 2, 3, 4 and 8 invert; 2 cases of 8 units an iteration would fill the room at 4 estimates."""
    found = kinds(rng, 8, tau1=1 / 3, T3=4, T2=4, inverse=inverse)
    assert found == [Factors] * 4 + [ImplicitFactors] * 3 + [Factors]


def test_they_are_multiplied_out_once_where_candidates_need_them(rng):
    """T₂ is no multiple of T₃: at k = 5 candidates for γ are inverted, and what was multiplied out for them is kept."""
    found = kinds(rng, 6, tau1=1 / 6, T3=20, T2=5, inverse="block-diagonal")
    assert found == [Factors] * 3 + [ImplicitFactors, Factors, ImplicitFactors]


def test_a_restarted_average_forgets_what_was_not_finite(rng):
    made = estimates(rng, 2, 3)
    bad = Factors({(0, 0): np.full((4, 4), np.nan)}, {(1, 1): np.full((8, 8), np.nan)})
    parameters, X, Y = made[0]
    found = implicit_factors.average(bad, ForwardPass(NETWORK, parameters, X), lambda rows, z: Y[rows], 3, False, 0.0)
    assert np.isfinite(found.A[0, 0]).all()
