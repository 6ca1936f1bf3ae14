"""What a network is: layers and a likelihood (§2).

Parameters are a list of W_i, i = 1 … ℓ, one for each layer that has weights: (d_i, d_{i−1}+1) of a fully connected
layer, with the bias in the LAST column; see `autodiff.layers` for the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from autodiff import arrays, layers, text
from autodiff.activations import Activation, activation
from autodiff.arrays import Array, namespace
from autodiff.layers import Layer, Shape
from autodiff.layers.dense import Dense
from autodiff.layers.pooling import packed
from autodiff.likelihoods import Likelihood, at_positions, likelihood

Parameters = list[Array]
"""W_1 … W_ℓ; also the shape of a gradient, a direction or an update."""


@dataclass(frozen=True)
class Network:
    """A fully connected network; by `Network.of` one of any layers.

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

    stages: tuple[Layer, ...]
    """The layers, those without weights too; a residual block has its two ends here."""
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
        number = len(sizes) - 1
        if isinstance(activations, str) or not isinstance(activations, Sequence):
            activations = [activations] * (number - 1)
        if len(activations) == number - 1:
            activations = [*activations, "identity"]
        if len(activations) != number:
            raise ValueError(f"a network of {number} layers needs {number} activations; got {len(activations)}")
        rows = tuple(activation(a) for a in activations)
        if rows[-1].name != "identity":
            raise ValueError(
                f'the activation of the last layer must be "identity", as the likelihood owns the output '
                f'non-linearity; got "{rows[-1].name}"'
            )
        stages = []
        for i, (before, d, row) in enumerate(zip(sizes[:-1], sizes[1:], rows, strict=True), start=1):
            try:
                stages.append(Dense(input=(before,), out=d, activation=row))
            except ValueError as error:
                raise ValueError(f"layer {i} {error}") from None
        object.__setattr__(self, "stages", tuple(stages))
        object.__setattr__(self, "likelihood", likelihood(likelihood_))

    @classmethod
    def of(cls, network: Sequence[Mapping[str, Any]], input: Sequence[int], likelihood_: str | Likelihood) -> Network:
        """A network of any layers.

        Parameters
        ----------
        network : list of dict
            Layer by layer its `kind` and the kind's own keys: what a network's description in JSON has (see
            `autodiff.layers.KINDS` and, for a residual block, "residual" with its list of `layers`).
        input : sequence of int
            The shape of a case: (d,), a sequence (T, d), or an image (c, H, W).
        likelihood_ : str or Likelihood
            "categorical", "bernoulli" or "gaussian". Where the network ends with a sequence (T, C), each position has
            a distribution of its own, and L is the sum over positions.

        Raises
        ------
        ValueError, TypeError
            Naming the layer that is wrong, and what was expected.
        """
        shape = tuple(input) if isinstance(input, Iterable) and not isinstance(input, str) else (input,)
        whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in shape)
        if not whole or not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise ValueError(
                f"input is {list(shape)}, expected the shape of a case, [d], [T, d] or [c, H, W], of positive integers"
            )
        stages = tuple(layers.built(network, tuple(int(n) for n in shape)))
        weighted = [stage for stage in stages if stage.shape]
        if not weighted:
            raise ValueError("the network has no layer with weights")
        end = stages[-1]
        if len(end.output) == 3:
            raise ValueError(
                f"the network ends with an image of {end.output}, expected a vector (d,) or a sequence (T, d); flatten "
                "or global-mean makes a vector of it"
            )
        last: Any = getattr(end, "activation", None)
        if last is not None and last.name != "identity":
            raise ValueError(
                f'the activation of the last layer must be "identity", as the likelihood owns the output '
                f'non-linearity; got "{last.name}"'
            )
        made = object.__new__(cls)
        object.__setattr__(made, "stages", stages)
        positions = end.output[0] if len(end.output) == 2 else 1
        object.__setattr__(made, "likelihood", at_positions(likelihood(likelihood_), positions))
        return made

    # --- shapes ---

    @property
    def input(self) -> Shape:
        """The shape of a case: (d,), (T, d) or (c, H, W)."""
        return self.stages[0].input

    @property
    def output(self) -> Shape:
        """The shape of what comes out of a case: (d,), or (T, C) where each position has outputs of its own."""
        return self.stages[-1].output

    @cached_property
    def inputs(self) -> int:
        """How many numbers a case has."""
        return math.prod(self.input)

    @cached_property
    def outputs(self) -> int:
        """d_ℓ, how many numbers come out of a case."""
        return math.prod(self.output)

    @cached_property
    def weighted(self) -> list[Layer]:
        """The layers with weights, 1 … ℓ."""
        return [stage for stage in self.stages if stage.shape]

    @property
    def layers(self) -> int:
        """ℓ, the number of layers with weights."""
        return len(self.weighted)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """The shapes of W_1 … W_ℓ, bias column included (§2.1)."""
        return [layer.shape for layer in self.weighted if layer.shape]

    @cached_property
    def fully_connected(self) -> bool:
        """Whether it is what `Network(sizes, activations, likelihood)` makes."""
        return all(isinstance(stage, Dense) and stage.bias and len(stage.input) == 1 for stage in self.stages)

    def has_one_row(self, i: int) -> bool:
        """Whether the weights of layer i = 1 … ℓ are applied once to each case, so that 𝒟W_i = g āᵀ."""
        return self.weighted[i - 1].kronecker and self.weighted[i - 1].locations == 1

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """d_0, …, d_ℓ of a fully connected network; AttributeError for another."""
        if not self.fully_connected:
            raise AttributeError(f"sizes d_0, …, d_ℓ are those of a fully connected network; this one is {self}")
        return (self.inputs, *(d for d, _ in self.shapes))

    @property
    def activations(self) -> tuple[Activation, ...]:
        """φ_1 … φ_ℓ, of the layers with weights."""
        return tuple(layer.activation for layer in self.weighted)  # type: ignore[attr-defined]

    @cached_property
    def widest(self) -> int:
        """The largest side of a factor or of a product of matrices, but for the bias."""
        return max(max(d, layer.fan_in) for layer, (d, _) in zip(self.weighted, self.shapes, strict=True))

    @cached_property
    def entries(self) -> int:
        """How many numbers of a case the largest array of a pass has, at most."""
        return max(stage.entries for stage in self.stages)

    @cached_property
    def kept(self) -> int:
        """How many numbers of a case a forward pass leaves for the other passes, about."""
        return sum(stage.locations * sum(stage.shape) if stage.shape else stage.entries for stage in self.stages)

    def __str__(self) -> str:
        # of all but fully connected networks, what text.read reads
        if self.fully_connected:
            names = [a.name for a in self.activations[:-1]]
            return f"{'-'.join(map(str, self.sizes))} ({', '.join(names) or 'linear'}; {self.likelihood.name})"
        return f"{'x'.join(map(str, self.input))}: {text.of_layers(self.stages)}; {self.likelihood.name}"

    def description(self) -> dict[str, Any]:
        """What the network is, as JSON can hold it: `layers` (sizes) and `activations` of a fully connected network,
        `input` and `network` of another; and `likelihood`. `described` makes the network of it."""
        if self.fully_connected:
            ends: dict[str, Any] = {"layers": list(self.sizes), "activations": [a.name for a in self.activations]}
        else:
            ends = {"input": list(self.input), "network": layers.described(self.stages)}
        return ends | {"likelihood": self.likelihood.name}

    # --- data inside and outside ---

    def spread(self, parameters: Sequence[Array]) -> list[Array | None]:
        """For each stage its W, of its shape, or None, from the `parameters` W_1 … W_ℓ, of `shapes`."""
        left = iter(parameters)
        return [next(left) if stage.shape else None for stage in self.stages]

    def packed(self, X: Array) -> Array:
        """Cases X (m, d_0) or (m, *input) as the passes take them: (m, *input), the channels of images last."""
        if len(self.input) == 1:
            return X
        return packed(namespace(X).reshape(X, (X.shape[0], *self.input)), self.input)

    def check_parameters(self, parameters: Sequence[Array], name: str = "parameters") -> None:
        """Unless `parameters` is a list of arrays of the shapes of W_1 … W_ℓ, ValueError; unless they are
        floating-point arrays of one library, dtype and device, TypeError."""
        if len(parameters) != self.layers:
            raise ValueError(f"{name} has {len(parameters)} arrays, but the network {self} has {self.layers} layers")
        arrays.require_floating(parameters[0], f"{name}: layer 1")
        for i, (W, layer) in enumerate(zip(parameters, self.weighted, strict=True), start=1):
            arrays.require_alike(W, parameters[0], f"{name}: layer {i}")
            if tuple(W.shape) != layer.shape:
                bias = " (bias column last)" if getattr(layer, "bias", False) else ""
                kind = "" if self.fully_connected else f" ({layer.kind})"
                raise ValueError(f"{name}: layer {i}{kind} has shape {tuple(W.shape)}, expected {layer.shape}{bias}")

    def check_batch(self, X: Array, Y: Array, like: Array) -> None:
        """Unless X is (m, *input), or (m, d_0) with the numbers of each case in that order, and Y is (m, d_ℓ) with
        m ≥ 1, ValueError; unless they are arrays of the library, dtype and device of `like`, TypeError."""
        for name, x, d, which in (("X", X, self.inputs, "inputs"), ("Y", Y, self.outputs, "outputs")):
            arrays.require_alike(x, like, name)
            fits = x.ndim == 2 and x.shape[1] == d
            if not fits and not (name == "X" and tuple(x.shape[1:]) == self.input):
                shaped, size = self.input if name == "X" else self.output, f"(cases, {d})"
                if len(shaped) > 1:
                    either = f"(cases, {', '.join(map(str, shaped))})"
                    size = f"{either} or {size}" if name == "X" else f"{size}, which is {either} with its axes joined"
                raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {size}: the network has {d} {which}")
        if X.shape[0] != Y.shape[0]:
            raise ValueError(f"X has {X.shape[0]} cases and Y has {Y.shape[0]}")
        if X.shape[0] == 0:
            raise ValueError("X has no cases")


def described(description: Mapping[str, Any]) -> Network:
    """The network of a `description`; other keys are left alone. ValueError or TypeError where it is not one."""
    ends = ("network", "input") if "network" in description else ("layers", "activations")
    for key in (*ends, "likelihood"):
        if key not in description:
            raise ValueError(f'the description of a network has the keys {sorted(description)}, but no "{key}"')
    first, second, name = (description[key] for key in (*ends, "likelihood"))
    return Network.of(first, second, name) if "network" in description else Network(first, second, name)
