"""`python -m validation WHAT …`: runs one piece of evidence; `python -m validation WHAT --help` explains it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from autodiff.names import closest

PIECES = {
    "replay": "replay recorded runs of the authors' program and compare every step",
    "reference-run": "train as the authors did, their printed errors beside",
    "theorems": "check the paper's statements on random networks, a table",
    "figures": "redraw the paper's figures, the numbers beside them",
    "report": "all of this evidence on one page",
    "benchmark": "time iterations by stage, beside the machine's own rate and other programs",
    "race": "the seconds to a training error, beside kfac-jax and optimizers in PyTorch",
    "gpu-campaign": "on a GPU, in minutes: whether all works there, and how fast, a page",
    "processes": "what many processes send each other, how long an iteration takes, and what large mini-batches gain",
    "estimators": "scores and seconds of the estimators beside scikit-learn's networks",
    "influence": "influence scores beside leaving cases out and training again, on a convex problem",
    "policy": "train policies by K-FAC and by Adam, and how far steps really go (needs gymnasium)",
    "peers": "find the conventions of other K-FAC libraries, in environments of their own",
    "make-conformance": "make the conformance vectors of the oracle again",
    "make-fashion16": "make the packaged data set again from Fashion-MNIST",
}


def main(arguments: Sequence[str]) -> int:
    """Run the piece named first, with the other arguments; the exit code is its."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m validation WHAT …\n\nEvidence that all is right, and how fast it is. WHAT is one of\n")
        for name, what in PIECES.items():
            print(f"  {name:<16} {what}")
        print("\nand WHAT --help explains it. Begin with: python -m validation theorems")
        return 0 if arguments else 2
    try:
        name = closest(arguments[0], PIECES, "piece of evidence")
        return importlib.import_module(f"validation.{name.replace('-', '_')}").main(arguments[1:])
    except (ValueError, ArithmeticError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
