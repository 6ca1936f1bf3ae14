"""Correlations over time, broken."""

from __future__ import annotations

from dataclasses import replace

from autodiff.layers.recurrent import Recurrent
from kfac_ref.curvature import factors, kronecker, recurrent
from kfac_ref.curvature.recurrent import StationaryInverse
from tests.validation.theorems.mutations import after, caught_by


@caught_by("recurrent-one-step-apart")
def steps_the_other_way_round(patch):
    """Ā_1 and G_1 are transposed."""
    after(patch, factors, "_one_step_apart", lambda M, *_: M.T)


@caught_by("recurrent-one-step-apart", "recurrent-positive", "recurrent-exact")
def no_step_apart(patch):
    """Ā_1 and G_1 are 1.1 Ā_0 and 1.1 G_0 without the division by T."""
    patch.setattr(
        factors, "_one_step_apart", lambda layer, rows, root=None: 1.1 * layer.locations * factors._outer(rows, rows)
    )


@caught_by("recurrent-lengths")
def padding_is_seen(patch):
    """Steps behind a sequence's end count as others."""
    patch.setattr(Recurrent, "forward_masked", lambda self, W, x, mask: self.forward(W, x))


@caught_by("recurrent-lengths")
def longest_for_the_expected(patch):
    """T is that of the padded batch, not the expected length."""
    patch.setattr(factors, "_expect_length", lambda *_: None)


@caught_by("recurrent-eta", "recurrent-symmetric")
def each_pair_once(patch):
    """η counts the pairs of steps in one order only."""
    after(patch, recurrent, "eta", lambda eta, *_: (1 + eta) / 2)


@caught_by("recurrent-symmetric")
def symmetric_parts_are_sums(patch):
    """Ā_1 + Ā_1ᵀ is not halved where it is inverted."""
    after(patch, kronecker, "symmetric_pencil", lambda pencil, *_: replace(pencil, s=2 * pencil.s))


@caught_by("recurrent-stationary")
def psi_of_the_wrong_side(patch):
    """(I − Ψ)ᵀ is I − Ψ."""

    def apply(self, V):
        (v,) = V
        u = self.middle.solve(v - kronecker.product(self.Psi_A, self.Psi_G, v))
        return [u - kronecker.product(self.Psi_A, self.Psi_G, u)]

    patch.setattr(StationaryInverse, "apply", apply)
