"""What curvlinops 3.0.1 says of six networks with shared weights, small and larger; `record.py` made the files.

NAME.npz: `settings`, a string of JSON, with the network's description and `outputs`, the names of what was run (the
loss's reduction, the Fisher, how weights are shared); `X`, `Y`, `W_i`; `A_expand_i` and `A_reduce_i`, which depend on
nothing else; and `G_i` (outputs, d, d), in the order of `outputs`. All is float64.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autodiff.network import described
from kfac_ref.oracle import CapturedCase, CapturedLayer, Case
from kfac_ref.oracle.references import References

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))


@dataclass(frozen=True)
class Output:
    """One run of the library."""

    reduction: str
    """Of the loss: sum or mean."""
    fisher: str
    """type-2, mc or empirical."""
    sharing: str
    """expand or reduce."""
    theirs: dict[str, np.ndarray]


def read(name: str) -> tuple[Case, list[Output]]:
    """The case and the outputs of a file."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    settings = json.loads(str(arrays.pop("settings")))
    network = described(settings)
    layers = range(1, network.layers + 1)
    case = Case(network, [arrays[f"W_{i}"] for i in layers], arrays["X"], arrays["Y"])
    outputs = []
    for k, made in enumerate(settings["outputs"]):
        reduction, fisher, sharing = made.split()
        theirs = {f"A_{i}": arrays[f"A_{sharing}_{i}"] for i in layers} | {
            f"G_{i}": arrays[f"G_{i}"][k] for i in layers
        }
        outputs.append(Output(reduction, fisher, sharing, theirs))
    return case, outputs


def captured(case: Case) -> CapturedCase:
    """The same layers as another framework would hand them over: rows and derivatives, nothing of the network."""
    references, network = References(case), case.network
    layers = []
    for i, layer in enumerate(network.weighted, start=1):
        bias = bool(layer.bias)
        rows = references.rows(i)
        layers.append(CapturedLayer(rows[..., :-1] if bias else rows, references.jacobians[i - 1], bias))
    z = references.z.reshape(case.cases, *network.output)
    return CapturedCase(network.likelihood.name, z, case.Y.reshape(z.shape), layers)


def all_outputs() -> Iterator[tuple[str, Case, CapturedCase, Output]]:
    """Every output with its case, as a network and captured."""
    for name in NAMES:
        case, outputs = read(name)
        layers = captured(case)
        for output in outputs:
            yield name, case, layers, output
