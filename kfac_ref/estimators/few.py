"""K-FAC where there are few cases: the factors' expectation over the model's targets is taken exactly."""

from __future__ import annotations

from dataclasses import replace

from autodiff.arrays import Array
from autodiff.passes import ForwardPass
from kfac_ref.curvature import factors
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.implicit_factors import ImplicitFactors
from kfac_ref.optimizer import KFAC, State

FEW = 100
"""Cases in a mini-batch up to which a quarter of them with one sampled target each would be a poor estimate, while all
of them with all targets cost next to nothing."""


class ExactOfFew(KFAC):
    """K-FAC, but for mini-batches of at most FEW cases: their factors are of all cases, with no targets sampled.

    Training with all cases has then nothing random after its start, and cases with weights are cases repeated.
    """

    def update_factors(
        self, state: State, forward_pass: ForwardPass, sampled: Array | None
    ) -> Factors | ImplicitFactors:
        """As of `KFAC.update_factors`."""
        if sampled is not None or forward_pass.cases > FEW:
            return super().update_factors(state, forward_pass, sampled)
        s = self.settings
        old = None if state.factors is None else state.factors.explicit
        epsilon = factors.averaging_weight(state.k + 1 - state.restart, s.epsilon_max)
        found = factors.exact(forward_pass, s.kinds)
        # of the blocks off the diagonal only those that `KFAC` keeps
        reach = 1 if s.tridiagonal else 0
        A = {(i, j): x for (i, j), x in found.A.items() if 0 <= j - i <= reach}
        G = {(i, j): x for (i, j), x in found.G.items() if 0 <= j - i <= reach}
        return factors.running_average(old, replace(found, A=A, G=G), epsilon)
