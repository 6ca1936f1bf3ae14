"""Running averages of the factors that are multiplied out only when they are needed (§8).

An estimate from n cases, the mean of āāᵀ, is a matrix of d² numbers, or the n·d numbers of the rows ā that it is made
of. Where the τ₁ part of a mini-batch has fewer cases than the widest layer has units, the estimates since the last
inversion are kept as rows, and multiplied out together: one product of large matrices takes the place of many of thin
ones, each added to an average of d² numbers. Networks in which a layer has more than one row for a case, or none, have
more to gain from sums: their averages are multiplied out at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from autodiff.arrays import Array, namespace
from autodiff.passes import ForwardPass
from kfac_ref.curvature import factors
from kfac_ref.curvature.factors import Blocks, Factors, Kinds


@dataclass(frozen=True)
class Rows:
    """An estimate of the factors, a_iᵀ a_j of Ā_{i,j} and g_iᵀ g_j of G_{i,j}."""

    a: list[Array]
    """ā_0 … ā_{ℓ−1}, each (n, d_i+1), divided by √n; with weights times √(w/Σw)."""
    g: list[Array]
    """g_1 … g_ℓ, each (n, d_i), divided likewise, so that products are means over cases."""


@dataclass(frozen=True)
class ImplicitFactors:
    """A running average: old_weight · old + Σ weight_t · estimate_t."""

    old: Factors
    """Multiplied out, as of some iterations before."""
    old_weight: float
    estimates: list[Rows]
    """Those since then."""
    weights: list[float]

    @cached_property
    def explicit(self) -> Factors:
        """The average, multiplied out (§8)."""
        return Factors(
            self._multiplied([rows.a for rows in self.estimates], self.old.A, first=0),
            self._multiplied([rows.g for rows in self.estimates], self.old.G, first=1),
        )

    def _multiplied(self, rows: list[list[Array]], old: Blocks, first: int) -> Blocks:
        xp = namespace(rows[0][0])
        weighted = [
            xp.concat([math.sqrt(weight) * part for weight, part in zip(self.weights, parts, strict=True)])
            for parts in zip(*rows, strict=True)
        ]
        blocks = {}
        for i, j in old:
            blocks[i, j] = weighted[i - first].T @ weighted[j - first]
            blocks[i, j] += self.old_weight * old[i, j]
        return blocks

    @property
    def A(self) -> Blocks:
        """As of `Factors`."""
        return self.explicit.A

    @property
    def G(self) -> Blocks:
        """As of `Factors`."""
        return self.explicit.G

    @property
    def full(self) -> Blocks:
        """As of `Factors`: none."""
        return self.explicit.full


def average(
    old: Factors | ImplicitFactors | None,
    forward_pass: ForwardPass,
    sample: Callable[[slice, Array], Array],
    cases: int,
    tridiagonal: bool,
    epsilon: float,
    kinds: Kinds = factors.USUAL,
) -> Factors | ImplicitFactors:
    """ε·old + (1−ε)·new (§5), new being what `factors.estimate` makes of the same arguments (§8).

    It is not multiplied out while its rows are fewer than the widest layer has units.
    """
    network = forward_pass.network
    widest = network.widest if all(map(network.has_one_row, range(1, network.layers + 1))) else 0
    if old is None or epsilon == 0 or not 0 < forward_pass.here(cases) < widest:
        new = factors.estimate(forward_pass, sample, cases, tridiagonal, kinds)
        return factors.running_average(None if old is None else old.explicit, new, epsilon)
    if isinstance(old, Factors):
        old = ImplicitFactors(old, 1.0, [], [])
    running = ImplicitFactors(
        old.old,
        epsilon * old.old_weight,
        [*old.estimates, _rows(forward_pass, sample, cases)],
        [*(epsilon * weight for weight in old.weights), 1 - epsilon],
    )
    rows = sum(estimate.a[0].shape[0] for estimate in running.estimates)
    return running if rows < widest else running.explicit


def _rows(forward_pass: ForwardPass, sample: Callable[[slice, Array], Array], cases: int) -> Rows:
    """What `factors.estimate` makes of these arguments, as rows."""
    root = math.sqrt(cases) if forward_pass.weights is None else forward_pass.total(cases) ** 0.5
    scale, derivative = 1 / root, forward_pass.network.likelihood.derivative
    a, g = [], []
    for rows, activities in forward_pass.chunks(cases):
        a.append([forward_pass.root_weighted(rows, x) for x in activities.a])
        Dz = scale * derivative(activities.z, sample(rows, activities.z))
        g.append(forward_pass.backward(activities, forward_pass.root_weighted(rows, Dz)))

    def joined(parts: tuple[Array, ...]) -> Array:
        return parts[0] if len(parts) == 1 else namespace(*parts).concat(parts)

    # a product, and hence a copy, as the whole mini-batch's activities must not be kept
    return Rows([scale * joined(x) for x in zip(*a, strict=True)], [joined(x) for x in zip(*g, strict=True)])
