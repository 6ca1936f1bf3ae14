"""autodiff.text: what it writes is read again, and what cannot be read is named."""

from __future__ import annotations

import pytest

from autodiff import text
from autodiff.layers import KINDS
from autodiff.network import Network, described

LENET = (
    "1x28x28: conv 16 5x5 relu, average-pool 2x2, conv 32 5x5 relu, average-pool 2x2, flatten, dense 10; categorical"
)
SETTLED = {
    LENET: None,
    "1x28x28: conv 16 5 relu,average-pool 2, conv 32 5x5 activation=relu stride=1, average-pool size=2 stride=2x2 , "
    "flatten, dense 10 bias=true;categorical": LENET,
    "28x4: recurrent 5, dense 2; gaussian": None,
    "28x4: recurrent 5 relu bias=false returns=all, mean-over-positions, dense 2; bernoulli": None,
    "3: dense 3, layer-norm tanh epsilon=0.001, batch-norm mean=[0.5,0.0,1.0] variance=[1.0,2.0,3.0], dense 2; gaussian": None,  # noqa: E501
    "2x6x6: conv 3 3x2 stride=1x2 padding=1x0 dilation=2x1, max-pool 2x1 stride=1x1, global-mean, dense 1; gaussian": None,  # noqa: E501
    "2x4x4: residual [layer-norm relu, depthwise-conv 3x3 padding=1x1, residual [conv 2 1x1]], flatten, dense 1; gaussian": None,  # noqa: E501
}
"""Texts, and what a network says that was made of them; None: the same."""


@pytest.mark.parametrize("given", SETTLED)
def test_what_a_network_says_makes_the_same_network(given):
    network = described(text.read(given))
    assert str(network) == (SETTLED[given] or given)
    again = described(text.read(str(network)))
    assert again.description() == network.description() and again.stages == network.stages
    assert described(network.description()).stages == network.stages


def test_every_kind_is_among_them():
    said = " ".join(SETTLED)
    assert [kind for kind in KINDS if kind not in said] == []


def test_what_is_read_is_a_description():
    assert text.read("2x3: dense 4 relu, residual [dense 4 bias=false], flatten, dense 2 ; gaussian") == {
        "input": [2, 3],
        "network": [
            {"kind": "dense", "out": 4, "activation": "relu"},
            {"kind": "residual", "layers": [{"kind": "dense", "out": 4, "bias": False}]},
            {"kind": "flatten"},
            {"kind": "dense", "out": 2},
        ],
        "likelihood": "gaussian",
    }
    assert "likelihood" not in text.read("4: dense 2")


def test_a_fully_connected_network_is_said_by_its_sizes():
    assert str(Network.of([{"kind": "dense", "out": 2}], [4], "gaussian")) == "4-2 (linear; gaussian)"


BAD = {
    "1x2": "is no network: expected the shape of a case, a colon and layers",
    "a: dense 2": "is no network",
    "4: dense 2; gaussian; categorical": "is no network",
    "4:": "expected a layer before the end",
    "4: dense 3,, dense 2": "expected a layer before ','",
    "4: dens 3": 'unknown kind of layer "dens"; did you mean "dense"?',
    "4: dense 3 rleu": 'unknown activation in "dense 3 rleu": "rleu"; did you mean "relu"?',
    "4: dense 3 4": '"dense 3 4": expected key=value, found "4"',
    "4: dense 3 out=4": '"dense 3 out=4" gives out twice',
    "4x2: flatten relu, dense 2": '"flatten relu": expected key=value, found "relu"',
    "4: residual [dense 4": '"residual \\[" is not closed by "]"',
    "4: residual dense 4": 'expected "residual \\[", then its layers',
    "4: dense 4 [dense 4]": 'expected "residual \\[", then its layers',
    "4: residual [dense 4] dense 2": 'expected "," behind "]", found "dense"',
    "4: dense 4], dense 2": '"]" without "\\[" in "dense 4], dense 2"',
}


@pytest.mark.parametrize("given", BAD)
def test_what_cannot_be_read(given):
    with pytest.raises(ValueError, match=BAD[given]):
        text.read(given)


def test_what_does_not_fit_is_for_the_network_to_say():
    with pytest.raises(
        ValueError, match=r'unknown key of network\[0\] \(dense\) "actvation"; did you mean "activation"'
    ):
        described(text.read("4: dense 3 actvation=relu; gaussian"))
