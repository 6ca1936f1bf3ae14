"""Noisy K-FAC (Zhang, Sun, Duvenaud & Grosse 2018): variational inference, by K-FAC at parameters that are drawn.

Scales. N cases, the prior's precision λ₀ and the weight κ of the KL divergence (λ in that paper, whose η is 1/λ₀) make

    h(θ) = mean of L + (γ_in/2)‖θ‖²,    γ_in = κλ₀/N,

the intrinsic damping, which is Algorithm 2's ℓ₂ coefficient η. The posterior is a Gaussian around the mean M with the
precision (N/κ) F + λ₀ I = (N/κ)(F + γ_in I), the factors' running averages making up F. Each iteration draws W, takes
∇h and new factors *at W*, and moves the mean by a fixed step, without momentum or re-scaling:

    M ← M − α (F + (γ_in + γ_ex) I)⁻¹ ∇h(W).

γ_ex is extrinsic damping: it shortens steps and is no part of the posterior. The step has factored Tikhonov damping.
With a fixed α the mean itself keeps moving around its own mean; θ̄ (§13), which `State.averaged` is, moves less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autodiff.arrays import Array, inner, read_scalars
from autodiff.network import Network, Parameters
from autodiff.objective import constant, loss_and_gradient, require_finite, require_sound
from kfac_ref.batch import Batch, check_input
from kfac_ref.curvature import damping
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.implicit_factors import ImplicitFactors
from kfac_ref.curvature.inverses import Inverse
from kfac_ref.optimizer import KFAC, Diverged, Record, State
from kfac_ref.posterior.laplace import Posterior, from_factors
from kfac_ref.settings import Settings

NOISE = 7
"""Purpose of a random key; see `optimizer.SAMPLED_TARGETS`."""


@dataclass(frozen=True)
class NoisyInverse:
    """What an inversion leaves: F₀⁻¹ for the steps, and the posterior for the draws."""

    step: Inverse
    posterior: Posterior

    def apply(self, V: Parameters) -> Parameters:
        """U = F₀⁻¹V."""
        return self.step.apply(V)


class NoisyKFAC(KFAC):
    """Noisy K-FAC, Algorithm 2 of Zhang et al. (2018).

    Parameters
    ----------
    network : Network
    cases : float
        N, of all training cases.
    prior_precision : float
        λ₀ > 0.
    kl_weight : float
        κ > 0; less than 1 gives a narrower posterior.
    learning_rate : float
        α > 0.
    extrinsic : float
        γ_ex ≥ 0.
    posterior_damping : {"tikhonov", "exact", "factored"}
        How λ₀ is added to the posterior's precision, see `laplace`; "tikhonov" is the paper's.
    settings : Settings, optional
        Of Algorithm 2's constants those of factors, inversions and iterate averaging; η and λ₀ follow from the above.

    Raises
    ------
    ValueError
        Naming the constant that is not positive and finite.
    """

    def __init__(
        self,
        network: Network,
        cases: float,
        prior_precision: float = 1.0,
        *,
        kl_weight: float = 1.0,
        learning_rate: float = 0.1,
        extrinsic: float = 0.0,
        posterior_damping: str = "tikhonov",
        settings: Settings | None = None,
    ) -> None:
        given = {"cases": cases, "prior_precision": prior_precision, "kl_weight": kl_weight}
        for name, value in (given | {"learning_rate": learning_rate}).items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite; got {value!r}")
        settings = Settings(inverse="block-diagonal") if settings is None else settings
        super().__init__(network, replace(settings, eta=kl_weight * prior_precision / cases, lambda0=extrinsic))
        self.cases, self.prior_precision, self.kl_weight = cases, prior_precision, kl_weight
        self.learning_rate, self.posterior_damping = learning_rate, posterior_damping

    def drawn(self, state: State) -> Parameters:
        """The parameters at which the iteration after `state` takes its gradient; before the first, the mean."""
        if not isinstance(state.inverse, NoisyInverse):
            return state.parameters
        (deviation,) = state.inverse.posterior.deviations(1, (state.seed, NOISE, state.k + 1))
        return [W + d for W, d in zip(state.parameters, deviation, strict=True)]

    def posterior(self, state: State) -> Posterior:
        """The Gaussian around the mean, with the factors as they are now. ValueError before the first iteration."""
        if state.factors is None:
            raise ValueError("there is no posterior before the first iteration: its covariance is that of the factors")
        return self._around(state.parameters, state.factors.explicit)

    def step(self, state: State, batch: Batch, sampled: Array | None = None) -> tuple[State, Record]:
        """One iteration; arguments and errors as of `KFAC.step`: X (m, d_0), Y (m, d_ℓ), `sampled` (⌈τ₁m⌉, d_ℓ). The
        state's parameters are the mean M. Diverged also if the step is not finite."""
        s, k = self.settings, state.k + 1
        check_input(self.network, state.parameters, batch, s.tau1)
        forward_pass = batch.forward_pass(self.network, self.drawn(state), s.chunk_size)

        value, gradient = loss_and_gradient(forward_pass, batch.Y, s.eta)
        running = self.update_factors(state, forward_pass, sampled)
        (inverse,), pivots = self.inverses(state, running, [state.gamma], self.inversion_due(state))
        direction = [-u for u in inverse.apply(gradient)]
        squared = inner(direction, direction)
        h, error, excess, norm, *on_host = read_scalars(value.h, value.error, value.excess, squared, *pivots.values())
        require_sound(self.network.likelihood, batch.X, batch.Y, float(h), float(excess))
        for host in on_host:
            damping.require_positive_definite(host, state.gamma)
        if not np.isfinite(norm):
            require_finite(batch.X, batch.Y)
            raise Diverged(f"iteration {k}: the step is not finite")

        alpha = self.learning_rate
        delta = [alpha * d for d in direction]
        parameters = [W + d for W, d in zip(state.parameters, delta, strict=True)]
        averaged = self._average(state, parameters)
        state = replace(
            state, k=k, parameters=parameters, averaged=averaged, delta=delta, factors=running, inverse=inverse
        )
        return state, Record(
            k=k,
            m=batch.X.shape[0],
            h=float(h) + constant(forward_pass),
            error=float(error),
            alpha=alpha,
            mu=0.0,
            lam=state.lam,
            gamma=state.gamma,
            rho=math.nan,
            model_change=math.nan,
            norm_delta=alpha * math.sqrt(float(norm)),
            gradient=gradient,
            direction=direction,
        )

    def inverses(
        self, state: State, running: Factors | ImplicitFactors, gammas: list[float], refresh: bool
    ) -> tuple[list[Any], dict[float, Array]]:
        """As of `KFAC`, each with the posterior beside it; pivots are (ℓ, 2)."""
        found, pivots = super().inverses(state, running, gammas, refresh)
        if not pivots:  # nothing was inverted
            return found, pivots
        around = self._around(state.parameters, running.explicit)
        return [NoisyInverse(inverse, around) for inverse in found], pivots

    def _around(self, mean: Parameters, running: Factors) -> Posterior:
        N = self.cases / self.kl_weight
        prior, kind = self.prior_precision, self.posterior_damping
        return from_factors(self.network, mean, running, N, math.nan, prior, damping=kind)
