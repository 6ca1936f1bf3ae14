"""Numbers of other implementations, made up: the truth of random cases with the conventions and mistakes that
implementations are known to have, two at once too, and numbers that nothing known explains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.kfac_ref.oracle.mutations import damping, damping_slips, dense, factors, impostors, slips
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation, judge

__all__ = ["KINDS", "Expected", "Mutation", "generate", "judge"]

KINDS = {
    "scale": (factors.scale, 12),
    "matrix": (factors.matrix, 10),
    "monte-carlo": (factors.monte_carlo, 14),
    "sampled-known": (factors.sampled_targets_known, 8),
    "layout": (factors.layout, 8),
    "history": (factors.history, 14),
    "gradient": (dense.gradient, 12),
    "block": (dense.block, 8),
    "fisher": (dense.fisher, 8),
    "kronecker-block": (dense.kronecker_block, 5),
    "sampled-fisher": (dense.sampled_fisher, 4),
    "damping": (damping.damping, 18),
    "undamped": (damping.undamped, 4),
    "scaled-factors": (damping.scaled_factors, 5),
    "separate-blocks": (damping.separate_blocks, 6),
    "own-factors": (damping.own_factors, 5),
    "slips-of-factors": (slips.factors, 8),
    "slips-of-gradients": (slips.gradients, 5),
    "slips-of-blocks": (slips.blocks, 4),
    "pi": (damping_slips.pi, 4),
    "clip": (damping_slips.clips, 3),
    "decay": (damping_slips.decay, 3),
    "noise": (impostors.noise, 6),
    "other": (impostors.other, 6),
    "slip": (impostors.slip, 6),
    "preconditioned-impostor": (impostors.preconditioned, 5),
    "blocks-impostor": (impostors.blocks, 5),
}
"""What makes mutations of each kind, and of how many cases."""


def generate(kind: str, cases: int | None = None, seed: int = 0) -> Iterator[Mutation]:
    """The mutations of one kind, of `cases` random cases (by default as many as `KINDS` says)."""
    make, usual = KINDS[kind]
    for k in range(usual if cases is None else cases):
        for mutation in make(np.random.default_rng([seed, k, *kind.encode()])):
            mutation.seed = k
            yield mutation
