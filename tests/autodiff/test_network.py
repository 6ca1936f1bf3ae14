"""What a network is, and initial parameters."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import ACTIVATIONS, LIKELIHOODS, Affine, Network
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
