"""Descriptions of networks: every mistake is named with its layer, in one line."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import ACTIVATIONS, Affine, Network
from autodiff.network import described
from autodiff.objective import require_finite
from tests.autodiff.layers.networks import BATCH_NORM, FLAT, conv, dense, made, parameters

IMAGE = (1, 4, 4)


@pytest.mark.parametrize(
    ("layers", "shape", "said"),
    [
        ([{"kind": "convolution"}], IMAGE, r'unknown kind of layer in network\[0\] "convolution".*"conv"'),
        ([{"out": 3}], (4,), r"network\[0\] is \{'out': 3\}, expected a layer"),
        ("dense", (4,), "network is a str, expected a list of layers"),
        ([dense(3, size=2)], (4,), r'unknown key of network\[0\] \(dense\) "size"'),
        ([{"kind": "dense"}], (4,), r'network\[0\] \(dense\) needs the key "out"'),
        ([{"kind": "conv", "out": 2}], IMAGE, r'network\[0\] \(conv\) needs the key "kernel"'),
        ([dense(0)], (4,), r"network\[0\] \(dense\): out is 0, expected a whole number ≥ 1"),
        ([dense(2.5)], (4,), r"out is 2.5, expected a whole number ≥ 1"),
        ([dense(float("inf"))], (4,), r"out is inf, expected a whole number ≥ 1"),
        (
            [{"kind": "batch-norm", "mean": "0", "variance": [1.0]}, FLAT],
            IMAGE,
            r"mean is '0', expected 1 finite numbers",
        ),
        ([dense(True)], (4,), r"out is True, expected a whole number ≥ 1"),
        ([dense(3, bias=1)], (4,), r"network\[0\] \(dense\): bias is 1, expected true or false"),
        ([dense(3, "tan")], (4,), r'network\[0\] \(dense\): unknown activation "tan"; did you mean "tanh"'),
        (
            [conv(2, [3, 3, 3])],
            IMAGE,
            r"kernel is \[3, 3, 3\], expected \[vertical, horizontal\], two whole numbers ≥ 1",
        ),
        ([conv(2, 3, padding=-1)], IMAGE, r"padding is -1, expected \[vertical, horizontal\], two whole numbers ≥ 0"),
        ([conv(2, 3, stride=0)], IMAGE, r"stride is 0, expected"),
        ([conv(2, 5)], IMAGE, r"kernel \[5, 5\] does not fit into the padded image of \(1, 4, 4\)"),
        ([conv(2, 3, dilation=2)], IMAGE, r"kernel \[3, 3\] does not fit"),
        ([{"kind": "max-pool", "size": 5}], IMAGE, r"network\[0\] \(max-pool\): its size \[5, 5\] does not fit"),
        (
            [conv(2, 3)],
            (4,),
            r"network\[0\] \(conv\): takes an image \(c, H, W\), but what comes before it gives \(4,\)",
        ),
        (
            [conv(2, 3), dense(3)],
            IMAGE,
            r"network\[1\] \(dense\): takes a vector \(d,\) or a sequence.*gives \(2, 2, 2\)",
        ),
        ([{"kind": "recurrent", "out": 2}], (4,), r"network\[0\] \(recurrent\): takes a sequence \(T, d\)"),
        ([{"kind": "recurrent", "out": 2, "returns": "first"}], (3, 2), r'unknown value of returns "first"'),
        ([{"kind": "batch-norm"}, FLAT], IMAGE, "needs given statistics, and has no mean.*cases are coupled"),
        ([{"kind": "batch-norm", "mean": [0.0]}, FLAT], IMAGE, "needs given statistics, and has no variance"),
        ([BATCH_NORM, FLAT], IMAGE, r"network\[0\] \(batch-norm\): mean is \[.*\], expected 1 finite numbers"),
        ([{"kind": "layer-norm", "epsilon": 0}], (4,), r"epsilon is 0, expected a number > 0"),
        ([{"kind": "layer-norm", "epsilon": "1e-5"}], (4,), r"epsilon is '1e-5', expected a number > 0"),
        ([{"kind": "residual"}], (4,), r'network\[0\] \(residual\) has the keys \[\], expected "layers"'),
        (
            [{"kind": "residual", "layers": [dense(3)]}],
            (4,),
            r"network\[0\] \(residual\) adds \(3,\).* to its input \(4,\)",
        ),
        (
            [dense(4), {"kind": "residual", "layers": [dense(4), conv(2, 1)]}],
            (4,),
            r"network\[1\] \(residual\)\.layers\[1\] \(conv\): takes an image",
        ),
        ([dense(3, "tanh")], (4,), 'activation of the last layer must be "identity"'),
        ([conv(2, 3)], IMAGE, r"ends with an image of \(2, 2, 2\), expected a vector"),
        ([FLAT], IMAGE, "the network has no layer with weights"),
        ([], (4,), "the network has no layer"),
        ([dense(3)], (4, 0), r"input is \[4, 0\], expected the shape of a case"),
        ([dense(3)], (1, 2, 3, 4), "input is .*, expected the shape of a case"),
        ([dense(3)], "4", "input is .*, expected the shape of a case"),
    ],
)
def test_mistakes_are_named(layers, shape, said):
    with pytest.raises((ValueError, TypeError), match=said) as caught:
        Network.of(layers, shape, "gaussian")
    assert "\n" not in str(caught.value)


def test_an_affine_activation_must_be_as_wide_as_the_layer():
    phi = Affine(ACTIVATIONS["tanh"], np.eye(2), np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"has 3 units, but its activation affine.* is for 2"):
        Network.of([{"kind": "conv", "out": 3, "kernel": 1, "activation": phi}, FLAT], IMAGE, "gaussian")


def test_a_description_without_input():
    with pytest.raises(ValueError, match='but no "input"'):
        described({"network": [dense(3)], "likelihood": "gaussian"})
    with pytest.raises(ValueError, match='but no "activations"'):
        described({"layers": [3, 2], "likelihood": "gaussian"})


def test_equal_networks_are_equal():
    """Those with outputs at each position too, whose likelihood is made of a row of the table."""
    for name in ("residual", "sequence of outputs"):
        assert made(name, "categorical") == made(name, "categorical")
    with pytest.raises(ValueError, match="is one at 3 positions, and the outputs have 2"):
        Network.of([dense(3)], (2, 4), made("sequence of outputs", "categorical").likelihood)


def test_a_number_in_an_image_that_is_not_finite_is_named():
    X = np.zeros((2, 1, 5, 6))
    X[1, 0, 4, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[1, 0, 4, 2\] is nan, expected finite numbers"):
        require_finite(X, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("X", "Y", "said"),
    [
        ((3, 1, 5, 6), (3, 2), r"Y has shape \(3, 2\), expected \(cases, 3\): the network has 3 outputs"),
        ((3, 1, 6, 5), (3, 3), r"X has shape \(3, 1, 6, 5\), expected \(cases, 1, 5, 6\) or \(cases, 30\)"),
        ((3, 29), (3, 3), r"X has shape \(3, 29\), expected"),
        ((3, 30), (2, 3), "X has 3 cases and Y has 2"),
        ((0, 30), (0, 3), "X has no cases"),
    ],
)
def test_a_batch_that_does_not_fit(X, Y, said):
    network = made("convolution")
    with pytest.raises(ValueError, match=said):
        network.check_batch(np.zeros(X), np.zeros(Y), np.zeros(0))


def test_targets_of_positions_are_joined():
    network = made("sequence of outputs")
    network.check_batch(np.zeros((2, 3, 4)), np.zeros((2, 9)), np.zeros(0))
    with pytest.raises(ValueError, match=r"expected \(cases, 9\), which is \(cases, 3, 3\) with its axes joined"):
        network.check_batch(np.zeros((2, 3, 4)), np.zeros((2, 3, 3)), np.zeros(0))


def test_parameters_that_do_not_fit():
    network = made("convolution")
    W = parameters(network)
    with pytest.raises(
        ValueError, match=r"layer 1 \(conv\) has shape \(2, 6\), expected \(2, 7\) \(bias column last\)"
    ):
        network.check_parameters([W[0][:, 1:], W[1]])
    with pytest.raises(AttributeError, match="sizes d_0, …, d_ℓ are those of a fully connected network"):
        _ = network.sizes


def test_what_a_network_says_of_itself():
    network = made("residual")
    assert network.input == (3, 4, 4) and network.output == (3,) and network.inputs == 48 and network.layers == 5
    assert network.shapes == [(3, 28), (3, 2), (3, 4), (3, 4), (3, 4)]
    assert [network.has_one_row(i) for i in range(1, 6)] == [False, False, True, True, True]
    assert not network.fully_connected and made("vector").fully_connected is False  # a layer has no bias
    assert Network.of([dense(3, "tanh"), dense(2)], (4,), "gaussian") == Network([4, 3, 2], "tanh", "gaussian")
