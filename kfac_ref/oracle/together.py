"""What becomes of G where a network has outputs at many positions, and goes backward from all of them at once."""

from __future__ import annotations

from collections.abc import Iterator

from kfac_ref.oracle.fits import Candidate, claim
from kfac_ref.oracle.references import SHARINGS, References


def positions_together(layer: int, references: References) -> Iterator[Candidate]:
    """G of the derivatives of Σ_r B_r z_r, B_r B_rᵀ being the Fisher of position r's outputs: positions, although
    they are independent, are added before the outer product."""
    R = references.network.likelihood.positions
    if R == 1 or not references.kronecker(layer):
        return
    g = references.errors(layer, "exact")
    g = g.reshape(R, -1, *g.shape[1:]).sum(axis=0)
    note = ("derivatives of independent positions added before their outer product",)
    for sharing in references.sharings(layer):
        if sharing == "kfc":
            continue  # a multiple of expand
        rows = (g.sum(axis=2) if sharing == "reduce" else g).reshape(-1, g.shape[-1])
        says = claim(fisher="exact", sharing=sharing, notes=note, cost=2.0 + SHARINGS.get(sharing or "", 0.0))
        yield Candidate(rows.T @ rows / references.cases, says)
