"""What a kind of layer is: its shapes, its step of each of the three passes, and the rows that its weights act on (§2).

A layer with weights W (d, p) is applied at T locations of each case (pixels, positions, steps of time). From its input
it gathers rows ā_t (p,), the homogeneous coordinate last where there is a bias; then s_t = W ā_t and y = φ(s). With
g_t = 𝒟s_t, 𝒟W = Σ_t g_t ā_tᵀ. A layer of an MLP is T = 1 and gathers nothing.

Arrays of m cases are (m, *shape of a case): (m, d) vectors, (m, T, d) sequences, and (m, H, W, c) images: channels are
last inside, so that a location's numbers lie together, and first, (c, H, W), in a network's description and its data.
Rows are (m·T, p), case after case. Where sequences differ in length they are padded behind, and a mask (m, T) of ones
and zeros says which steps a case has: see `Layer.forward_masked`. What is given back or pushed forward for r cotangents
or directions at once has r in front: (r, m, *shape), (r, m·T, d).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from autodiff.activations import Activation, Affine, activation
from autodiff.arrays import Array, namespace

Shape = tuple[int, ...]


class Tape(NamedTuple):
    """What a layer's forward step leaves for the other passes; of each array the first axis is cases, (m, …), or rows,
    (m·T, …)."""

    a: Array = None
    """What the weights were applied to."""
    saved: Array = None
    """What φ′ needs."""
    extra: tuple[Array, ...] = ()
    """Whatever else the kind of layer needs."""

    def head(self, cases: int, of: int) -> Tape:
        """The part of the first `cases` of `of` cases, without copying."""

        def first(x: Array | None) -> Array | None:
            return None if x is None else x[: cases * x.shape[0] // of, ...]

        return Tape(first(self.a), first(self.saved), tuple(first(x) for x in self.extra))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A kind of layer; its fields are the keys of its description, after the shape of its input."""

    input: Shape
    """The shape of a case, (d,), (T, d) or (c, H, W)."""

    kind: ClassVar[str]
    """Its name in a description."""
    kronecker: ClassVar[bool] = False
    """Whether it has weights and rows, so that Ā ⊗ G approximates its block of F. Where it has weights and no rows, the
    block is small and is kept whole."""
    recurrent: ClassVar[bool] = False
    """Whether its locations are steps of time, of which each takes what the one before gave."""

    # --- shapes ---

    @property
    def output(self) -> Shape:
        """The shape of a case behind it."""
        return self.input

    @property
    def shape(self) -> tuple[int, int] | None:
        """(d, p) of W, the bias column last; None without weights."""
        return None

    @property
    def locations(self) -> int:
        """T."""
        return 1

    @property
    def entries(self) -> int:
        """How many numbers a case has in the largest array of the layer's passes."""
        return math.prod(self.output)

    @property
    def fan_in(self) -> int:
        """How many inputs a unit sums up, for initial weights."""
        return self.shape[1] - 1 if self.shape else 0

    @property
    def fan_out(self) -> int:
        """How many units an input has a share in."""
        return self.shape[0] if self.shape else 0

    def description(self) -> dict[str, Any]:
        """Its keys and values, as JSON can hold them."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "input"}
        return {"kind": self.kind} | {
            name: value.name if hasattr(value, "pull") else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    # --- passes ---

    def forward(self, W: Array | None, x: Array) -> tuple[Array, Tape]:
        """y (m, *shape) of m cases x (m, *shape), and what the other passes need; W is (d, p), or None without weights
        (Algorithm 1)."""
        raise NotImplementedError

    def forward_masked(self, W: Array | None, x: Array, mask: Array) -> tuple[Array, Tape]:
        """The same of sequences x (m, T, d) that have only the steps of which `mask` (m, T) is 1, and padding behind
        (RNN §3).

        Padding must not be seen: the rows that weights, W (d, p) or None, are applied to are 0 there, and what is
        gathered from all steps leaves it out. What y has there is of no matter, as nobody looks at it, and its 𝒟y is 0.
        """
        return self.forward(W, x)

    def backward(self, W: Array | None, tape: Tape, Dy: Array) -> Array:
        """g = 𝒟s, as rows (…, m·T, d), from 𝒟y, `Dy` (…, m, *shape), W being (d, p); without weights 𝒟y itself
        (Algorithm 1)."""
        return Dy

    def pull(self, W: Array | None, tape: Tape, g: Array) -> Array:
        """𝒟x (…, m, *shape) from what `backward` returned, g (…, m·T, d), W being (d, p) (Algorithm 1)."""
        raise NotImplementedError

    def push(self, W: Array | None, tape: Tape, dx: Array | None, V: Sequence[Array]) -> Array:
        """ẏ (r, m, *shape) from ẋ, `dx` (r, m, *shape; None: 0), and the directions V_1 … V_r of W, `V`, each (d, p) as
        W (d, p) is (App. C)."""
        raise NotImplementedError

    # --- what its weights see ---

    def rows(self, tape: Tape) -> Array:
        """ā of all cases and locations, (m·T, p), in the order of W's columns; NotImplementedError where a layer has
        none."""
        raise NotImplementedError(f"a layer of the kind {self.kind} has no rows")

    def moment(self, tape: Tape) -> Array:
        """Σ ā āᵀ over cases and locations, (p, p)."""
        a = self.rows(tape)
        return a.T @ a

    def gradient(self, tape: Tape, g: Array) -> Array:
        """𝒟W = Σ g āᵀ over cases and locations, (d, p), from g (m·T, d); (r, d, p) from (r, m·T, d) of r cotangents
        (KFC §2)."""
        return namespace(g).matrix_transpose(g) @ self.rows(tape)

    def case_gradients(self, tape: Tape, g: Array) -> Array:
        """𝒟W of each case, (…, m, d, p), summed over its locations, from g (…, m·T, d) (KFC §2)."""
        xp, T = namespace(g), self.locations
        a = self.rows(tape)
        g = xp.reshape(g, (*g.shape[:-2], -1, T, g.shape[-1]))
        return xp.matrix_transpose(g) @ xp.reshape(a, (-1, T, a.shape[-1]))

    def again(self, tape: Tape) -> Array | None:
        """x (m, *shape) as it stands in the tape, if a copy of it does."""
        return None


# --- what kinds share ------------------------------------------------------------------------------------------------


def rows_times(x: Array, M: Array) -> Array:
    """x (…, p) times M (p, q), as one product of matrices, which is faster than one for each of a stack."""
    xp = namespace(x)
    return xp.reshape(xp.reshape(x, (-1, x.shape[-1])) @ M, (*x.shape[:-1], M.shape[1]))


def to_rows(x: Array, shape: Shape) -> Array:
    """x (…, m, *shape) as (…, m·T, d), for a case of `shape`; the last axis may be longer, by a 1."""
    if len(shape) == 1:
        return x
    return namespace(x).reshape(x, (*x.shape[: x.ndim - len(shape) - 1], -1, x.shape[-1]))


def from_rows(x: Array, shape: Shape) -> Array:
    """The reverse of `to_rows`: x (…, m·T, d) as (…, m, *shape)."""
    if len(shape) == 1:
        return x
    return namespace(x).reshape(x, (*x.shape[:-2], -1, *shape))


def channels_last(shape: Shape) -> Shape:
    """A case's shape inside: (H, W, c) for (c, H, W), others as they are."""
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


# --- checks of a description, whose caller says which layer it is ----------------------------------------------------


def checked(layer: Layer, name: str, check: Callable[[Any], Any], expected: str) -> None:
    """Put check(value) in the place of a field's value; ValueError saying what was expected if check raises."""
    value = getattr(layer, name)
    try:
        object.__setattr__(layer, name, check(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}, expected {expected}") from None


def whole(least: int) -> Callable[[Any], int]:
    """A check for a whole number of at least `least`: it raises ValueError for anything else."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value or value < least:
            raise ValueError
        return int(value)

    return check


def check_pairs(layer: Layer, least: int, *names: str) -> None:
    """Fields that are two whole numbers, vertical and horizontal; one number stands for both. ValueError if one is
    not."""

    def check(value: Any) -> tuple[int, int]:
        pair = value if isinstance(value, (list, tuple)) else (value, value)
        first, second = map(whole(least), pair)
        return first, second

    for name in names:
        checked(layer, name, check, f"[vertical, horizontal], two whole numbers ≥ {least}")


def check_out(layer: Layer) -> None:
    """ValueError unless the field `out`, the number of units or channels, is a whole number ≥ 1."""
    checked(layer, "out", whole(1), "a whole number ≥ 1")


def check_bias(layer: Layer) -> None:
    """ValueError unless the field `bias` is true or false."""
    if not isinstance(getattr(layer, "bias"), bool):  # noqa: B009
        raise ValueError(f"bias is {getattr(layer, 'bias')!r}, expected true or false")  # noqa: B009


def check_activation(layer: Layer, units: int) -> None:
    """The field `activation`, by name or as it is; ValueError for an unknown one, or an affine one that is for another
    number of units."""
    row: Activation = activation(getattr(layer, "activation"))  # noqa: B009
    if isinstance(row, Affine) and row.width != units:
        raise ValueError(f"has {units} units, but its activation {row.name} is for {row.width}")
    object.__setattr__(layer, "activation", row)


def require_input(layer: Layer, *dimensions: int) -> None:
    """ValueError unless the input has one of these numbers of dimensions."""
    if len(layer.input) not in dimensions:
        names = {1: "a vector (d,)", 2: "a sequence (T, d)", 3: "an image (c, H, W)"}
        wanted = " or ".join(names[n] for n in dimensions)
        raise ValueError(f"takes {wanted}, but what comes before it gives {layer.input}")
