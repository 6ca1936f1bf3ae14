"""A depthwise convolution: each channel has a small kernel of its own, and sees no other channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from autodiff.arrays import Array, namespace
from autodiff.layers.convolution import Window
from autodiff.layers.layer import Shape, Tape, check_activation
from autodiff.layers.windows import put_back


@dataclass(frozen=True, kw_only=True)
class DepthwiseConvolution(Window):
    """s_c = Σ over the kernel of W_c ⊙ patch of channel c, W (c, kh·kw [+1]), the bias last.

    Channels have rows of their own, so that no Ā is common to all; the layer's block of F is small and kept whole.

    ValueError or TypeError where a field, or the shape of its input, does not fit.
    """

    kind: ClassVar[str] = "depthwise-conv"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self, self.input[0])

    @property
    def output(self) -> Shape:
        return (self.input[0], *self.pixels)

    @property
    def shape(self) -> tuple[int, int]:
        return self.input[0], math.prod(self.kernel) + self.bias

    @property
    def fan_out(self) -> int:
        return math.prod(self.kernel)

    @property
    def fan_in(self) -> int:
        return math.prod(self.kernel)

    def forward(self, W: Array, x: Array) -> tuple[Array, Tape]:
        padded = self._pad(x)
        value, saved = self.activation.value(self._applied(W, padded))
        return value, Tape(padded, saved)

    def backward(self, W: Array, tape: Tape, Dy: Array) -> Array:
        return self.activation.pull(tape.saved, Dy)

    def pull(self, W: Array, tape: Tape, g: Array) -> Array:
        return self._unpad(put_back((g * W[:, entry] for entry in range(self.fan_in)), self.windows))

    def push(self, W: Array, tape: Tape, dx: Array | None, V: Sequence[Array]) -> Array:
        ds = namespace(W).stack([self._applied(v, tape.a) for v in V])
        if dx is not None:
            ds += self._applied(W, self._pad(dx), bias=False)
        return self.activation.push(tape.saved, ds)

    def gradient(self, tape: Tape, g: Array) -> Array:
        return namespace(g).sum(self.case_gradients(tape, g), axis=-3)

    def case_gradients(self, tape: Tape, g: Array) -> Array:
        xp = namespace(g)
        columns = [xp.sum(g * tape.a[:, v, h, :], axis=(-3, -2)) for v, h in self.windows.places()]
        if self.bias:
            columns.append(xp.sum(g, axis=(-3, -2)))
        return xp.stack(columns, axis=-1)

    def _applied(self, W: Array, padded: Array, bias: bool = True) -> Array:
        s = sum(padded[..., v, h, :] * W[:, entry] for entry, (v, h) in enumerate(self.windows.places()))
        return s + W[:, -1] if self.bias and bias else s
