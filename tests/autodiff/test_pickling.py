"""Networks pickle: rows of the tables by their names, whatever their functions are."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from autodiff import ACTIVATIONS, LIKELIHOODS, Affine, Elementwise, Likelihood, Network, forward


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("row", [*ACTIVATIONS.values(), *LIKELIHOODS.values()], ids=lambda row: row.name)
def test_a_row_of_a_table_comes_back_as_itself(row, protocol):
    assert pickle.loads(pickle.dumps(row, protocol)) is row
    assert copy.deepcopy(row) is row


def test_a_network_comes_back_equal():
    network = Network([3, 5, 4, 2], ["relu", "softplus"], "categorical")
    assert pickle.loads(pickle.dumps(network)) == network


def test_an_affine_activation_comes_back_as_the_same_function(rng):
    base = Network(
        [3, 4, 2], [Affine(ACTIVATIONS["tanh"], *(rng.standard_normal(s) for s in ((4, 4), 4, (4, 4))))], "gaussian"
    )
    parameters, X = [rng.standard_normal(s) for s in base.shapes], rng.standard_normal((6, 3))
    again = pickle.loads(pickle.dumps(base))
    np.testing.assert_array_equal(forward(again, parameters, X).z, forward(base, parameters, X).z)


def _cube(s):
    return s**3


def _cube_times_slope(a, t):
    return 3 * np.cbrt(a) ** 2 * t


def test_rows_of_the_user_s_own_pickle_if_their_functions_do():
    """One that has a name of the table's, but other functions, is not taken for the table's."""
    for name in ("cube", "tanh"):
        again = pickle.loads(pickle.dumps(Elementwise(name, _cube, _cube_times_slope)))
        assert again == Elementwise(name, _cube, _cube_times_slope)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(Elementwise("square", lambda s: s**2, lambda a, t: t))
    own = Likelihood("mine", _cube, float, _cube, _cube, _cube, _cube, _cube)
    assert pickle.loads(pickle.dumps(own)) == own
