"""Layers' forward step of one case by plain loops, channels first, written from the definitions alone.

They know nothing of rows, tapes or layouts: what `autodiff.layers` does is compared with them, and its derivatives with
their differences.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

PHI: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda s: s,
    "tanh": np.tanh,
    "relu": lambda s: np.maximum(s, 0),
    "logistic": lambda s: 1 / (1 + np.exp(-s)),
    "softplus": lambda s: np.log1p(np.exp(s)),
}


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def dense(keys: Mapping[str, Any], W: np.ndarray, x: np.ndarray) -> np.ndarray:
    if x.ndim == 2:
        return np.stack([dense(keys, W, row) for row in x])
    return W @ np.append(x, 1.0) if keys.get("bias", True) else W @ x


def window(x: np.ndarray, keys: Mapping[str, Any], i: int, j: int) -> np.ndarray:
    """What the kernel sees of a padded image from the pixel (i, j) of the output: (c, kh, kw)."""
    (kh, kw), (sv, sh), (dv, dh) = (pair(keys.get(k, 1)) for k in ("kernel", "stride", "dilation"))
    return np.array([[[c[i * sv + a * dv, j * sh + b * dh] for b in range(kw)] for a in range(kh)] for c in x])


def pixels(x: np.ndarray, keys: Mapping[str, Any]) -> tuple[np.ndarray, list[tuple[int, int]], tuple[int, int]]:
    """The padded image, the pixels of the output, and its sides."""
    (pv, ph), (kh, kw), (sv, sh), (dv, dh) = (
        pair(keys.get(k, d)) for k, d in (("padding", 0), ("kernel", 1), ("stride", 1), ("dilation", 1))
    )
    padded = np.pad(x, ((0, 0), (pv, pv), (ph, ph)))
    H = len([i for i in range(0, padded.shape[1], sv) if i + dv * (kh - 1) < padded.shape[1]])
    V = len([j for j in range(0, padded.shape[2], sh) if j + dh * (kw - 1) < padded.shape[2]])
    return padded, list(itertools.product(range(H), range(V))), (H, V)


def conv(keys: Mapping[str, Any], W: np.ndarray, x: np.ndarray) -> np.ndarray:
    padded, places, sides = pixels(x, keys)
    bias = keys.get("bias", True)
    s = [W @ np.append(window(padded, keys, *p).ravel(), [1.0] * bias) for p in places]
    return np.array(s).T.reshape(-1, *sides)


def depthwise_conv(keys: Mapping[str, Any], W: np.ndarray, x: np.ndarray) -> np.ndarray:
    padded, places, sides = pixels(x, keys)
    bias = keys.get("bias", True)
    s = [
        [w @ np.append(part.ravel(), [1.0] * bias) for w, part in zip(W, window(padded, keys, *p), strict=True)]
        for p in places
    ]
    return np.array(s).T.reshape(-1, *sides)


def recurrent(keys: Mapping[str, Any], W: np.ndarray, x: np.ndarray) -> np.ndarray:
    h, states = np.zeros(len(W)), []
    for row in x:
        h = PHI[keys.get("activation", "tanh")](W @ np.concatenate([row, h, [1.0] * keys.get("bias", True)]))
        states.append(h)
    return h if keys.get("returns", "last") == "last" else np.array(states)


def features_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 0, -1) if x.ndim == 3 else x


def features_first(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 0) if x.ndim == 3 else x


def layer_norm(keys: Mapping[str, Any], W: np.ndarray, x: np.ndarray) -> np.ndarray:
    x = features_last(x)
    hat = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + keys.get("epsilon", 1e-5))
    return features_first(W[:, 0] * hat + W[:, 1])


def batch_norm(keys: Mapping[str, Any], W: np.ndarray, x: np.ndarray) -> np.ndarray:
    hat = (features_last(x) - keys["mean"]) / np.sqrt(np.array(keys["variance"]) + keys.get("epsilon", 1e-5))
    return features_first(W[:, 0] * hat + W[:, 1])


def pool(reduce: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def pooled(keys: Mapping[str, Any], W: None, x: np.ndarray) -> np.ndarray:
        as_window = {"kernel": keys["size"], "stride": keys.get("stride", keys["size"])}
        padded, places, sides = pixels(x, as_window)
        return np.array([reduce(window(padded, as_window, *p), axis=(1, 2)) for p in places]).T.reshape(-1, *sides)

    return pooled


NAIVE: dict[str, Callable[..., np.ndarray]] = {
    "dense": dense,
    "conv": conv,
    "depthwise-conv": depthwise_conv,
    "recurrent": recurrent,
    "layer-norm": layer_norm,
    "batch-norm": batch_norm,
    "average-pool": pool(np.mean),
    "max-pool": pool(np.max),
    "global-mean": lambda keys, W, x: x.mean(axis=(1, 2)),
    "mean-over-positions": lambda keys, W, x: x.mean(axis=0),
    "flatten": lambda keys, W, x: x.ravel(),
}
WITHOUT_WEIGHTS = {"average-pool", "max-pool", "global-mean", "mean-over-positions", "flatten"}


def output(network: Sequence[Mapping[str, Any]], parameters: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """z of one case x, of the shape that the last layer gives."""
    left = list(parameters)
    z = _through(network, left, x)
    assert not left
    return z


def _through(network: Sequence[Mapping[str, Any]], left: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for keys in network:
        if keys["kind"] == "residual":
            x = x + _through(keys["layers"], left, x)
            continue
        W = None if keys["kind"] in WITHOUT_WEIGHTS else left.pop(0)
        x = NAIVE[keys["kind"]](keys, W, x)
        if keys["kind"] != "recurrent":
            x = PHI[keys.get("activation", "identity")](x)
    return x
