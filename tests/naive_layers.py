"""Networks of any layers, one case and one location at a time, from their descriptions alone.

Everything here also takes complex numbers. So derivatives come from complex steps, Im f(x + ihv)/h = f′(x)v + O(h²)
without cancellation: with h = 1e-30 they are exact to rounding, and nothing of the passes is in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEP = 1e-30

PHI: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda s: s,
    "tanh": np.tanh,
    "logistic": lambda s: 1 / (1 + np.exp(-s)),
    "softplus": lambda s: np.log(1 + np.exp(s)),
    "relu": lambda s: np.where(s.real > 0, s, 0 * s),
}


@dataclass
class Naive:
    """One case through a network, or through a part of it."""

    W: Sequence[np.ndarray]
    """Of the layers with weights."""
    shift: Sequence[np.ndarray] | None = None
    """What is added to the pre-activations of each, of the shape of `s`."""
    rows: list[np.ndarray] = field(default_factory=list)
    """What the weights of each are applied to: (T, p), of depthwise convolutions (T, channels, p); of normalisations x̂
    (T, d)."""
    s: list[np.ndarray] = field(default_factory=list)
    """The pre-activations of each, (T, d)."""
    kink: float = np.inf
    """How near it came to a point without derivative, or to one near which derivatives are large: the smallest of a
    relu's |s|, of what the largest in a window is ahead of the next, and of a variance. Where one of these is exactly 0
    it stays so when weights change a little, and is left out."""

    def through(self, layers: Sequence[Mapping[str, Any]], x: np.ndarray) -> np.ndarray:
        """What the layers make of x, in the layout of descriptions: an image is (c, H, W)."""
        for layer in layers:
            keys = dict(layer)
            kind = keys.pop("kind").replace("-", "_")
            x = getattr(self, f"_{kind}")(x, **keys)
        return x

    # --- with weights ---

    def _weights(self) -> np.ndarray:
        return self.W[len(self.s)]

    def _units(self, rows: list[np.ndarray], s: list[np.ndarray], activation: str) -> np.ndarray:
        """φ of pre-activations, location by location; both are noted."""
        total = np.stack(s)
        if self.shift is not None:
            total = total + self.shift[len(self.s)]
        if activation == "relu":
            self._near(np.abs(total.real))
        self.rows.append(np.stack(rows))
        self.s.append(total)
        return PHI[activation](total)

    def _near(self, sizes: np.ndarray) -> None:
        self.kink = min(self.kink, np.min(sizes[sizes > 1e-12], initial=np.inf))

    def _dense(self, x, out, bias=True, activation="identity"):
        W = self._weights()
        rows = [np.append(row, [1.0] * bias) for row in x.reshape(-1, x.shape[-1])]
        return self._units(rows, [W @ a for a in rows], activation).reshape(*x.shape[:-1], out)

    def _conv(self, x, out, kernel, stride=1, padding=0, dilation=1, bias=True, activation="identity"):
        W = self._weights()
        seen, pixels = patches(x, kernel, stride, padding, dilation)
        rows = [np.append(patch.reshape(-1), [1.0] * bias) for patch in seen]
        return self._units(rows, [W @ a for a in rows], activation).T.reshape(out, *pixels)

    def _depthwise_conv(self, x, kernel, stride=1, padding=0, dilation=1, bias=True, activation="identity"):
        W = self._weights()
        seen, pixels = patches(x, kernel, stride, padding, dilation)
        rows = [np.stack([np.append(channel.reshape(-1), [1.0] * bias) for channel in patch]) for patch in seen]
        s = [np.array([w @ a for w, a in zip(W, row, strict=True)]) for row in rows]
        return self._units(rows, s, activation).T.reshape(len(x), *pixels)

    def _recurrent(self, x, out, bias=True, activation="tanh", returns="last"):
        W, number, h = self._weights(), len(self.s), np.zeros(out)
        rows, s, states = [], [], []
        for t, x_t in enumerate(x):
            rows.append(np.concatenate([x_t, h, [1.0] * bias]))
            s_t = W @ rows[-1]
            if self.shift is not None:
                s_t = s_t + self.shift[number][t]
            if activation == "relu":
                self._near(np.abs(s_t.real))
            h = PHI[activation](s_t)
            s.append(s_t)
            states.append(h)
        self.rows.append(np.stack(rows))
        self.s.append(np.stack(s))
        return h if returns == "last" else np.stack(states)

    def _layer_norm(self, x, epsilon=1e-5, activation="identity"):
        def normalise(row):
            variance = np.mean((row - np.mean(row)) ** 2)
            self._near(np.abs(variance.real))
            return (row - np.mean(row)) / np.sqrt(variance + epsilon)

        return self._scaled(x, normalise, activation)

    def _batch_norm(self, x, mean, variance, epsilon=1e-5, activation="identity"):
        mean, variance = np.array(mean), np.array(variance)
        return self._scaled(x, lambda row: (row - mean) / np.sqrt(variance + epsilon), activation)

    def _scaled(self, x, normalise, activation):
        W = self._weights()
        rows = np.moveaxis(x, 0, -1).reshape(-1, x.shape[0]) if x.ndim == 3 else x.reshape(-1, x.shape[-1])
        normal = [normalise(row) for row in rows]
        y = self._units(normal, [W[:, 0] * row + W[:, 1] for row in normal], activation)
        return y.T.reshape(x.shape) if x.ndim == 3 else y.reshape(x.shape)

    # --- without ---

    def _average_pool(self, x, size, stride=None):
        seen, pixels = patches(x, size, size if stride is None else stride)
        return np.stack([patch.mean(axis=(1, 2)) for patch in seen], axis=1).reshape(len(x), *pixels)

    def _max_pool(self, x, size, stride=None):
        seen, pixels = patches(x, size, size if stride is None else stride)

        def largest(channel):
            values = channel.reshape(-1)
            self._near(np.diff(np.sort(values.real))[-1:])
            return values[np.argmax(values.real)]  # the first of equal ones

        return np.array([[largest(c) for c in patch] for patch in seen]).T.reshape(len(x), *pixels)

    def _global_mean(self, x):
        return np.array([sum(channel.reshape(-1)) / channel.size for channel in x])

    def _mean_over_positions(self, x):
        return sum(x) / len(x)

    def _flatten(self, x):
        return x.reshape(-1)

    def _residual(self, x, layers):
        return x + self.through(layers, x)


def pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def patches(x, kernel, stride, padding=0, dilation=1):
    """What each window sees of an image (c, H, W), pixel by pixel, and (H′, W′)."""
    (kh, kw), (sv, sh), (pv, ph), (dv, dh) = map(pair, (kernel, stride, padding, dilation))
    c, H, W = x.shape
    padded = np.zeros((c, H + 2 * pv, W + 2 * ph), dtype=x.dtype)
    padded[:, pv : pv + H, ph : ph + W] = x
    tops = [i for i in range(0, H + 2 * pv, sv) if i + dv * (kh - 1) < H + 2 * pv]
    lefts = [j for j in range(0, W + 2 * ph, sh) if j + dh * (kw - 1) < W + 2 * ph]
    seen = []
    for i, j in itertools.product(tops, lefts):
        patch = np.zeros((c, kh, kw), dtype=x.dtype)
        for u, v in itertools.product(range(kh), range(kw)):
            patch[:, u, v] = padded[:, i + u * dv, j + v * dh]
        seen.append(patch)
    return seen, (len(tops), len(lefts))


def directional(f: Callable[..., np.ndarray], at: Sequence[np.ndarray], along: Sequence[np.ndarray]) -> np.ndarray:
    """The derivative of f at several arrays in one direction."""
    return f(*(x + 1j * STEP * v for x, v in zip(at, along, strict=True))).imag / STEP


def jacobian(f: Callable[..., np.ndarray], at: Sequence[np.ndarray], which: int) -> np.ndarray:
    """df/dx of one of several arrays: (*shape of f, *shape of x)."""
    columns = []
    for index in range(at[which].size):
        along = [np.zeros(x.shape) for x in at]
        along[which].reshape(-1)[index] = 1.0
        columns.append(directional(f, at, along))
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *at[which].shape)
