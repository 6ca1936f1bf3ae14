"""laplace-torch's Kronecker posterior beside ours: its convention and the largest differences. Needs laplace-torch.

Its posterior precision is (N/σ²) Ā⊗G + λ₀ I, as ours with damping "exact", but for two conventions:

* biases: they have a block G of their own. That is Ā with the products of the bias with the other inputs put to 0
  (`separate_bias`);
* `damping=True`: its factors are Ā and N G, and √λ₀ is added to each. That is "factored" of Ā/√N and √N G
  (`lopsided`). In version 0.3 the sum with λ₀ forgets `damping`, so that it has no effect; `Damped` remembers it.

With `--record FILE` what it computes is written as npz, which the tests compare with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from validation.peers.posterior_cases import CASES, compared, ours
from validation.peers.posterior_torch import theirs


def main(arguments: Sequence[str]) -> int:
    """Compare, print the largest relative differences, and record if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    recorded: dict[str, Any] = {}
    worst = 0.0
    for case in CASES:
        found = theirs(case)
        recorded |= {f"{case.name}/{quantity}": value for quantity, value in found.items()}
        differences = compared(ours(case), found)
        worst = max(worst, *differences.values())
        print(f"{case.name}: " + ", ".join(f"{name} {value:.1e}" for name, value in differences.items()))
    print(f"largest relative difference: {worst:.1e}")
    if options.record:
        np.savez_compressed(options.record, **recorded)
    return int(worst > 1e-6)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
