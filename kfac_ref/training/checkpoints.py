"""Saving the state of an optimisation, and reading it back to the last bit; no pickles.

A checkpoint is an `.npz`: `meta`, a JSON string of what it belongs to and of the state's numbers, and its arrays as
`parameters.1`, `factors.A.0.1`, `inverse.Psi_A.2` and so on.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from autodiff.arrays import Array, from_numpy, to_numpy
from autodiff.network import Network
from kfac_ref.baselines import SGDState
from kfac_ref.curvature.block_diagonal import BlockDiagonalInverse
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.factors import Factors, Lagged
from kfac_ref.curvature.full_block import FullBlockInverse
from kfac_ref.curvature.implicit_factors import ImplicitFactors, Rows
from kfac_ref.curvature.inverses import PartitionedInverse
from kfac_ref.curvature.kronecker import PairInverse
from kfac_ref.curvature.recurrent import StationaryInverse, SymmetricInverse
from kfac_ref.data.files import write_whole
from kfac_ref.optimizer import State
from kfac_ref.training.loop import AnyState

FORMAT = 2
CLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        *(State, SGDState, Factors, Lagged, ImplicitFactors, Rows),
        *(BlockDiagonalInverse, BlockTridiagonalInverse, PairInverse, FullBlockInverse, PartitionedInverse),
        *(SymmetricInverse, StationaryInverse),
    )
}


def save(path: str | Path, network: Network, state: AnyState, seconds: float = 0.0) -> None:
    """Write `state`, and the seconds of training so far, to `path`: to a temporary name first, then renamed."""
    arrays: dict[str, np.ndarray] = {}
    tree = _take_apart(state, "", arrays, {})
    meta = {"format": FORMAT, "network": str(network), "seconds": seconds, "state": tree}

    def write(file: BinaryIO) -> None:
        np.savez(file, allow_pickle=False, meta=np.asarray(json.dumps(meta)), **arrays)

    write_whole(Path(path), write)


def load(path: str | Path, network: Network, like: Array) -> tuple[AnyState, float]:
    """The state and the seconds of a checkpoint, in the library, on the device and in the dtype of `like`.

    Raises
    ------
    ValueError
        If `path` is not a whole checkpoint, or one of another network.
    FileNotFoundError
        If it is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
        if meta["format"] != FORMAT:
            raise ValueError(f"it has format {meta['format']}, expected {FORMAT}")
        found = meta["network"]
        state = _put_together(meta["state"], {name: from_numpy(x, like) for name, x in arrays.items()})
        seconds = float(meta["seconds"])
        if not isinstance(state, (State, SGDState)):
            raise ValueError("it holds no state of an optimizer")
    except FileNotFoundError:
        raise
    # NumPy and zipfile raise much besides their own errors at bytes that are not what they should be
    except Exception as error:
        raise ValueError(f"{path} is not a whole checkpoint of kfac-ref: {type(error).__name__}: {error}") from error
    if found != str(network):
        raise ValueError(f"{path} is a checkpoint of the network {found}, not of {network}")
    network.check_parameters(state.parameters, f"{path}: parameters")
    return state, seconds


def _take_apart(value: Any, name: str, arrays: dict[str, np.ndarray], seen: dict[int, str]) -> Any:
    """`value` with its arrays moved to `arrays`, each once: what is left can be written as JSON."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, list):
        return [_take_apart(x, f"{name}.{i}", arrays, seen) for i, x in enumerate(value, start=1)]
    if isinstance(value, dict):
        blocks = [[i, j, _take_apart(x, f"{name}.{i}.{j}", arrays, seen)] for (i, j), x in value.items()]
        return {"blocks": blocks}
    if is_dataclass(value):
        parts = {f.name: _take_apart(getattr(value, f.name), f"{name}.{f.name}", arrays, seen) for f in fields(value)}
        return {"class": type(value).__name__, "fields": parts}
    if id(value) not in seen:
        seen[id(value)] = name[1:]
        arrays[name[1:]] = to_numpy(value)
    return {"array": seen[id(value)]}


def _put_together(tree: Any, arrays: dict[str, Array]) -> Any:
    """The reverse of `_take_apart`."""
    if isinstance(tree, list):
        return [_put_together(x, arrays) for x in tree]
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "blocks" in tree:
        return {(i, j): _put_together(x, arrays) for i, j, x in tree["blocks"]}
    return CLASSES[tree["class"]](**{name: _put_together(x, arrays) for name, x in tree["fields"].items()})
