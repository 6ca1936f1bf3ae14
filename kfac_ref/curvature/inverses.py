"""F₀⁻¹ of any network: F̆'s or F̂'s, put together from those of its parts (§4.2, §4.3).

F̂'s chain links layers i and i+1 that both have one row for each case. At any other boundary Ψ_{i,i+1} is 0, and the
chain starts anew: with no link at all F̂ is F̆. Layers without rows have full blocks; recurrent layers for which
correlations over time are wanted have blocks of their own kind. A fully connected network is one part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autodiff.arrays import Array
from autodiff.names import closest
from autodiff.network import Parameters
from autodiff.threads import Work, side_by_side
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, recurrent
from kfac_ref.curvature.block_diagonal import BlockDiagonalInverse
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.damping import DampedFactors
from kfac_ref.curvature.factors import TIMES, Factors
from kfac_ref.curvature.full_block import FullBlockInverse
from kfac_ref.curvature.recurrent import StationaryInverse, SymmetricInverse

Part = BlockDiagonalInverse | BlockTridiagonalInverse | FullBlockInverse | SymmetricInverse | StationaryInverse


@dataclass(frozen=True)
class PartitionedInverse:
    """Inverses of parts of the layers, in their order (§4, KFC §3)."""

    parts: list[Part]
    layers: list[int]
    """How many layers each part has."""

    def apply(self, V: Parameters) -> Parameters:
        """U = F₀⁻¹V."""
        U: Parameters = []
        for part, number in zip(self.parts, self.layers, strict=True):
            U += part.apply(V[len(U) : len(U) + number])
        return U


Inverse = BlockDiagonalInverse | BlockTridiagonalInverse | PartitionedInverse
"""F₀⁻¹ for one γ, with `apply`."""


def invert_each(
    factors: Factors,
    gammas: Sequence[float],
    norm: str,
    tridiagonal: bool,
    time: str = "independent",
    work: Work = side_by_side,
) -> list[tuple[Inverse, Array]]:
    """F̆⁻¹ or, if tridiagonal, F̂⁻¹ for each γ, and its pivots (ℓ, 2) (see `DampedFactors`); `work` does what is costly
    (§8). ValueError as of `invert`."""
    if not (factors.full or tridiagonal or time != "independent"):
        return list(block_diagonal.invert_each(factors, gammas, norm, work))
    found: list[tuple[Inverse, Array]] = []
    for gamma in gammas:
        damped = damping.factorise(factors, gamma, norm)
        found.append((invert(factors, damped, tridiagonal, time, work), damped.pivots))
    return found


def invert(
    factors: Factors,
    damped: DampedFactors,
    tridiagonal: bool,
    time: str = "independent",
    work: Work = side_by_side,
) -> Inverse:
    """F̆⁻¹ or, if tridiagonal, F̂⁻¹ from factors and the factorised damped ones; of recurrent layers as `time`, one
    of `factors.TIMES`, has it (KFC §3, RNN §3). ValueError unless that is the first, or there are factors one step
    apart."""
    closest(time, TIMES, "way to treat time")
    if time == "independent":
        factors = replace(factors, lagged={})
    elif not factors.lagged:
        raise ValueError(f"time {time} needs factors one step apart, of a recurrent layer and Kinds(time={time!r})")
    alone = {i for i, _ in (*factors.full, *factors.lagged)}
    if not alone and not tridiagonal:
        return block_diagonal.invert(damped)
    runs = list(_runs(factors, tridiagonal, alone))
    if len(runs) == 1 and not alone:
        return block_tridiagonal.invert(factors, damped, work)
    parts: list[Part] = []
    for first, last in runs:
        part = damped.part(first, last)
        if (first, first) in factors.full:
            parts.append(FullBlockInverse(part.G[0]))
        elif (first, first) in factors.lagged:
            parts.append(recurrent.invert(part.A[0], part.G[0], factors.lagged[first, first], time))
        elif tridiagonal and last > first:
            parts.append(block_tridiagonal.invert(factors.part(first, last), part, work))
        else:
            parts.append(block_diagonal.invert(part))
    return PartitionedInverse(parts, [last - first + 1 for first, last in runs])


def _runs(factors: Factors, tridiagonal: bool, alone: set[int]) -> Iterator[tuple[int, int]]:
    """First and last layer of each part; those `alone` are parts of their own."""
    first = 1
    for i in range(1, factors.layers + 1):
        ends = {i, i + 1} & alone
        linked = (i, i + 1) in factors.G if tridiagonal else not ends
        if i == factors.layers or not linked:
            yield first, i
            first = i + 1
