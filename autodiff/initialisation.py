"""Initial parameters of a network (§13): float64 on the host, a function of a seed.

Biases start at 0 unless it is said otherwise; of a normalisation layer scale is 1 and shift is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autodiff.layers import Layer
from autodiff.layers.normalisation import Normalisation
from autodiff.layers.recurrent import Recurrent
from autodiff.network import Network

Draw = Callable[[np.random.Generator, Layer, tuple[int, int]], np.ndarray]
"""Weights (d, fan-in) of a layer, without its bias."""


def _drawn(network: Network, seed: int, draw: Draw) -> list[np.ndarray]:
    rng = np.random.default_rng([seed, 0])
    parameters = []
    for layer, (d, columns) in zip(network.weighted, network.shapes, strict=True):
        W = np.zeros((d, columns))
        if isinstance(layer, Normalisation):
            W[:, 0] = 1.0
        else:
            W[:, : layer.fan_in] = draw(rng, layer, (d, layer.fan_in))
        if isinstance(layer, Recurrent):
            Q, R = np.linalg.qr(rng.standard_normal((d, d)))
            W[:, layer.input[1] : layer.fan_in] = Q * np.sign(np.diag(R))
        parameters.append(W)
    return parameters


def _glorot(rng: np.random.Generator, layer: Layer, shape: tuple[int, int]) -> np.ndarray:
    bound = np.sqrt(6.0 / (layer.fan_in + layer.fan_out))
    return rng.uniform(-bound, bound, shape)


def glorot_initialisation(network: Network, seed: int) -> list[np.ndarray]:
    """Glorot & Bengio (2010): weights uniform in ±√(6/(fan-in + fan-out)), biases 0: the θ that Algorithm 2 starts
    from, of the shapes of W_1 … W_ℓ, float64 on the host.

    A convolution's fans count its kernel's entries. From state to state a recurrent layer's weights are a random
    orthogonal matrix.
    """
    return _drawn(network, seed, _glorot)


def he_initialisation(network: Network, seed: int) -> list[np.ndarray]:
    """He et al. 2015: weights of layers with relu units from N(0, 2/fan-in), others as `glorot_initialisation`; of the
    shapes of W_1 … W_ℓ."""

    def draw(rng: np.random.Generator, layer: Layer, shape: tuple[int, int]) -> np.ndarray:
        if layer.activation.name != "relu":  # type: ignore[attr-defined]
            return _glorot(rng, layer, shape)
        return np.sqrt(2.0 / layer.fan_in) * rng.standard_normal(shape)

    return _drawn(network, seed, draw)


def sparse_initialisation(network: Network, seed: int, connections: int = 15) -> list[np.ndarray]:
    """Sparse initialisation (Martens 2010; §13): arrays of the shapes of W_1 … W_ℓ, float64 on the host.

    Each unit has `connections` incoming weights from N(0, 1), at indices drawn with replacement as the authors' program
    does; the others and the biases are 0. The standard deviation is halved for each side (input, output) of a layer
    that is tanh, and biases of tanh units start at 0.5; it is multiplied by 0.1 for softplus units.
    """
    rng = np.random.default_rng([seed, 0])
    parameters = []
    before = ""
    for layer, (d, columns) in zip(network.weighted, network.shapes, strict=True):
        name = layer.activation.name  # type: ignore[attr-defined]
        scale = 0.5 ** ((before == "tanh") + (name == "tanh")) * (0.1 if name == "softplus" else 1.0)
        before = name
        W = np.zeros((d, columns))
        parameters.append(W)
        if isinstance(layer, Normalisation):
            W[:, 0] = 1.0
            continue
        W[:, layer.fan_in :] = 0.5 if name == "tanh" else 0.0
        for row in W:
            row[rng.integers(layer.fan_in, size=connections)] = scale * rng.standard_normal(connections)
    return parameters


INITIALISATIONS = {"sparse": sparse_initialisation, "glorot": glorot_initialisation, "he": he_initialisation}
