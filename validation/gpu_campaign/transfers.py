"""Counts what goes between host and device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from autodiff.arrays import Array, is_numpy


@dataclass
class Count:
    """How often, so far."""

    reads: int = 0
    """From device to host."""
    uploads: int = 0
    """From host to device."""


@contextmanager
def counted(like: Array) -> Iterator[Count]:
    """Count the transfers of CuPy arrays within; with other arrays there are none.

    Whatever reads a CuPy array does it by its `get`; `array`, `asarray` and `set` are how arrays of NumPy, lists and
    numbers come to the device.
    """
    count = Count()
    if is_numpy(like):
        yield count
        return
    import cupy

    inside = False

    def watched(function: Callable[..., Any], tell: Callable[..., None]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal inside
            # what one of them does itself is not counted again
            if inside:
                return function(*arguments, **named)
            tell(*arguments)
            inside = True
            try:
                return function(*arguments, **named)
            finally:
                inside = False

        return call

    def read(*_: Any) -> None:
        count.reads += 1

    def upload(*arguments: Any) -> None:
        count.uploads += any(isinstance(x, (np.ndarray, np.generic, list, tuple, int, float)) for x in arguments[:2])

    originals = {(cupy, "array"): upload, (cupy, "asarray"): upload, (cupy.ndarray, "set"): upload}
    replaced = {place: getattr(*place) for place in [*originals, (cupy.ndarray, "get")]}
    try:
        for (owner, name), function in replaced.items():
            setattr(owner, name, watched(function, originals.get((owner, name), read)))
        yield count
    finally:
        for (owner, name), function in replaced.items():
            setattr(owner, name, function)
