"""A convolution: the same weights on a patch around each pixel of its output (KFC §2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from autodiff.activations import Activation
from autodiff.arrays import Array, device, namespace
from autodiff.layers.layer import (
    Layer,
    Shape,
    Tape,
    channels_last,
    check_activation,
    check_bias,
    check_out,
    check_pairs,
    from_rows,
    require_input,
    rows_times,
    to_rows,
)
from autodiff.layers.windows import Windows, patches, put_back


@dataclass(frozen=True, kw_only=True)
class Window(Layer):
    """What layers share that look through a window of kernel (kh, kw) at an image: geometry, padding, shifted views.

    ValueError where a field, or the shape of its input, does not fit.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True
    activation: Activation = "identity"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        require_input(self, 3)
        check_pairs(self, 1, "kernel", "stride", "dilation")
        check_pairs(self, 0, "padding")
        check_bias(self)
        if min(self.pixels) < 1:
            raise ValueError(f"its kernel {list(self.kernel)} does not fit into the padded image of {self.input}")

    @property
    def windows(self) -> Windows:
        """Over the padded image."""
        H, W = (n + 2 * p for n, p in zip(self.input[1:], self.padding, strict=True))
        return Windows((H, W), self.kernel, self.stride, self.dilation)

    @property
    def pixels(self) -> tuple[int, int]:
        """(H′, W′)."""
        return self.windows.number

    @property
    def locations(self) -> int:
        return math.prod(self.pixels)

    @property
    def entries(self) -> int:
        return max(math.prod(self.output), self.input[0] * math.prod(self.windows.image))

    def _pad(self, x: Array) -> Array:
        """(…, H, W, c) with its zeros around."""
        if not any(self.padding):
            return x
        xp, (v, h) = namespace(x), self.padding
        padded = xp.zeros((*x.shape[:-3], *self.windows.image, x.shape[-1]), dtype=x.dtype, device=device(x))
        padded[..., v : v + x.shape[-3], h : h + x.shape[-2], :] = x
        return padded

    def _unpad(self, x: Array) -> Array:
        """The adjoint of `_pad`."""
        if not any(self.padding):
            return x
        v, h = self.padding
        return x[..., v : v + self.input[1], h : h + self.input[2], :]


@dataclass(frozen=True, kw_only=True)
class Convolution(Window):
    """s = W ā at each pixel of the output, ā being the patch there: W is (out, c·kh·kw [+1]), its columns in the order
    channel, kernel row, kernel column, bias; zeros stand outside the image (KFC §2).

    The patches are kept for the other passes: m·T·p numbers, of which `passes.KEPT` bounds how many are there at once.
    Inside they are in the order kernel row, kernel column, channel, in which they are gathered several times faster;
    what is made of them (𝒟W, Σ ā āᵀ) is put in W's order.

    ValueError or TypeError where a field, or the shape of its input, does not fit.
    """

    out: int

    kind: ClassVar[str] = "conv"
    kronecker: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_out(self)
        check_activation(self, self.out)

    @property
    def output(self) -> Shape:
        return (self.out, *self.pixels)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out, self.fan_in + self.bias

    @property
    def fan_out(self) -> int:
        return self.out * math.prod(self.kernel)

    @property
    def fan_in(self) -> int:
        return self.input[0] * math.prod(self.kernel)

    @property
    def entries(self) -> int:
        return max(super().entries, self.locations * max(self.shape))

    def forward(self, W: Array, x: Array) -> tuple[Array, Tape]:
        a = self._patches(x, self.bias)
        value, saved = self.activation.value(a @ self._inward(W).T)
        return from_rows(value, channels_last(self.output)), Tape(a, saved)

    def backward(self, W: Array, tape: Tape, Dy: Array) -> Array:
        return self.activation.pull(tape.saved, to_rows(Dy, channels_last(self.output)))

    def pull(self, W: Array, tape: Tape, g: Array) -> Array:
        # products with the weights of each kernel entry, shifted, take less memory and time than patches added back
        c, inward = self.input[0], self._inward(W)
        entries = (inward[:, start : start + c] for start in range(0, self.fan_in, c))
        return self._unpad(put_back((from_rows(rows_times(g, M), (*self.pixels, c)) for M in entries), self.windows))

    def push(self, W: Array, tape: Tape, dx: Array | None, V: Sequence[Array]) -> Array:
        xp = namespace(W)
        ds = xp.stack([tape.a @ self._inward(v).T for v in V])
        if dx is not None:
            inward = self._inward(W)[:, : self.fan_in]
            for r in range(len(V)):
                ds[r, ...] += self._patches(dx[r, ...], False) @ inward.T
        return from_rows(self.activation.push(tape.saved, ds), channels_last(self.output))

    def rows(self, tape: Tape) -> Array:
        return self._outward(tape.a)

    def moment(self, tape: Tape) -> Array:
        return self._outward(self._outward(tape.a.T @ tape.a).T)

    def gradient(self, tape: Tape, g: Array) -> Array:
        return self._outward(namespace(g).matrix_transpose(g) @ tape.a)

    def _patches(self, x: Array, ones: bool) -> Array:
        """(m, H, W, c) → (m·T, kh·kw·c [+1])."""
        a = patches(self._pad(x), self.windows, ones)
        return namespace(x).reshape(a, (-1, a.shape[-1]))

    def _inward(self, M: Array) -> Array:
        """(…, p) with the columns in the order kernel row, kernel column, channel, bias."""
        return self._reordered(M, (self.input[0], *self.kernel), (1, 2, 0))

    def _outward(self, M: Array) -> Array:
        """The reverse of `_inward`."""
        return self._reordered(M, (*self.kernel, self.input[0]), (2, 0, 1))

    def _reordered(self, M: Array, shape: Shape, order: Shape) -> Array:
        if self.input[0] == 1:
            return M
        xp, n = namespace(M), M.ndim - 1
        weights = xp.reshape(M[..., : self.fan_in], (*M.shape[:-1], *shape))
        weights = xp.permute_dims(weights, (*range(n), *(n + axis for axis in order)))
        weights = xp.reshape(weights, (*M.shape[:-1], self.fan_in))
        return xp.concat([weights, M[..., self.fan_in :]], axis=-1) if self.bias else weights
