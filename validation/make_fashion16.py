"""Remake the packaged `fashion16.npz` from Fashion-MNIST: `python -m validation make-fashion16 --out FILE`.

400 training and 100 test images of each class, chosen by a fixed seed from the 60,000 and the 10,000, in a mixed order,
averaged by area from 28 x 28 to 16 x 16 pixels and rounded to unsigned bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kfac_ref.data.datasets import averaged_bytes, fetched_images

SEED = 16
PER_CLASS = {"X": 400, "X_test": 100}


def balanced(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `per_class` random cases of each class, in a mixed order."""
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in np.unique(labels)]
    return rng.permutation(np.concatenate(chosen))


def make() -> dict[str, np.ndarray]:
    """The arrays of the file: `X`, `X_test`, (N, 16, 16), and `labels`, `labels_test`, (N,), all uint8."""
    raw = fetched_images("fashion")
    rng = np.random.default_rng(SEED)
    train = balanced(raw["Y"], PER_CLASS["X"], rng)
    test = balanced(raw["Y_test"], PER_CLASS["X_test"], rng)
    return {
        "X": averaged_bytes(raw["X"][train], 16, 16),
        "labels": raw["Y"][train],
        "X_test": averaged_bytes(raw["X_test"][test], 16, 16),
        "labels_test": raw["Y_test"][test],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation make-fashion16 --out FILE`."""
    parser = argparse.ArgumentParser(prog="python -m validation make-fashion16", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="the .npz to write")
    out = parser.parse_args(arguments).out
    arrays = make()
    np.savez_compressed(out, allow_pickle=False, **dict[str, Any](arrays))
    print(f"{out}: {out.stat().st_size} bytes, {', '.join(f'{k} {v.shape}' for k, v in arrays.items())}")
    return 0
