"""A fully connected layer, on a vector or, with the same weights, on each position of a sequence (§2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from autodiff.activations import Activation
from autodiff.arrays import Array, append_ones, namespace
from autodiff.layers.layer import (
    Layer,
    Shape,
    Tape,
    check_activation,
    check_bias,
    check_out,
    from_rows,
    require_input,
    rows_times,
    to_rows,
)


@dataclass(frozen=True, kw_only=True)
class Dense(Layer):
    """s = W ā, a = φ(s), on (d,) or on the last axis of (T, d).

    ValueError or TypeError where a field, or the shape of its input, does not fit.
    """

    out: int
    bias: bool = True
    activation: Activation = "identity"  # type: ignore[assignment]

    kind: ClassVar[str] = "dense"
    kronecker: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_input(self, 1, 2)
        check_out(self)
        check_bias(self)
        check_activation(self, self.out)

    @property
    def output(self) -> Shape:
        return (*self.input[:-1], self.out)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out, self.input[-1] + self.bias

    @property
    def locations(self) -> int:
        return self.input[0] if len(self.input) == 2 else 1

    @property
    def fan_in(self) -> int:
        return self.input[-1]

    def forward(self, W: Array, x: Array) -> tuple[Array, Tape]:
        a = to_rows(append_ones(x) if self.bias else x, self.input)
        value, saved = self.activation.value(a @ W.T)
        return from_rows(value, self.output), Tape(a, saved)

    def forward_masked(self, W: Array, x: Array, mask: Array) -> tuple[Array, Tape]:
        y, tape = self.forward(W, x)
        return y, tape._replace(a=tape.a * to_rows(mask[:, :, None], self.input))

    def backward(self, W: Array, tape: Tape, Dy: Array) -> Array:
        return self.activation.pull(tape.saved, to_rows(Dy, self.output))

    def pull(self, W: Array, tape: Tape, g: Array) -> Array:
        return from_rows(rows_times(g, self.weights(W)), self.input)

    def push(self, W: Array, tape: Tape, dx: Array | None, V: Sequence[Array]) -> Array:
        ds = namespace(W).stack([tape.a @ v.T for v in V])
        if dx is not None:
            ds += rows_times(to_rows(dx, self.input), self.weights(W).T)
        return from_rows(self.activation.push(tape.saved, ds), self.output)

    def rows(self, tape: Tape) -> Array:
        return tape.a

    def again(self, tape: Tape) -> Array | None:
        return tape.a[:, :-1] if self.bias and len(self.input) == 1 else None

    def weights(self, W: Array) -> Array:
        """W (d, p) without its bias column, of shape (d, fan-in)."""
        return W[:, :-1] if self.bias else W
