"""A recurrent layer: the same weights at each step of time (RNN §2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from autodiff.activations import Activation
from autodiff.arrays import Array, device, namespace
from autodiff.layers.layer import (
    Layer,
    Shape,
    Tape,
    check_activation,
    check_bias,
    check_out,
    require_input,
    rows_times,
)
from autodiff.names import closest


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """ā_t = [x_t; h_{t−1}; 1], h_t = φ(W ā_t), h_0 = 0, on a sequence (T, d): W is (out, d + out [+1]) (RNN §2).

    ValueError or TypeError where a field, or the shape of its input, does not fit.
    """

    out: int
    bias: bool = True
    activation: Activation = "tanh"  # type: ignore[assignment]
    returns: str = "last"
    """h_T, or with "all" h_1 … h_T."""

    kind: ClassVar[str] = "recurrent"
    kronecker: ClassVar[bool] = True
    recurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_input(self, 2)
        check_out(self)
        check_bias(self)
        check_activation(self, self.out)
        closest(self.returns, ("last", "all"), "value of returns")

    @property
    def output(self) -> Shape:
        return (self.out,) if self.returns == "last" else (self.input[0], self.out)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out, self.fan_in + self.bias

    @property
    def locations(self) -> int:
        return self.input[0]

    @property
    def entries(self) -> int:
        return self.locations * max(self.shape)

    @property
    def fan_in(self) -> int:
        return self.input[1] + self.out

    def forward(self, W: Array, x: Array) -> tuple[Array, Tape]:
        xp, (T, d), (m, p) = namespace(x), self.input, (x.shape[0], self.shape[1])
        a = xp.zeros((m, T, p), dtype=x.dtype, device=device(x))
        a[..., :d] = x
        if self.bias:
            a[..., -1] = 1.0
        h: list[Array] = []
        saved: list[Array] = []
        for t in range(T):
            if t:
                a[:, t, d : d + self.out] = h[-1]
            value, kept = self.activation.value(a[:, t, :] @ W.T)
            h.append(value)
            saved.append(kept)
        values = h[-1] if self.returns == "last" else xp.stack(h, axis=1)
        return values, Tape(xp.reshape(a, (m * T, p)), xp.stack(saved, axis=1))

    def forward_masked(self, W: Array, x: Array, mask: Array) -> tuple[Array, Tape]:
        xp, (m, T) = namespace(x), mask.shape
        every, tape = replace(self, returns="all").forward(W, x)
        tape = tape._replace(a=tape.a * xp.reshape(mask, (m * T, 1)))
        if self.returns == "all":
            return every, tape
        # 1 at a case's last step, which is followed by padding or by nothing
        after = xp.concat([mask[:, 1:], xp.zeros_like(mask[:, :1])], axis=1)
        last = (mask - after)[:, :, None]
        return xp.sum(every * last, axis=1), tape._replace(extra=(last,))

    def backward(self, W: Array, tape: Tape, Dy: Array) -> Array:
        if tape.extra:  # the last step of each case is at a place of its own
            Dy = Dy[..., None, :] * tape.extra[0]
        # back through time: 𝒟h_t gets a share from the output, and one from step t+1
        xp, T, last = namespace(Dy), self.locations, self.returns == "last" and not tape.extra
        recurrent = W[:, self.input[1] : self.fan_in]
        g: list[Array] = []
        for t in reversed(range(T)):
            Dh = (Dy if t == T - 1 else None) if last else Dy[..., t, :]
            if g:
                back = rows_times(g[-1], recurrent)
                Dh = back if Dh is None else Dh + back
            g.append(self.activation.pull(tape.saved[:, t, :], Dh))
        rows = xp.stack(g[::-1], axis=-2)
        return xp.reshape(rows, (*rows.shape[:-3], -1, self.out))

    def pull(self, W: Array, tape: Tape, g: Array) -> Array:
        Dx = rows_times(g, W[:, : self.input[1]])
        return namespace(g).reshape(Dx, (*g.shape[:-2], -1, *self.input))

    def push(self, W: Array, tape: Tape, dx: Array | None, V: Sequence[Array]) -> Array:
        xp, (T, d) = namespace(W), self.input
        inputs, recurrent = W[:, :d].T, W[:, d : self.fan_in].T
        ds = xp.stack([tape.a @ v.T for v in V])
        ds = xp.reshape(ds, (len(V), -1, T, self.out))
        if dx is not None:
            ds += rows_times(dx, inputs)
        dh: list[Array] = []
        for t in range(T):
            step = ds[..., t, :]
            if t:
                step = step + rows_times(dh[-1], recurrent)
            dh.append(self.activation.push(tape.saved[:, t, :], step))
        if tape.extra:
            return xp.sum(xp.stack(dh, axis=-2) * tape.extra[0], axis=-2)
        return dh[-1] if self.returns == "last" else xp.stack(dh, axis=-2)

    def rows(self, tape: Tape) -> Array:
        return tape.a
