"""The authors' program: what the check finds of the first iteration of each of its recorded runs, which
`python -m validation replay` goes through to their ends. Needs NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from kfac_ref.oracle import Case
from validation.peers import ROOT, cases
from validation.replay import described, read


def found() -> Iterator[tuple[str, Case, dict[str, np.ndarray]]]:
    """Ā and G are of the first cases of the mini-batch, for which targets were drawn, and ∇h of all."""
    for path in sorted((ROOT / "tests" / "traces").glob("*.npz")):
        trace = read(path)
        network, settings = described(json.loads(str(trace["settings"])))
        layers = range(1, network.layers + 1)
        W, index = [trace[f"W0_{i}"] for i in layers], trace["index_1"].astype(int)
        X, Y, drawn = trace["X"][index], trace["Y"][index], trace["sampled_1"]
        part = Case(network, W, X[: len(drawn)], Y[: len(drawn)], sampled=drawn)
        factors = {f"A_{i - 1}": trace[f"A_1_{i - 1}_{i - 1}"] for i in layers}
        yield f"authors: {path.stem}, factors", part, factors | {f"G_{i}": trace[f"G_1_{i}_{i}"] for i in layers}
        gradient = {f"gradient_{i}": trace[f"gradient_1_{i}"] for i in layers}
        yield f"authors: {path.stem}, gradient", Case(network, W, X, Y, eta=settings.eta), gradient


if __name__ == "__main__":
    cases.show(found())
