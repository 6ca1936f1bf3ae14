"""Pooling of images, and means over all locations: no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import repeat
from math import prod
from operator import add
from typing import Any, ClassVar

from autodiff.arrays import Array, device, namespace
from autodiff.layers.layer import Layer, Shape, Tape, check_pairs, require_input
from autodiff.layers.windows import Windows, put_back


@dataclass(frozen=True, kw_only=True)
class Pooling(Layer):
    """A window of `size` that moves by `stride`; pixels that no whole window has are left out.

    ValueError where a field, or the shape of its input, does not fit.
    """

    size: tuple[int, int]
    stride: tuple[int, int] | None = None
    """As `size`, unless it is given."""

    def __post_init__(self) -> None:
        require_input(self, 3)
        check_pairs(self, 1, "size")
        if self.stride is None:
            object.__setattr__(self, "stride", self.size)
        check_pairs(self, 1, "stride")
        if min(self.pixels) < 1:
            raise ValueError(f"its size {list(self.size)} does not fit into the image of {self.input}")

    @property
    def windows(self) -> Windows:
        """Over the image."""
        assert self.stride is not None
        return Windows((self.input[1], self.input[2]), self.size, self.stride)

    @property
    def pixels(self) -> tuple[int, int]:
        """(H′, W′)."""
        return self.windows.number

    @property
    def output(self) -> Shape:
        return (self.input[0], *self.pixels)

    @property
    def entries(self) -> int:
        return prod(self.input)


@dataclass(frozen=True, kw_only=True)
class AveragePool(Pooling):
    """The mean over the window (KFC §4)."""

    kind: ClassVar[str] = "average-pool"

    def forward(self, W: None, x: Array) -> tuple[Array, Tape]:
        return self._mean(x), Tape()

    def pull(self, W: None, tape: Tape, g: Array) -> Array:
        return put_back(repeat(g / prod(self.size), prod(self.size)), self.windows)

    def push(self, W: None, tape: Tape, dx: Array, V: Sequence[Array]) -> Array:
        return self._mean(dx)

    def _mean(self, x: Array) -> Array:
        # the window's rows first: with its columns then, fewer sums than over all its places
        rows = reduce(add, (x[..., v, :, :] for v in self.windows.along(0)))
        return reduce(add, (rows[..., h, :] for h in self.windows.along(1))) / prod(self.size)


@dataclass(frozen=True, kw_only=True)
class MaxPool(Pooling):
    """The largest in the window; of equal ones the first, row by row, has the derivative (KFC §4)."""

    kind: ClassVar[str] = "max-pool"

    def forward(self, W: None, x: Array) -> tuple[Array, Tape]:
        xp = namespace(x)
        largest, winner = None, None
        for place, (v, h) in enumerate(self.windows.places()):
            part = x[..., v, h, :]
            if largest is None:
                largest, winner = part, xp.zeros(part.shape, dtype=xp.int32, device=device(x))
                continue
            larger = part > largest
            largest = xp.where(larger, part, largest)
            winner = xp.where(larger, xp.asarray(place, dtype=xp.int32, device=device(x)), winner)
        return largest, Tape(None, winner)

    def pull(self, W: None, tape: Tape, g: Array) -> Array:
        return put_back((chosen * g for chosen, _ in self._chosen(tape, g)), self.windows)

    def push(self, W: None, tape: Tape, dx: Array, V: Sequence[Array]) -> Array:
        return sum(chosen * dx[..., v, h, :] for chosen, (v, h) in self._chosen(tape, dx))

    def _chosen(self, tape: Tape, like: Array) -> Iterator[tuple[Array, tuple[slice, slice]]]:
        """For each place in the window whether it has the largest, as 0 and 1, and the pixels there."""
        for place, seen in enumerate(self.windows.places()):
            yield namespace(like).astype(tape.saved == place, like.dtype), seen


@dataclass(frozen=True, kw_only=True)
class MeanOverLocations(Layer):
    """The mean over an image's pixels, or over a sequence's positions; the kind says which.

    ValueError where its input is not of that kind.
    """

    dimensions: ClassVar[int]
    """Of the input."""

    def __post_init__(self) -> None:
        require_input(self, self.dimensions)

    @property
    def output(self) -> Shape:
        return (self.input[0] if self.dimensions == 3 else self.input[-1],)

    @property
    def entries(self) -> int:
        return prod(self.input)

    def forward(self, W: None, x: Array) -> tuple[Array, Tape]:
        return self._mean(x), Tape()

    def pull(self, W: None, tape: Tape, g: Array) -> Array:
        xp, places = namespace(g), self.input[1:] if self.dimensions == 3 else self.input[:-1]
        share = xp.reshape(g / prod(places), (*g.shape[:-1], *(1 for _ in places), g.shape[-1]))
        return xp.broadcast_to(share, (*g.shape[:-1], *places, g.shape[-1]))

    def push(self, W: None, tape: Tape, dx: Array, V: Sequence[Array]) -> Array:
        return self._mean(dx)

    def _mean(self, x: Array) -> Array:
        return namespace(x).mean(x, axis=tuple(range(-self.dimensions, -1)))


@dataclass(frozen=True, kw_only=True)
class GlobalMean(MeanOverLocations):
    """The mean over an image's pixels: (c, H, W) → (c,)."""

    kind: ClassVar[str] = "global-mean"
    dimensions: ClassVar[int] = 3


@dataclass(frozen=True, kw_only=True)
class MeanOverPositions(MeanOverLocations):
    """The mean over a sequence's positions: (T, d) → (d,)."""

    kind: ClassVar[str] = "mean-over-positions"
    dimensions: ClassVar[int] = 2

    def forward_masked(self, W: None, x: Array, mask: Array) -> tuple[Array, Tape]:
        share = (mask / namespace(x).sum(mask, axis=1, keepdims=True))[:, :, None]
        return _shared(x, share), Tape(extra=(share,))

    def pull(self, W: None, tape: Tape, g: Array) -> Array:
        return g[..., None, :] * tape.extra[0] if tape.extra else super().pull(W, tape, g)

    def push(self, W: None, tape: Tape, dx: Array, V: Sequence[Array]) -> Array:
        return _shared(dx, tape.extra[0]) if tape.extra else super().push(W, tape, dx, V)


def _shared(x: Array, share: Array) -> Array:
    """Σ_t share_t x_t of x (…, m, T, d), the shares (m, T, 1) being 0 where a case has no step."""
    return namespace(x).sum(x * share, axis=-2)


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """An image (c, H, W) or a sequence (T, d) as a vector, in that order."""

    kind: ClassVar[str] = "flatten"

    @property
    def output(self) -> Shape:
        return (prod(self.input),)

    def forward(self, W: None, x: Array) -> tuple[Array, Tape]:
        return self._flat(x), Tape()

    def forward_masked(self, W: None, x: Array, mask: Array) -> tuple[Array, Tape]:
        """As of `Layer.forward_masked`: ValueError, as each step has weights of its own behind it."""
        raise ValueError("a layer flatten takes sequences of one length, as each step has weights of its own behind it")

    def pull(self, W: None, tape: Tape, g: Array) -> Array:
        return packed(namespace(g).reshape(g, (*g.shape[:-1], *self.input)), self.input)

    def push(self, W: None, tape: Tape, dx: Array, V: Sequence[Array]) -> Array:
        return self._flat(dx)

    def _flat(self, x: Array) -> Array:
        xp, n = namespace(x), x.ndim - len(self.input)
        if len(self.input) == 3:
            x = xp.permute_dims(x, (*range(n), n + 2, n, n + 1))
        return xp.reshape(x, (*x.shape[:n], -1))


def packed(x: Array, shape: Shape) -> Array:
    """x (…, c, H, W) with the channels last, (…, H, W, c), for a case of that `shape`; others as they are (KFC §4)."""
    if len(shape) < 3:
        return x
    n: Any = x.ndim - 3
    return namespace(x).permute_dims(x, (*range(n), n + 1, n + 2, n))
