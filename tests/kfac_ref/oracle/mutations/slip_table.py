"""A table: which slips of hooks and of damping the check names, on networks of different depths, widths and kinds.

python -m tests.kfac_ref.oracle.mutations.slip_table
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from kfac_ref.oracle import check
from tests.kfac_ref.oracle.mutations import damping_slips, slips
from tests.kfac_ref.oracle.mutations.damping import named
from tests.kfac_ref.oracle.mutations.judge import Expected, Mutation, judge
from tests.kfac_ref.oracle.mutations.preconditioners import amount
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation

GRADES = ("right", "unnamed", "misnamed", "wrong")


def mutations(k: int, seed: int = 0) -> Iterator[Mutation]:
    """Every slip of the k-th network."""
    rng = np.random.default_rng([seed, k, 31])
    case = situation(rng, lam=0.2, eta=1e-3, **slips.NETWORKS[k])
    numbers = Numbers(case)

    def of(group: str, plans, right=None) -> Iterator[Mutation]:
        for what, arrays in plans.items():
            words = ""
            if isinstance(arrays, tuple):
                arrays, words = named(arrays[0]), arrays[1]
            expected = {q: Expected("claim", words=words) for q in arrays}
            yield Mutation(group, what, case, (right or {}) | arrays, expected)

    for fisher in ("exact", "empirical"):
        right = slips.factors_right(numbers, fisher)
        yield from of(f"factors, {fisher}", slips.factor_plans(rng, numbers, fisher), right)
        yield from of(f"blocks, {fisher}", slips.block_plans(numbers, fisher))
    yield from of("gradients", slips.gradient_plans(rng, numbers, case.eta))
    yield from of("damping", damping_slips.pi_plans(numbers, amount(numbers, "gamma")))
    yield from of("clips", damping_slips.clip_plans(numbers, "traces", amount(numbers, "gamma"), 1e-3, 0.1))
    decays = damping_slips.decay_plans(numbers, "traces", amount(numbers, "gamma"), 0.05)
    for mutation in of("weight decay", decays):
        mutation.expected = {q: Expected("claim", words="theta|weight decay") for q in mutation.expected}
        yield mutation


def main() -> None:
    networks = [int(k) for k in sys.argv[1].split(",")] if len(sys.argv) > 1 else range(len(slips.NETWORKS))
    table: dict[str, dict[int, str]] = {}
    counts: Counter[str] = Counter()
    for k in networks:
        for m in mutations(k):
            judged = judge(m, check(m.theirs, m.case).as_dict())
            grade = max((g for g, _ in judged.values()), key=GRADES.index)
            counts[grade] += 1
            table.setdefault(f"{m.kind}: {m.what}", {})[k] = "named" if grade == "right" else grade
    width = max(map(len, table))
    print(" " * width, *(f"{'-'.join(map(str, slips.NETWORKS[k]['sizes'])):>10}" for k in networks))
    for what, row in table.items():
        print(what.ljust(width), *(f"{row.get(k, '·'):>10}" for k in networks))
    print(f"{sum(counts.values())} slips: {counts['right']} named, {dict(counts)}; ·: the slip changes nothing there")


if __name__ == "__main__":
    main()
