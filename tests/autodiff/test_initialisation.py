"""Initial parameters, by their moments."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network, glorot_initialisation, he_initialisation, sparse_initialisation
from autodiff.initialisation import INITIALISATIONS
from tests.autodiff.layers.networks import EXAMPLES, made

NETWORK = Network([3, 5, 4, 2], ["tanh", "relu"], "gaussian")


@pytest.mark.parametrize("initialise", INITIALISATIONS.values())
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


@pytest.mark.parametrize("initialise", INITIALISATIONS.values())
@pytest.mark.parametrize("name", EXAMPLES)
def test_networks_of_any_layers(name, initialise):
    network = made(name)
    parameters = initialise(network, 0)
    network.check_parameters(parameters)
    for layer, W in zip(network.weighted, parameters, strict=True):
        if layer.kind in ("layer-norm", "batch-norm"):
            assert np.all(W == [1, 0])
        elif initialise is not sparse_initialisation:
            assert np.all(W[:, layer.fan_in :] == 0) and np.all(W[:, : layer.fan_in] != 0)


def test_he_initialisation():
    """Variance 2/fan-in into relu units, Glorot's into others; a convolution's fans count its kernel's entries."""
    conv = {"kind": "conv", "out": 60, "kernel": [3, 5]}
    layers = [
        conv | {"activation": "relu"},
        conv | {"activation": "tanh"},
        {"kind": "flatten"},
        {"kind": "dense", "out": 2},
    ]
    relu, tanh, _ = he_initialisation(Network.of(layers, (8, 7, 9), "gaussian"), 0)
    n = 60 * 8 * 15
    assert abs(np.mean(relu[:, :-1] ** 2) / (2 / (8 * 15)) - 1) < 5 * np.sqrt(2 / n)
    bound = np.sqrt(6 / (60 * 15 + 60 * 15))
    assert 0.99 * bound < np.abs(tanh[:, :-1]).max() <= bound


def test_a_recurrent_layer_begins_orthogonal():
    layers = [{"kind": "recurrent", "out": 6}, {"kind": "dense", "out": 2}]
    W, _ = glorot_initialisation(Network.of(layers, (5, 3), "gaussian"), 0)
    np.testing.assert_allclose(W[:, 3:9].T @ W[:, 3:9], np.eye(6), atol=1e-12)
