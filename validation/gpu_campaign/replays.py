"""The recorded runs of the authors' program, replayed in float64 with the tolerances that NumPy's replays have."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from autodiff.arrays import to_numpy
from validation import replay
from validation.gpu_campaign import part
from validation.gpu_campaign.processes import CLONE

TRACES = sorted((CLONE / "tests" / "traces").glob("*.npz"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each."""
    options = part.options(__doc__, arguments)
    width = max(len(path.name) for path in TRACES)

    def replayed(path: Path) -> Callable[[], bool]:
        def do() -> bool:
            start = time.perf_counter()
            result = replay.replay(path, options.like("float64"))
            print(f"{replay.line(path.name, result, width)}, {time.perf_counter() - start:.1f} s", flush=True)
            return result.passed

        return do

    print(replay.heading(width), flush=True)
    todo = [(path.name, replayed(path)) for path in TRACES]
    return part.one_by_one(options.clock, todo, still_there=lambda: to_numpy(options.like("float64") + 1))


if __name__ == "__main__":
    sys.exit(main())
