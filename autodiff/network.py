"""What a network is: sizes, activations and a likelihood; and initial parameters for it (§2, §13).

Parameters are a list of W_i, i = 1 … ℓ, each of shape (d_i, d_{i−1}+1) with the bias in the LAST column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autodiff import arrays
from autodiff.activations import Activation, Affine, activation
from autodiff.arrays import Array
from autodiff.likelihoods import Likelihood, likelihood

Parameters = list[Array]
"""W_1 … W_ℓ; also the shape of a gradient, a direction or an update."""


@dataclass(frozen=True)
class Network:
    """A fully connected network.

    Parameters
    ----------
    sizes : sequence of int
        d_0, d_1, …, d_ℓ.
    activations : str, Activation or sequence of these
        φ_1 … φ_ℓ; a single one is used for all hidden layers. The last is always "identity": the likelihood owns the
        output non-linearity. A sequence of ℓ−1 is completed with it.
    likelihood : str or Likelihood
        "categorical", "bernoulli" or "gaussian".

    Raises
    ------
    ValueError, TypeError
        Saying which argument is wrong and what was expected.
    """

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    likelihood: Likelihood

    def __init__(
        self,
        sizes: Sequence[int],
        activations: str | Activation | Sequence[str | Activation],
        likelihood_: str | Likelihood,
    ) -> None:
        whole = all(isinstance(d, (int, np.integer)) for d in sizes)
        if not whole or len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least two positive integers d_0, …, d_ℓ; got {list(sizes)}")
        sizes = tuple(int(d) for d in sizes)
        layers = len(sizes) - 1
        if isinstance(activations, str) or not isinstance(activations, Sequence):
            activations = [activations] * (layers - 1)
        if len(activations) == layers - 1:
            activations = [*activations, "identity"]
        if len(activations) != layers:
            raise ValueError(f"a network of {layers} layers needs {layers} activations; got {len(activations)}")
        rows = tuple(activation(a) for a in activations)
        if rows[-1].name != "identity":
            raise ValueError(
                f'the activation of the last layer must be "identity", as the likelihood owns the output '
                f'non-linearity; got "{rows[-1].name}"'
            )
        for i, (row, d) in enumerate(zip(rows, sizes[1:], strict=True), start=1):
            if isinstance(row, Affine) and row.width != d:
                raise ValueError(f"layer {i} has {d} units, but its activation {row.name} is for {row.width}")
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "activations", rows)
        object.__setattr__(self, "likelihood", likelihood(likelihood_))

    @property
    def layers(self) -> int:
        """ℓ."""
        return len(self.sizes) - 1

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shapes of W_1 … W_ℓ."""
        return [(self.sizes[i], self.sizes[i - 1] + 1) for i in range(1, len(self.sizes))]

    def __str__(self) -> str:
        names = [a.name for a in self.activations[:-1]]
        return f"{'-'.join(map(str, self.sizes))} ({', '.join(names) or 'linear'}; {self.likelihood.name})"

    def check_parameters(self, parameters: Sequence[Array], name: str = "parameters") -> None:
        """Unless `parameters` is a list of arrays of the shapes of W_1 … W_ℓ, ValueError; unless they are
        floating-point arrays of one library, dtype and device, TypeError."""
        if len(parameters) != self.layers:
            raise ValueError(f"{name} has {len(parameters)} arrays, but the network {self} has {self.layers} layers")
        arrays.require_floating(parameters[0], f"{name}: layer 1")
        for i, (W, shape) in enumerate(zip(parameters, self.shapes, strict=True), start=1):
            arrays.require_alike(W, parameters[0], f"{name}: layer {i}")
            if tuple(W.shape) != shape:
                raise ValueError(f"{name}: layer {i} has shape {tuple(W.shape)}, expected {shape} (bias column last)")

    def check_batch(self, X: Array, Y: Array, like: Array) -> None:
        """Unless X is (m, d_0) and Y is (m, d_ℓ) with m ≥ 1, ValueError; unless they are arrays of the library, dtype
        and device of `like`, TypeError."""
        for name, x, d, which in (("X", X, self.sizes[0], "inputs"), ("Y", Y, self.sizes[-1], "outputs")):
            arrays.require_alike(x, like, name)
            if x.ndim != 2 or x.shape[1] != d:
                raise ValueError(
                    f"{name} has shape {tuple(x.shape)}, expected (cases, {d}): the network has {d} {which}"
                )
        if X.shape[0] != Y.shape[0]:
            raise ValueError(f"X has {X.shape[0]} cases and Y has {Y.shape[0]}")
        if X.shape[0] == 0:
            raise ValueError("X has no cases")


def sparse_initialisation(network: Network, seed: int, connections: int = 15) -> list[np.ndarray]:
    """Sparse initialisation (Martens 2010; §13), float64 on the host.

    Each unit has `connections` incoming weights from N(0, 1), at indices drawn with replacement as the authors' program
    does; the others and the biases are 0. The standard deviation is halved for each side (input, output) of a layer
    that is tanh, and biases of tanh units start at 0.5; it is multiplied by 0.1 for softplus units.
    """
    rng = np.random.default_rng([seed, 0])
    parameters = []
    before = ""
    for (d, columns), phi in zip(network.shapes, network.activations, strict=True):
        scale = 0.5 ** ((before == "tanh") + (phi.name == "tanh")) * (0.1 if phi.name == "softplus" else 1.0)
        W = np.zeros((d, columns))
        W[:, -1] = 0.5 if phi.name == "tanh" else 0.0
        for row in W:
            row[rng.integers(columns - 1, size=connections)] = scale * rng.standard_normal(connections)
        parameters.append(W)
        before = phi.name
    return parameters


def glorot_initialisation(network: Network, seed: int) -> list[np.ndarray]:
    """Glorot & Bengio (2010): weights uniform in ±√(6/(d_{i−1}+d_i)), biases 0; float64 on the host."""
    rng = np.random.default_rng([seed, 0])
    parameters = []
    for d, columns in network.shapes:
        bound = np.sqrt(6.0 / (d + columns - 1))
        W = np.zeros((d, columns))
        W[:, :-1] = rng.uniform(-bound, bound, (d, columns - 1))
        parameters.append(W)
    return parameters


INITIALISATIONS = {"sparse": sparse_initialisation, "glorot": glorot_initialisation}
