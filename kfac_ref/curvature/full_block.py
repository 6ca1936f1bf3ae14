"""The whole block F_{i,i} of a small layer without rows, as a normalisation, and its damped inverse."""

from __future__ import annotations

from dataclasses import dataclass

from autodiff.arrays import Array
from autodiff.network import Parameters
from kfac_ref.curvature import kronecker


@dataclass(frozen=True)
class FullBlockInverse:
    """(F_{i,i} + γ²I)⁻¹ of one layer for one γ: factorised once, applied to many V."""

    root: Array
    """R with RᵀR the inverse, (d·p, d·p)."""

    def apply(self, V: Parameters) -> Parameters:
        """U = (F_{i,i} + γ²I)⁻¹V for the layer's V, alone in its list."""
        (v,) = V
        return [kronecker.unvec(self.root.T @ (self.root @ kronecker.vec(v)), v.shape)]
