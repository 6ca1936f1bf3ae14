"""A network as a line of text, written and read: `1x28x28: conv 16 5x5 relu, average-pool 2x2, flatten, dense 10`.

    network = shape of a case ":" layers [";" likelihood]
    layers  = layer {"," layer}
    layer   = kind {word}, or "residual [" layers "]"

The shape of a case is whole numbers joined by "x". The words after a kind are the values of the keys that it must have
(`out`, then `kernel` or `size`), its activation by name, and any key as key=value. Values are those of JSON, without
blanks; two whole numbers may be 5x5, and names have no quotation marks.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from autodiff.activations import ACTIVATIONS
from autodiff.layers import KINDS, Closing, Layer, Opening
from autodiff.names import closest

NETWORK = re.compile(r"\s*(\d+(?:\s*x\s*\d+)*)\s*:([^;]*)(?:;\s*([\w-]*)\s*)?")
TOKEN = re.compile(r"[\w-]+=\[[^\[\]]*\]|[^\s,\[\]]+|[\[\],]")
"""A word, which may hold a list, or a mark between layers."""
MARKS = {"[", "]", ","}


# --- written ---------------------------------------------------------------------------------------------------------


def of_layers(stages: Sequence[Layer]) -> str:
    """The layers, without the shape of a case."""
    lists: list[list[str]] = [[]]
    for layer in stages:
        if isinstance(layer, Opening):
            lists.append([])
        elif isinstance(layer, Closing):
            inside = ", ".join(lists.pop())
            lists[-1].append(f"{layer.kind} [{inside}]")
        else:
            lists[-1].append(of_layer(layer))
    return ", ".join(lists[0])


def of_layer(layer: Layer) -> str:
    """A layer's kind, and its values but for those that it has without being told."""
    keys = layer.description()
    kind = keys.pop("kind")
    for name in list(keys):
        fewer = {key: value for key, value in keys.items() if key != name}
        if _same(layer, fewer):
            keys = fewer
    words = [_written(keys.pop(name)) for name in _needed(kind)]
    if keys.get("activation") in ACTIVATIONS:
        words.append(keys.pop("activation"))
    return " ".join([kind, *words, *(f"{key}={_written(value)}" for key, value in keys.items())])


def _same(layer: Layer, keys: dict[str, Any]) -> bool:
    try:
        return type(layer)(input=layer.input, **keys) == layer
    except (TypeError, ValueError):
        return False


def _needed(kind: str) -> list[str]:
    """The keys that a layer of this kind must have, `out` first."""
    names = [f.name for f in fields(KINDS[kind]) if f.name != "input" and f.default is MISSING]
    return sorted(names, key=lambda name: name != "out")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value):
        return "x".join(map(str, value))
    return json.dumps(value, separators=(",", ":"))


# --- read ------------------------------------------------------------------------------------------------------------


def is_network(text: str) -> bool:
    """Whether `text` begins as a network does, with the shape of a case and a colon."""
    return re.match(r"\s*\d+(\s*x\s*\d+)*\s*:", text) is not None


def read(text: str) -> dict[str, Any]:
    """The description of a network, as JSON has it: `input`, `network` and, where the text says it, `likelihood`.

    ValueError naming the layer and the word that cannot be read; whether the layers fit each other is for
    `Network.of` to say.
    """
    found = NETWORK.fullmatch(text)
    if not found:
        raise ValueError(f'"{text}" is no network: expected the shape of a case, a colon and layers, as in 4: dense 2')
    shape, layers, likelihood = found.groups()
    tokens = deque(TOKEN.findall(layers))
    description: dict[str, Any] = {"input": [int(n) for n in shape.split("x")], "network": _layers(tokens)}
    if tokens:
        raise ValueError(f'"]" without "[" in "{layers.strip()}"')
    return description | ({} if likelihood is None else {"likelihood": likelihood})


def _layers(tokens: deque[str]) -> list[dict[str, Any]]:
    network = [_layer(tokens)]
    while tokens and tokens[0] == ",":
        tokens.popleft()
        network.append(_layer(tokens))
    return network


def _layer(tokens: deque[str]) -> dict[str, Any]:
    words = []
    while tokens and tokens[0] not in MARKS:
        words.append(tokens.popleft())
    if not words:
        raise ValueError(f"expected a layer before {repr(tokens[0]) if tokens else 'the end'}, as in dense 10")
    closest(words[0], [*KINDS, Opening.kind], "kind of layer")
    opened = bool(tokens) and tokens[0] == "["
    if words == [Opening.kind] and opened:
        tokens.popleft()
        inside = _layers(tokens)
        if not tokens or tokens.popleft() != "]":
            raise ValueError(f'"{Opening.kind} [" is not closed by "]"')
        if tokens and tokens[0] not in MARKS - {"["}:
            raise ValueError(f'expected "," behind "]", found "{tokens[0]}"')
        return {"kind": Opening.kind, "layers": inside}
    if words[0] == Opening.kind or opened:
        raise ValueError(f'"{" ".join(words)}{" [" * opened}": expected "{Opening.kind} [", then its layers, then "]"')
    return {"kind": words[0]} | _keys(words)


def _keys(words: list[str]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    needed = _needed(words[0])
    known = {f.name for f in fields(KINDS[words[0]])}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            value = word
            if not word[0].isdigit() and "activation" in known:
                name = "activation"
                closest(word, ACTIVATIONS, f'activation in "{" ".join(words)}":')
            elif needed:
                name = needed.pop(0)
            else:
                raise ValueError(f'"{" ".join(words)}": expected key=value, found "{word}"')
        if name in keys:
            raise ValueError(f'"{" ".join(words)}" gives {name} twice')
        keys[name] = _read(value)
    return keys


def _read(value: str) -> Any:
    if re.fullmatch(r"\d+(x\d+)+", value):
        return [int(n) for n in value.split("x")]
    try:
        return json.loads(value)
    except ValueError:
        return value
