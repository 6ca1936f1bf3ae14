"""Another implementation's numbers for a case, in its own conventions: reading them, and nothing more.

Nothing is brought into another layout here. What is refused is what can be no convention: an unknown name, a layer that
the network does not have, a shape that no matrix or vector of that layer has, numbers that are not finite reals.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import to_numpy
from autodiff.names import nearest
from kfac_ref.data.npz_file import finite, one_line, read_archive
from kfac_ref.oracle.captured import AnyCase, CapturedCase

LAYERED = (
    "A",
    "G",
    "G_bias",
    "gradient",
    "gradient_weight",
    "gradient_bias",
    "preconditioned",
    "preconditioned_weight",
    "preconditioned_bias",
    "block",
)
"""Names that are followed by _ and the number of a layer; besides them there is `fisher`."""
KNOWN = ", ".join(f"{kind}_i" for kind in LAYERED) + ", fisher"


def kind_of(name: str) -> str:
    """The kind of a quantity: its name without the number of its layer."""
    return name if name == "fisher" else name.rsplit("_", 1)[0]


def read_theirs(source: str | Path | Mapping[str, Any], case: AnyCase) -> dict[str, np.ndarray]:
    """The arrays of another implementation for `case`, checked.

    Parameters
    ----------
    source : path of an .npz, or mapping of names to arrays
        Names as in `LAYERED`, and `fisher`. Layers count from 1; of a fully connected network `A_i` may count from 0 as
        the paper's Ā, or from 1 as the layers. Arrays may be of any library that offers DLPack or `__array__`, on any
        device, and may require gradients. Single strings in a file are notes, and left out.
    case : Case or CapturedCase

    Returns
    -------
    dict of str to ndarray
        On the host; float32 as float32, shorter ones too, and all other numbers as float64.

    Raises
    ------
    ValueError
        In one line that names the file, the key, its shape or value, and what was expected.
    """
    if isinstance(source, Mapping):
        where, raw = "theirs", {str(name): _on_host(name, x) for name, x in source.items()}
    else:
        where, raw = str(source), read_archive(Path(source))[0]
        raw = {name: x for name, x in raw.items() if not (x.dtype.kind in "US" and x.size == 1)}
    if not raw:
        raise ValueError(f"{where}: holds no array, expected some of {KNOWN}")
    layers = case.network.layers
    from_0 = case.network.fully_connected
    parsed = {name: _parsed(where, name, layers, from_0) for name in raw}
    if "A_0" in raw and f"A_{layers}" in raw:
        raise ValueError(f"{where}: keys 'A_0' and 'A_{layers}', expected A_0 … A_{layers - 1} or A_1 … A_{layers}")
    for name, (kind, number) in parsed.items():
        shapes, expected = [], []
        for layer in _layers_of(kind, number, raw, layers) if from_0 else [number]:
            fitting, said = _fitting(where, name, kind, layer, case)
            shapes += fitting
            expected.append(said)
        if raw[name].shape not in shapes and not _image(raw[name], kind, number, case):
            said = "; or ".join(dict.fromkeys(expected))
            raise ValueError(f"{where}: key {name!r} has shape {raw[name].shape}, expected {said}")
    return {name: finite(where, name, x, np.float32 if _short(x) else np.float64) for name, x in raw.items()}


def _on_host(name: str, x: Any) -> np.ndarray:
    """`x` of whatever library as a NumPy array."""
    try:
        if hasattr(x, "detach"):  # PyTorch: what is part of a graph must be taken out of it first
            x = x.detach().cpu()
        if "bfloat16" in str(getattr(x, "dtype", "")):  # which NumPy has not
            x = x.float() if hasattr(x, "float") else x.astype(np.float32)
        try:
            return to_numpy(x)
        except TypeError:
            return np.asarray(x) if hasattr(x, "__array__") or not hasattr(x, "__dlpack__") else np.from_dlpack(x)
    except Exception as error:
        message = f"key {name!r} is a {type(x).__name__} that cannot be read: {one_line(error)}"
        raise ValueError(f"theirs: {message}") from error


def _short(x: np.ndarray) -> bool:
    """Whether `x` holds floating-point numbers of 32 bits or fewer."""
    return x.dtype.kind == "f" and x.dtype.itemsize <= 4


def _parsed(where: str, name: str, layers: int, from_0: bool) -> tuple[str, int]:
    """The kind of array and its number; 0 for `fisher`. `from_0`: whether an A may be counted from 0."""
    if name == "fisher":
        return name, 0
    match = re.fullmatch(r"(\w+?)_(\d+)", name)
    if match is None or match[1] not in LAYERED:
        known = [f"{kind}_{i}" for kind in LAYERED for i in range(kind != "A" or not from_0, layers + 1)] + ["fisher"]
        raise ValueError(f'{where}: unknown name "{name}"{nearest(name, known)} (known: {KNOWN})')
    kind, number = match[1], int(match[2])
    first = 0 if kind == "A" and from_0 else 1
    if not first <= number <= layers or match[2] != str(number):
        raise ValueError(f"{where}: key {name!r}, expected {kind}_{first} … {kind}_{layers} for {layers} layers")
    return kind, number


def _layers_of(kind: str, number: int, names: Collection[str], layers: int) -> list[int]:
    """The layers that it may belong to: two for an `A_i` where nothing tells from where they are counted."""
    if kind != "A":
        return [number]
    from_0 = [number + 1] if f"A_{layers}" not in names else []
    from_1 = [number] if "A_0" not in names else []
    return [i for i in from_0 + from_1 if 1 <= i <= layers]


def _bias(case: AnyCase, layer: int) -> bool:
    return bool(getattr(case.network.weighted[layer - 1], "bias", True))


def _image(x: np.ndarray, kind: str, layer: int, case: AnyCase) -> bool:
    """Whether it may be a convolution's weights, (out, channels, rows, columns) or (rows, columns, channels, out)."""
    if x.ndim not in (3, 4) or kind not in ("gradient", "preconditioned", "gradient_weight", "preconditioned_weight"):
        return False
    d, p = case.network.shapes[layer - 1]
    return x.size == d * (p - _bias(case, layer)) and d in (x.shape[0], x.shape[-1])


def _fitting(where: str, name: str, kind: str, layer: int, case: AnyCase) -> tuple[list[tuple[int, ...]], str]:
    """The shapes that an array of this kind may have, its own and odd ones, and what to say of one that has another.

    ValueError for what the layer, or the case, does not have.
    """
    network = case.network
    if kind == "fisher":
        if isinstance(case, CapturedCase):
            raise ValueError(
                f"{where}: key {name!r}: it takes the whole network, and the case has captured layers of one"
            )
        P = sum(d * p for d, p in network.shapes)
        weights = P - sum(d for i, (d, _) in enumerate(network.shapes, start=1) if _bias(case, i))
        return [(P, P), (weights, weights)], f"({P}, {P}), or ({weights}, {weights}) without biases"
    (d, p), bias = network.shapes[layer - 1], _bias(case, layer)
    n = p - bias
    if kind in ("A", "G", "G_bias") and not network.weighted[layer - 1].kronecker:
        what = network.weighted[layer - 1].kind
        raise ValueError(
            f"{where}: key {name!r}, but layer {layer} ({what}) has no Kronecker factors, only block_{layer}"
        )
    if not bias:
        if kind == "G_bias" or kind.endswith("_bias"):
            raise ValueError(f"{where}: key {name!r}, but layer {layer} has no bias")
        if kind in ("A", "G"):
            own = f"({n}, {n})" if kind == "A" else f"({d}, {d})"
            return [(k, k) for k in (n, d)], own
        if kind == "block":
            return [(d * n, d * n)], f"({d * n}, {d * n})"
        return [(d, n), (n, d), (d * n,)], f"({d}, {n}), as it is, transposed or flattened"
    if kind in ("A", "G"):
        # swapped, either may have the size of the other
        own = f"({n + 1}, {n + 1}), or ({n}, {n}) without the bias" if kind == "A" else f"({d}, {d})"
        # or an A may be of the layer's output, by mistake
        return [(k, k) for k in (n + 1, n, d, *([d + 1] if kind == "A" else []))], own
    if kind == "G_bias":
        return [(d, d)], f"({d}, {d})"
    if kind == "block":
        whole, weights = d * (n + 1), d * n
        return [(whole, whole), (weights, weights)], f"({whole}, {whole}), or ({weights}, {weights}) without the bias"
    if kind.endswith("_bias"):
        return [(d,), (d, 1), (1, d)], f"({d},)"
    widths = [n] if kind.endswith("_weight") else [n + 1, n]
    own = f"({d}, {widths[0]})" + (f", or ({d}, {n}) without the bias" if len(widths) > 1 else "")
    return [shape for k in widths for shape in ((d, k), (k, d), (d * k,))], f"{own}, as it is, transposed or flattened"
