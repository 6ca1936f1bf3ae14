"""Activation functions: a table of φ and φ′, φ′ written in terms of φ's value (§2).

An activation maps pre-activations s to activities a and carries tangents forward and cotangents back. `value` also
returns what the derivative needs later (for an elementwise φ that is a itself, so nothing more is kept).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from autodiff import arrays
from autodiff.arrays import Array, Fused, namespace
from autodiff.names import closest


class Activation(Protocol):
    """What a layer asks of its activation; s, a and tangents have shape (…, d)."""

    @property
    def name(self) -> str:
        """As in the table, or a description."""

    def value(self, s: Array) -> tuple[Array, Array]:
        """a = φ(s), entry by entry or not, of s (…, d), and what the derivative needs; a has the shape of s (§2.1)."""

    def push(self, saved: Array, tangent: Array) -> Array:
        """ȧ = φ′ ṡ (forward mode, App. C) of a `tangent` ṡ (…, d), with what `value` has `saved`, of the shape of s."""

    def pull(self, saved: Array, cotangent: Array) -> Array:
        """𝒟s = φ′ᵀ 𝒟a (backward, Algorithm 1), of the shape of s, of a `cotangent` 𝒟a (…, d), with what `value` has
        `saved`, as it was of s (…, d)."""


@dataclass(frozen=True)
class Elementwise:
    """An activation applied entry by entry: one row of the table."""

    name: str
    phi: Callable[[Array], Array]
    times_slope: Callable[[Array, Array], Array]
    """φ′ ⊙ t, φ′ being a function of φ's value a: a function of a and t."""

    def value(self, s: Array) -> tuple[Array, Array]:
        """a = φ(s) for s of any shape, and a again, of which φ′ is a function (§2.1)."""
        a = self.phi(s)
        return a, a

    def push(self, saved: Array, tangent: Array) -> Array:
        """φ′ ⊙ `tangent`, of any shape, `saved` being a, of the same shape; it serves 𝒟a, too (App. C)."""
        return self.times_slope(saved, tangent)

    pull = push

    def __reduce__(self) -> tuple[Callable[..., Elementwise], tuple[Any, ...]]:
        # a row of the table is pickled by its name: its functions may be lambdas, which cannot be
        if ACTIVATIONS.get(self.name) is self:
            return _named, (self.name,)
        return Elementwise, (self.name, self.phi, self.times_slope)


@dataclass(frozen=True, eq=False)
class Affine:
    """The affine reparameterisation a = Ω φ(Φ s) + ω of another activation (§10, Corollary 2).

    Parameters
    ----------
    base : Activation
        φ.
    Omega : (d, d) array
        Ω without its homogeneous row and column.
    omega : (d,) array
        The last column of the homogeneous Ω.
    Phi : (d, d) array
        Φ.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    """

    base: Activation
    Omega: Array
    omega: Array
    Phi: Array

    def __post_init__(self) -> None:
        d = self.omega.shape[0]
        for name, matrix in (("Omega", self.Omega), ("Phi", self.Phi)):
            if tuple(matrix.shape) != (d, d):
                raise ValueError(f"Affine: {name} has shape {tuple(matrix.shape)}, expected {(d, d)} as omega has {d}")

    @property
    def name(self) -> str:
        """ "affine(…)" of the name of the other."""
        return f"affine({self.base.name})"

    @property
    def width(self) -> int:
        """d, the number of units that a layer of this activation must have."""
        return self.omega.shape[0]

    def value(self, s: Array) -> tuple[Array, Array]:
        """As of `Activation.value`."""
        a, saved = self.base.value(s @ self.Phi.T)
        return a @ self.Omega.T + self.omega, saved

    def push(self, saved: Array, tangent: Array) -> Array:
        """As of `Activation.push`."""
        return self.base.push(saved, tangent @ self.Phi.T) @ self.Omega.T

    def pull(self, saved: Array, cotangent: Array) -> Array:
        """As of `Activation.pull`."""
        return self.base.pull(saved, cotangent @ self.Omega) @ self.Phi


def _tanh(s: Array) -> Array:
    return namespace(s).tanh(s)


def _relu_times_slope(a: Array, t: Array) -> Array:
    return namespace(a).astype(a > 0, a.dtype) * t


ACTIVATIONS: dict[str, Elementwise] = {
    row.name: row
    for row in (
        Elementwise("tanh", _tanh, Fused("a, t", "out = (1 - a * a) * t", lambda a, t: (1 - a * a) * t)),
        Elementwise("logistic", arrays.logistic, Fused("a, t", "out = a * (1 - a) * t", lambda a, t: a * (1 - a) * t)),
        Elementwise("relu", arrays.positive_part, Fused("a, t", "out = (a > 0) * t", _relu_times_slope)),
        # a = log(1 + e^s), so φ′ = logistic(s) = 1 − e^−a
        Elementwise(
            "softplus",
            arrays.softplus,
            Fused("a, t", "out = -expm1(-a) * t", lambda a, t: -namespace(a).expm1(-a) * t),
        ),
        Elementwise("identity", lambda s: s, lambda a, t: t),
    )
}


def _named(name: str) -> Elementwise:
    return ACTIVATIONS[name]


def activation(name_or_activation: str | Activation) -> Activation:
    """The activation φ_i called so, or the activation itself (§2.1).

    ValueError for an unknown name, TypeError for what is neither a name nor an activation.
    """
    if isinstance(name_or_activation, str):
        return ACTIVATIONS[closest(name_or_activation, ACTIVATIONS, "activation")]
    if not all(hasattr(name_or_activation, part) for part in ("value", "push", "pull")):
        raise TypeError(f"an activation is a name or has value, push and pull; got {type(name_or_activation).__name__}")
    return name_or_activation
