"""Trains on data called NAME for a few iterations, as `kfac-ref train` does, and prints the bytes held at most.

A program of its own, so that it holds nothing but what training needs: `python trained_alone.py NAME INVERSE m N`.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

from kfac_ref.machine import at_full_speed
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, prepare


def peak_memory() -> int:
    """Bytes that this process has held at most so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        # ru_maxrss may be that of the process that started this one, which Linux leaves there
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource  # which Windows does not have

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(name: str, inverse: str, m: int, iterations: int) -> None:
    """Train with the paper's constants on mini-batches of m cases."""
    constants = {"inverse": inverse, "m1": m, "full_batch_at": None}
    prepared = prepare(Experiment(data=name, preset="paper", activation="logistic", constants=constants))
    with at_full_speed(prepared.network.widest):
        for _, record, _ in islice(loop.iterate(prepared.optimizer, prepared.first_state(), prepared.data), iterations):
            del record
    print(peak_memory())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
