"""Which network is trained: by sizes, by name, as a line of text or from a file, and whether it can be.

A network of other layers is a description, as `Network.description` gives it and as files have it: `input`, the shape
of a case, `network`, a list of layers, and optionally `likelihood`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autodiff import arrays, text
from autodiff.layers import Layer
from autodiff.names import closest, nearest
from autodiff.network import Network, described
from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.machine import memory

Description = Mapping[str, Any]
Sizes = tuple[int, ...]
"""d_0, …, d_ℓ of a fully connected network; or a shape."""
Wanted = Sizes | Description | str | None
"""Sizes; a description; a network's name; or None: what suits the data."""

SUITED: dict[str, Any] = {
    "inverse": "block-diagonal",
    "lambda_min": 0.05,
    "m1": 500,
    "full_batch_at": None,
    "tau1": 1 / 4,
    "tau2": 1 / 4,
}
"""Constants that suit networks of other layers than dense ones better than the preset's. An iteration on all cases
takes long; on mini-batches that do not grow, λ falls until steps fit one mini-batch alone, unless it is bounded."""


# --- by name ---------------------------------------------------------------------------------------------------------


def _conv(rows: int, columns: int) -> str:
    """LeNet-like (LeCun et al. 1998)."""
    layers = "conv 16 5x5 relu, average-pool 2, conv 32 5x5 relu, average-pool 2, flatten, dense 128 relu"
    return f"1x{rows}x{columns}: {layers}"


def _residual(rows: int, columns: int) -> str:
    """Residual blocks, each normalised before its convolution (He et al. 2016), over a case's channels."""
    block = "residual [layer-norm relu, conv {0} 3x3 padding=1]"
    layers = ["conv 16 3x3 stride=2 padding=1", block.format(16), "conv 32 3x3 stride=2 padding=1", block.format(32)]
    return f"1x{rows}x{columns}: {', '.join(layers)}, layer-norm relu, global-mean"


def _recurrent(rows: int, columns: int) -> str:
    """An image row by row."""
    return f"{rows}x{columns}: recurrent 128"


NAMED: dict[str, Callable[[int, int], str]] = {"conv": _conv, "residual": _residual, "recurrent": _recurrent}
"""For images of (rows, columns), but for the last layer: dense, with as many units as there are outputs."""


def named(name: str, image: tuple[int, ...], outputs: int) -> Description:
    """The network of that name for images (rows, columns). ValueError if they are too small for it."""
    rows, columns = image
    try:
        return canonical(text.read(f"{NAMED[name](rows, columns)}, dense {outputs}"))
    except ValueError as error:
        raise ValueError(f'the network "{name}" does not suit images of {rows}x{columns}: {error}') from None


def suiting(wanted: Wanted, likelihood: str | None, dataset: Dataset) -> tuple[Sizes | Description | None, str | None]:
    """The network of that name for the data, others as they are; and the likelihood that it takes, where it is plain.

    Classes are predicted by a network by name, and by one whose outputs are no autoencoder's, of images that have
    labels besides. ValueError if there are no images of one channel for a network by name, or no targets.
    """
    labels = dataset.Y is not None and not dataset.targets_given
    if isinstance(wanted, Mapping):
        network = provisional(wanted)
        classes = labels and network.inputs != network.outputs
        return wanted, likelihood or ("categorical" if classes else None)
    if not isinstance(wanted, str):
        return wanted, likelihood
    if dataset.image_shape is None:
        raise ValueError(
            f'the network "{wanted}" is for images of one channel, X of (N, 1, rows, columns), and "{dataset.name}" '
            f"has cases of {dataset.case_shape or dataset.X.shape[1:]}"
        )
    if dataset.Y is None or (likelihood != "categorical" and labels and likelihood):
        raise ValueError(
            f'the network "{wanted}" predicts targets, and "{dataset.name}" has '
            f"{'no' if dataset.Y is None else 'class labels, not ' + str(likelihood)} targets"
        )
    return named(wanted, dataset.image_shape, dataset.Y.shape[1]), likelihood or ("categorical" if labels else None)


# --- as the command is given it --------------------------------------------------------------------------------------


def given(words: str) -> Sizes | Description | str:
    """Sizes joined by "-", a name of NAMED, a network as a line of text, or the path of a JSON file.

    ValueError if it is none of these, or describes no network; OSError if the file cannot be read.
    """
    if words in NAMED:
        return words
    if re.fullmatch(r"\d+(-\d+)*", words):
        return tuple(map(int, words.split("-")))
    if text.is_network(words):
        return canonical(text.read(words))
    if Path(words).is_file() or words.endswith(".json"):
        return _from_file(Path(words))
    raise ValueError(
        f'"{words}" is not sizes joined by "-", as in 256-64-256, nor a network\'s name ({", ".join(NAMED)}), nor its '
        f"layers, as in 1x28x28: flatten, dense 10, nor a JSON file{nearest(words, NAMED)}"
    )


def _from_file(path: Path) -> Description:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        return canonical(description)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def canonical(description: Any) -> Description:
    """The description as the network itself gives it, so that two of the same network are equal; `likelihood` only if
    it is given. ValueError or TypeError if it describes no network."""
    if not isinstance(description, Mapping):
        raise TypeError(f'the description of a network is a {type(description).__name__}, expected {{"input": …}}')
    keys = {"layers", "activations"} if "layers" in description else {"input", "network"}
    for key in description:
        closest(key, [*sorted(keys), "likelihood"], "key of a network's description")
    for key in keys - set(description):
        raise ValueError(f'the description of a network has no "{key}"')
    found = provisional(description).description()
    return found if "likelihood" in description else {k: v for k, v in found.items() if k != "likelihood"}


def provisional(network: Sizes | Description) -> Network:
    """The network, before it is known which likelihood it gets if it has none of its own."""
    if isinstance(network, Mapping):
        return described({"likelihood": "gaussian"} | dict(network))
    return Network(network, "tanh", "gaussian")


def apart(network: Wanted, likelihood: str | None) -> tuple[Wanted, str | None]:
    """The network (a description as `canonical` gives it) without its likelihood, and the likelihood. ValueError if two
    are given that differ; ValueError or TypeError for a bad description."""
    if not isinstance(network, Mapping):
        return network, likelihood
    description = dict(canonical(network))
    own = description.pop("likelihood", likelihood)
    if likelihood not in (None, own):
        raise ValueError(f"the likelihood {likelihood} is asked for, but the network's description says {own}")
    return description, own


def same(wanted: Wanted, recorded: Wanted) -> bool:
    """Whether a network that is given by name, or in full, is that of a run."""
    if isinstance(wanted, str) and isinstance(recorded, Mapping) and len(recorded.get("input", ())) > 1:
        try:
            return named(wanted, tuple(recorded["input"][-2:]), provisional(recorded).outputs) == recorded
        except ValueError:
            return False
    return wanted == recorded


def said(network: Wanted) -> str:
    """For messages."""
    if isinstance(network, Mapping):
        return str(provisional(network)).rpartition(";")[0]
    return str(network) if network is None or isinstance(network, str) else "-".join(map(str, network))


# --- whether it fits -------------------------------------------------------------------------------------------------


def require_memory(network: Network, dtype: str, backend: str, factors: bool) -> None:
    """ValueError naming the layer that takes most, if what training must hold of the layers is more than the memory
    there is, of the machine or of the backend's device.

    That is, of each layer, six arrays of the shape of W (θ, ∇h and the last update, and in a step their successors),
    and with `factors` Ā and G, or the block of F, and their inverses.
    """
    have = arrays.device_memory(backend) or memory.limit()
    itemsize = 4 if dtype == "float32" else 8
    sizes = [itemsize * _numbers(layer, factors) for layer in network.weighted]
    if have is None or sum(sizes) <= have:
        return
    number = sizes.index(max(sizes))
    layer, (d, p) = network.weighted[number], network.shapes[number]
    held, instead = f"six times ({d}, {p}) for its weights, their gradient and update", "fewer units or inputs"
    if factors and layer.kronecker:
        held += f", twice ({p}, {p}) and ({d}, {d}) for its Kronecker factors and their inverses"
    elif factors:
        held += f", twice ({d * p}, {d * p}) for its block of the Fisher and the inverse"
        instead = "fewer features"
    if factors and itemsize * sum(_numbers(layer, False) for layer in network.weighted) <= have:
        instead += "; --optimizer sgd needs no curvature"
    others = "" if sizes[number] > have else f"; all layers need {memory.readable(sum(sizes))}"
    raise ValueError(
        f"layer {number + 1} ({text.of_layer(layer)}) needs {memory.readable(sizes[number])} in {dtype}: {held}"
        f"{others}. There are {memory.readable(have)} of memory; give the layer {instead}"
    )


def _numbers(layer: Layer, factors: bool) -> int:
    d, p = layer.shape or (0, 0)
    curvature = 2 * (d * d + p * p if layer.kronecker else (d * p) ** 2)
    return 6 * d * p + (curvature if factors else 0)


def require_ends(network: Network, dataset: Dataset, purpose: str) -> None:
    """ValueError unless the network takes the data's cases, and gives what is predicted: naming layer and both shapes.

    Cases (N, d) fit any network that takes d numbers; others must have the shape that it takes, where an image of one
    channel (1, H, W) is as good as the sequence of its rows (H, W).
    """
    cases = dataset.X.shape[1], dataset.case_shape
    _require_end(network, True, dataset.name, "X", *cases)
    if purpose == "autoencoder":
        _require_end(network, False, dataset.name, "X", *cases)
    else:
        assert dataset.Y is not None
        _require_end(network, False, dataset.name, "Y", dataset.Y.shape[1], dataset.target_shape)


def require_beginning(network: Network, data: str) -> None:
    """What can be said of data by name before they are fetched: ValueError unless the network takes their images."""
    if data in datasets.IMAGES:
        _require_end(network, True, data, "X", math.prod(datasets.IMAGES[data]), None)


def _require_end(network: Network, first: bool, data: str, name: str, numbers: int, found: Sizes | None) -> None:
    layer = network.stages[0 if first else -1]
    shape = layer.input if first else layer.output
    flat = found is None or len(shape) == 1
    if math.prod(shape) == numbers and (flat or _bare(shape) == _bare(found)):
        return
    if network.fully_connected:
        end = f"the network {said(network.sizes)} {'begins' if first else 'ends'} with {shape[0]}"
        has = f"cases of {found}, {numbers} numbers" if found else f"{numbers} columns"
    else:
        end = f"the network's {'first' if first else 'last'} layer, {text.of_layer(layer)}, "
        end += f"{'takes' if first else 'gives'} {shape}"
        has = f"cases of {found or (numbers,)}"
    raise ValueError(f'{end}, but {name} of "{data}" has {has}')


def _bare(shape: Sizes | None) -> Sizes | None:
    return shape[1:] if shape and len(shape) == 3 and shape[0] == 1 else shape
