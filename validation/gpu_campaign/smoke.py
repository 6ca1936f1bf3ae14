"""A smoke run: everything that depends on the array library once, on CuPy and on NumPy, and the worst deviation.

What is computed is in the tables of `smoke_checks`: every public function of autodiff.arrays, every fused kernel, every
row of the tables of activations, likelihoods and layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import arrays
from autodiff.arrays import DTYPES, Array, to_numpy
from validation.gpu_campaign import part
from validation.gpu_campaign.smoke_checks import Check, all_checks

ALLOWED = {"float64": 1e-11, "float32": 1e-4}
"""Of the largest entry, at least of 1: a few hundred roundings, and in float32 a digit for condition numbers, as the
tests allow."""


def is_array(x: Any) -> bool:
    """Whether x is an array of any library, and not a number."""
    try:
        arrays.namespace(x)
    except TypeError:
        return False
    return True


def deviation(check: Check, like: Array, reference: Array) -> float:
    """The worst difference between what a check computes with arrays like `like` and like `reference`, of the largest
    entry, at least of 1; infinite where NaN, infinities, shapes, dtypes or devices are not the same."""
    worst = 0.0
    for ours, theirs in zip(check(like), check(reference), strict=True):
        if is_array(ours) != is_array(theirs):
            return float("inf")
        if is_array(ours):
            if arrays.device(ours) != arrays.device(like) or arrays.namespace(ours) is not arrays.namespace(like):
                return float("inf")
            ours, theirs = to_numpy(ours), to_numpy(theirs)
        worst = max(worst, _difference(np.asarray(ours), np.asarray(theirs)))
    return worst


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(theirs)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True) or not np.isfinite(ours[finite]).all():
        return float("inf")
    scale = np.max(np.abs(theirs[finite]), initial=1.0)
    return float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0) / scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each check and dtype."""
    options = part.options(__doc__, arguments)
    worst: dict[str, tuple[float, str]] = {}

    def tried(name: str, check: Check, dtype: str) -> Callable[[], bool]:
        def do() -> bool:
            with np.errstate(all="ignore"):
                found = deviation(check, options.like(dtype), np.zeros(0, dtype=dtype))
            well = found <= ALLOWED[dtype]
            worst[dtype] = max(worst.get(dtype, (0.0, "")), (found, name))
            print(f"{name:<40}  {dtype}  {found:8.1e}  {'ok' if well else 'FAILED'}", flush=True)
            return well

        return do

    print(f"{'':<40}  {'dtype':<7}  deviation (allowed: {', '.join(f'{d} {a:g}' for d, a in ALLOWED.items())})")
    checks = all_checks()
    todo = [
        (f"{name} {dtype}", tried(name, check, dtype)) for dtype in reversed(DTYPES) for name, check in checks.items()
    ]
    code = part.one_by_one(options.clock, todo, still_there=lambda: to_numpy(options.like("float32") + 1))
    for dtype, (found, name) in worst.items():
        print(f"worst in {dtype}: {found:.1e}, {name}")
    return code


if __name__ == "__main__":
    sys.exit(main())
