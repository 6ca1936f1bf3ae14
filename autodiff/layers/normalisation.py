"""Normalisation: y = φ(scale ⊙ x̂ + shift), W = [scale, shift] (d, 2), with x̂ of a case alone.

Batch normalisation in training mode couples the cases of a mini-batch: no case has a derivative 𝒟θ of its own then, and
the Fisher as it is defined here does not exist. So it is had with given statistics, as in evaluation, alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from autodiff.activations import Activation
from autodiff.arrays import Array, constant, namespace
from autodiff.layers.layer import Layer, Tape, check_activation, checked, require_input


@dataclass(frozen=True, kw_only=True)
class Normalisation(Layer):
    """What the two kinds share. The features are the last axis of vectors and sequences, and an image's channels.

    ValueError or TypeError where a field, or the shape of its input, does not fit.
    """

    epsilon: float = 1e-5
    activation: Activation = "identity"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        require_input(self, 1, 2, 3)
        checked(self, "epsilon", _positive, "a number > 0")
        check_activation(self, self.features)

    @property
    def features(self) -> int:
        """d."""
        return self.input[0] if len(self.input) == 3 else self.input[-1]

    @property
    def shape(self) -> tuple[int, int]:
        return self.features, 2

    @property
    def locations(self) -> int:
        return math.prod(self.input) // self.features

    def normalised(self, x: Array) -> tuple[Array, Array]:
        """x̂, of the shape of x (m, *shape), and 1/σ, (m, …, 1 or d)."""
        raise NotImplementedError

    def tangent(self, x_hat: Array, reciprocal: Array, dx: Array) -> Array:
        """dx̂/dx times ẋ, `dx` (…, m, *shape), of its shape, from x̂, `x_hat` (m, *shape), and the `reciprocal` 1/σ (m,
        …, 1 or d); the matrix is symmetric, so that it serves 𝒟x̂ too."""
        raise NotImplementedError

    def forward(self, W: Array, x: Array) -> tuple[Array, Tape]:
        x_hat, reciprocal = self.normalised(x)
        value, saved = self.activation.value(W[:, 0] * x_hat + W[:, 1])
        return value, Tape(x_hat, saved, (reciprocal,))

    def backward(self, W: Array, tape: Tape, Dy: Array) -> Array:
        return self.activation.pull(tape.saved, Dy)

    def pull(self, W: Array, tape: Tape, g: Array) -> Array:
        return self.tangent(tape.a, tape.extra[0], g * W[:, 0])

    def push(self, W: Array, tape: Tape, dx: Array | None, V: Sequence[Array]) -> Array:
        ds = namespace(W).stack([v[:, 0] * tape.a + v[:, 1] for v in V])
        if dx is not None:
            ds += W[:, 0] * self.tangent(tape.a, tape.extra[0], dx)
        return self.activation.push(tape.saved, ds)

    def gradient(self, tape: Tape, g: Array) -> Array:
        return namespace(g).sum(self.case_gradients(tape, g), axis=-3)

    def case_gradients(self, tape: Tape, g: Array) -> Array:
        # 𝒟scale = Σ_t g_t ⊙ x̂_t, 𝒟shift = Σ_t g_t
        xp = namespace(g)
        places = tuple(range(-len(self.input), -1))
        sums = [xp.sum(x, axis=places) if places else x for x in (g * tape.a, g)]
        return xp.stack(sums, axis=-1)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Normalisation):
    """x̂ = (x − mean)/√(var + ε) over a case's features at each location."""

    kind: ClassVar[str] = "layer-norm"

    def normalised(self, x: Array) -> tuple[Array, Array]:
        xp = namespace(x)
        centred = x - xp.mean(x, axis=-1, keepdims=True)
        reciprocal = 1 / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + self.epsilon)
        return centred * reciprocal, reciprocal

    def tangent(self, x_hat: Array, reciprocal: Array, dx: Array) -> Array:
        xp = namespace(dx)
        along = xp.mean(x_hat * dx, axis=-1, keepdims=True)
        return (dx - xp.mean(dx, axis=-1, keepdims=True) - x_hat * along) * reciprocal


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Normalisation):
    """x̂ = (x − mean)/√(variance + ε) with given statistics of each feature, as in evaluation.

    ValueError or TypeError as of `Normalisation`, and ValueError unless mean and variance are a number for each
    feature.
    """

    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()

    kind: ClassVar[str] = "batch-norm"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "variance"):
            if (given := getattr(self, name)) is None or (isinstance(given, (list, tuple)) and not given):
                raise ValueError(
                    f"needs given statistics, and has no {name}. With those of the mini-batch, as in training mode, "
                    "cases are coupled: no case has a derivative of its own, and the Fisher as defined here does not "
                    "exist. Give the running statistics as mean and variance, or use layer-norm"
                )
            checked(self, name, self._numbers(name == "variance"), f"{self.features} finite numbers, variances ≥ 0")

    def _numbers(self, positive: bool) -> Any:
        def check(values: Any) -> tuple[float, ...]:
            if isinstance(values, str):
                raise ValueError
            numbers = tuple(float(v) for v in values)
            sound = all(math.isfinite(v) and (v >= 0 or not positive) for v in numbers)
            if len(numbers) != self.features or not sound:
                raise ValueError
            return numbers

        return check

    def normalised(self, x: Array) -> tuple[Array, Array]:
        scale = tuple(1 / math.sqrt(v + self.epsilon) for v in self.variance)
        x_hat = (x - constant(self.mean, x)) * constant(scale, x)
        # of each case, as all that a tape holds is
        return x_hat, namespace(x).broadcast_to(constant(scale, x), (x.shape[0], *(1,) * (x.ndim - 2), self.features))

    def tangent(self, x_hat: Array, reciprocal: Array, dx: Array) -> Array:
        return dx * reciprocal


def _positive(value: Any) -> float:
    if isinstance(value, (bool, str)) or not 0 < float(value) < math.inf:
        raise ValueError
    return float(value)
