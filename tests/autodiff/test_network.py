"""What a network is, and initial parameters."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import ACTIVATIONS, LIKELIHOODS, Affine, Network, glorot_initialisation, sparse_initialisation
from tests.conftest import make_like

NETWORK = Network([3, 5, 4, 2], ["tanh", "relu"], "gaussian")


def test_shapes_and_names():
    assert NETWORK.sizes == (3, 5, 4, 2)
    assert NETWORK.layers == 3
    assert NETWORK.shapes == [(5, 4), (4, 6), (2, 5)]
    assert [phi.name for phi in NETWORK.activations] == ["tanh", "relu", "identity"]
    assert NETWORK.likelihood is LIKELIHOODS["gaussian"]
    assert str(NETWORK) == "3-5-4-2 (tanh, relu; gaussian)"
    assert str(Network([3, 2], "tanh", "gaussian")) == "3-2 (linear; gaussian)"


@pytest.mark.parametrize(
    "activations",
    ["tanh", ["tanh", "tanh"], ["tanh", "tanh", "identity"], ACTIVATIONS["tanh"], (ACTIVATIONS["tanh"], "tanh")],
)
def test_ways_to_name_activations(activations):
    assert [phi.name for phi in Network([2, 3, 3, 1], activations, "bernoulli").activations] == [
        "tanh",
        "tanh",
        "identity",
    ]


def test_one_layer_has_no_hidden_activation():
    assert [phi.name for phi in Network([2, 3], "tanh", "bernoulli").activations] == ["identity"]


def test_affine_activations_are_kept():
    made = Affine(ACTIVATIONS["tanh"], np.eye(3), np.zeros(3), np.eye(3))
    assert Network([2, 3, 1], made, "gaussian").activations[0] is made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3], "tanh", "gaussian"), "at least two positive integers"),
        (([3, 0, 2], "tanh", "gaussian"), "at least two positive integers"),
        (([3, 4, 4, 2], ["tanh"], "gaussian"), "3 layers needs 3 activations; got 1"),
        (([3, 4, 2], ["tanh", "tanh"], "gaussian"), 'last layer must be "identity".*got "tanh"'),
        (([3, 4, 2], "tahn", "gaussian"), 'unknown activation "tahn"; did you mean "tanh"'),
        (([3, 4, 2], "tanh", "gausian"), 'unknown likelihood "gausian"; did you mean "gaussian"'),
    ],
)
def test_wrong_networks(arguments, message):
    with pytest.raises(ValueError, match=message):
        Network(*arguments)


def test_wrong_types():
    with pytest.raises(TypeError):
        Network([3, 4, 2], [3], "gaussian")


def test_check_parameters():
    good = [np.zeros(shape) for shape in NETWORK.shapes]
    NETWORK.check_parameters(good)
    with pytest.raises(ValueError, match=r"W has 2 arrays.*3 layers"):
        NETWORK.check_parameters(good[:2], "W")
    with pytest.raises(ValueError, match=r"parameters: layer 2 has shape \(4, 5\), expected \(4, 6\)"):
        NETWORK.check_parameters([good[0], np.zeros((4, 5)), good[2]])


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        ((4, 2), (4, 2), r"X has shape \(4, 2\), expected \(cases, 3\)"),
        ((4, 3), (4, 3), r"Y has shape \(4, 3\), expected \(cases, 2\)"),
        ((3,), (4, 2), r"X has shape \(3,\)"),
        ((4, 3), (5, 2), "X has 4 cases and Y has 5"),
        ((0, 3), (0, 2), "no cases"),
    ],
)
def test_check_batch(X, Y, message):
    NETWORK.check_batch(np.zeros((4, 3)), np.zeros((4, 2)), np.zeros(0))
    with pytest.raises(ValueError, match=message):
        NETWORK.check_batch(np.zeros(X), np.zeros(Y), np.zeros(0))


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (np.zeros((4, 3), np.float32), np.zeros((4, 2)), "X has dtype float32 .* expected float64"),
        (np.zeros((4, 3)), np.zeros((4, 2), np.uint8), "Y has dtype uint8 .* expected float64"),
        ([[0.0] * 3] * 4, np.zeros((4, 2)), "X is a list, expected a ndarray"),
        (np.zeros((4, 3)), make_like("strict-float64"), "Y is a .*expected a ndarray"),
    ],
    ids=["float32", "integers", "a list", "another library"],
)
def test_batches_must_be_like_the_parameters(X, Y, message):
    """Otherwise float32 parameters would silently become float64, and integers overflow."""
    with pytest.raises(TypeError, match=message):
        NETWORK.check_batch(X, Y, np.zeros(0))


@pytest.mark.parametrize("bad", [[0.0], np.zeros((2, 4), np.int64), None], ids=["a list", "integers", "None"])
def test_parameters_must_be_floating_point_arrays(bad):
    with pytest.raises(TypeError, match=r"parameters: layer 1 (is a|has dtype).*expected"):
        NETWORK.check_parameters([bad] * NETWORK.layers)


def test_an_affine_activation_must_be_as_wide_as_its_layer():
    affine = Affine(ACTIVATIONS["tanh"], np.eye(3), np.zeros(3), np.eye(3))
    assert Network([2, 3, 1], [affine], "gaussian").activations[0] is affine
    with pytest.raises(ValueError, match=r"layer 1 has 4 units, but its activation affine\(tanh\) is for 3"):
        Network([2, 4, 1], [affine], "gaussian")


# --- initialisations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("initialise", [sparse_initialisation, glorot_initialisation])
def test_initial_parameters_are_float64_and_follow_the_seed(initialise):
    one, again, other = initialise(NETWORK, 1), initialise(NETWORK, 1), initialise(NETWORK, 2)
    NETWORK.check_parameters(one)
    assert all(W.dtype == np.float64 for W in one)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_sparse_initialisation_draws_connections_with_replacement():
    n, units = 40, 4000
    W = sparse_initialisation(Network([n, units], "logistic", "bernoulli"), 0)[0]
    count = np.count_nonzero(W[:, :-1], axis=1)
    assert count.max() <= 15
    # of n inputs one is missed by all 15 draws with probability (1 − 1/n)^15; the count's variance is below the mean
    expected = n * (1 - (1 - 1 / n) ** 15)
    assert abs(count.mean() - expected) < 5 * np.sqrt(expected / units)
    values = W[:, :-1][W[:, :-1] != 0]
    assert abs(values.mean()) < 5 / np.sqrt(len(values))
    assert abs(values.std() - 1) < 5 / np.sqrt(2 * len(values))
    assert np.all(W[:, -1] == 0)


def test_sparse_initialisation_with_fewer_inputs_than_connections():
    W = sparse_initialisation(Network([3, 50], "logistic", "bernoulli"), 0)[0]
    assert np.all(np.count_nonzero(W[:, :-1], axis=1) <= 3)
    assert np.all(np.count_nonzero(W[:, :-1], axis=1) >= 1)


@pytest.mark.parametrize(
    ("activations", "scales", "biases"),
    [
        (["logistic", "logistic"], [1, 1, 1], [0, 0, 0]),
        (["tanh", "tanh"], [0.5, 0.25, 0.5], [0.5, 0.5, 0]),
        (["tanh", "logistic"], [0.5, 0.5, 1], [0.5, 0, 0]),
        (["softplus", "tanh"], [0.1, 0.5, 0.5], [0, 0.5, 0]),
    ],
)
def test_sparse_initialisation_scales(activations, scales, biases):
    """The standard deviation is halved for each tanh side, × 0.1 for softplus units; tanh units' biases are 0.5."""
    parameters = sparse_initialisation(Network([100, 300, 300, 300], activations, "gaussian"), 3)
    for W, scale, bias in zip(parameters, scales, biases, strict=True):
        values = W[:, :-1][W[:, :-1] != 0]
        assert abs(values.std() / scale - 1) < 5 / np.sqrt(2 * len(values))
        assert np.all(W[:, -1] == bias)


def test_glorot_initialisation():
    W = glorot_initialisation(Network([100, 200], "tanh", "gaussian"), 0)[0]
    bound = np.sqrt(6 / 300)
    assert np.all(W[:, -1] == 0)
    assert 0.99 * bound < np.abs(W).max() <= bound
    # variance of a uniform number in ±b: b²/3; of its square: 4b⁴/45
    assert abs(np.mean(W[:, :-1] ** 2) - bound**2 / 3) < 5 * bound**2 * np.sqrt(4 / 45 / 20_000)
