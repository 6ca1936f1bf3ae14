"""The kinds of layers, a file each, and networks' descriptions as lists of them.

To add a kind: a file with a subclass of `Layer`, and its row in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from autodiff.layers.convolution import Convolution
from autodiff.layers.dense import Dense
from autodiff.layers.depthwise import DepthwiseConvolution
from autodiff.layers.layer import Layer, Shape, Tape
from autodiff.layers.normalisation import BatchNorm, LayerNorm
from autodiff.layers.pooling import AveragePool, Flatten, GlobalMean, MaxPool, MeanOverPositions
from autodiff.layers.recurrent import Recurrent
from autodiff.layers.residual import Closing, Opening
from autodiff.names import closest

KINDS: dict[str, type[Layer]] = {
    row.kind: row
    for row in (
        *(Dense, Convolution, DepthwiseConvolution, Recurrent, LayerNorm, BatchNorm),
        *(AveragePool, MaxPool, GlobalMean, MeanOverPositions, Flatten),
    )
}

__all__ = ["KINDS", "Closing", "Layer", "Opening", "Shape", "Tape", "built", "described"]


def built(network: Sequence[Mapping[str, Any]], shape: Shape, where: str = "network") -> Iterator[Layer]:
    """The layers of a description, one after the other, for cases of `shape`; a residual block lies between its ends.

    ValueError or TypeError naming the layer, as network[2].layers[0] (conv), and what is wrong.
    """
    if isinstance(network, (str, Mapping)) or not isinstance(network, Sequence):
        raise TypeError(f"{where} is a {type(network).__name__}, expected a list of layers")
    for number, description in enumerate(network):
        place = f"{where}[{number}]"
        if not isinstance(description, Mapping) or "kind" not in description:
            raise ValueError(f'{place} is {description!r}, expected a layer as {{"kind": "dense", …}}')
        keys = dict(description)
        kind = closest(keys.pop("kind"), [*KINDS, Opening.kind], f"kind of layer in {place}")
        place = f"{place} ({kind})"
        if kind == Opening.kind:
            yield from _residual(keys, shape, place)
            continue
        layer = _layer(KINDS[kind], keys, shape, place)
        shape = layer.output
        yield layer


def _residual(keys: dict[str, Any], shape: Shape, place: str) -> Iterator[Layer]:
    inner = keys.pop("layers", None)
    if keys or not inner:
        raise ValueError(f'{place} has the keys {sorted(keys)}, expected "layers" with a list of at least one layer')
    layers = list(built(inner, shape, f"{place}.layers"))
    if layers[-1].output != shape:
        raise ValueError(f"{place} adds {layers[-1].output}, which its layers give, to its input {shape}")
    yield Opening(input=shape)
    yield from layers
    yield Closing(input=shape)


def _layer(kind: type[Layer], keys: dict[str, Any], shape: Shape, place: str) -> Layer:
    known = {f.name: f for f in fields(kind) if f.name != "input"}
    for name in keys:
        closest(name, known, f"key of {place}")
    for name, f in known.items():
        if name not in keys and f.default is MISSING:
            raise ValueError(f'{place} needs the key "{name}"')
    try:
        return kind(input=shape, **keys)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{place}: {error}") from None


def described(stages: Sequence[Layer]) -> list[dict[str, Any]]:
    """The description of which `built` makes these layers."""
    lists: list[list[dict[str, Any]]] = [[]]
    for layer in stages:
        if isinstance(layer, Opening):
            lists.append([])
        elif isinstance(layer, Closing):
            block = {"kind": layer.kind, "layers": lists.pop()}
            lists[-1].append(block)
        else:
            lists[-1].append(layer.description())
    return lists[0]
