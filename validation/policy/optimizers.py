"""What the actor and the critic are trained by: K-FAC in a trust region (ACKTR, Wu et al. 2017), or Adam (A2C)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from autodiff.network import Parameters
from autodiff.passes import ForwardPass
from kfac_ref.curvature import block_diagonal, damping, factors, fisher, targets, trust_region
from kfac_ref.curvature.factors import Factors


@dataclass
class TrustRegion:
    """Δ = −F̆⁻¹∇ with factored Tikhonov damping; the step ηΔ, η = min(η_max, √(2δ/(ΔᵀFΔ))) with F of the batch."""

    delta: float
    """The divergence that a step may make, mean over the batch."""
    gamma: float = 0.1
    """γ of the damping, which is kept (§6.3)."""
    eta_max: float = 1.0
    epsilon_max: float = 0.95
    """Of the running averages (§5)."""
    seed: int = 0
    k: int = 0
    running: Factors | None = None
    direction: Parameters = field(default_factory=list)
    """Δ of the last step, and below its η and ΔᵀFΔ."""
    eta: float = math.nan
    form: float = math.nan

    def step(self, forward_pass: ForwardPass, gradient: Parameters) -> Parameters:
        """θ after the step, with factors to which targets drawn from the model have been added (§5)."""
        self.k += 1
        m = forward_pass.cases
        new = factors.estimate(forward_pass, targets.drawn(forward_pass, m, (self.seed, 2, self.k)), m, False)
        epsilon = factors.averaging_weight(self.k, self.epsilon_max)
        self.running = factors.running_average(self.running, new, epsilon)
        damped = damping.factorise(self.running, self.gamma)
        damping.require_positive_definite(damped.pivots, self.gamma)
        self.direction = [-u for u in block_diagonal.invert(damped).apply(gradient)]
        self.form = float(fisher.quadratic_forms(forward_pass, [self.direction])[0, 0])
        self.eta = trust_region.step_size(self.form, self.delta, self.eta_max)
        return [W + self.eta * d for W, d in zip(forward_pass.parameters, self.direction, strict=True)]


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015)."""

    rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-5
    k: int = 0
    first: Parameters | None = None
    second: Parameters | None = None

    def step(self, forward_pass: ForwardPass, gradient: Parameters) -> Parameters:
        """θ after the step."""
        self.k += 1
        if self.first is None or self.second is None:
            self.first = [np.zeros_like(g) for g in gradient]
            self.second = [np.zeros_like(g) for g in gradient]
        self.first = [self.beta1 * m + (1 - self.beta1) * g for m, g in zip(self.first, gradient, strict=True)]
        self.second = [self.beta2 * v + (1 - self.beta2) * g * g for v, g in zip(self.second, gradient, strict=True)]
        corrected = self.rate * np.sqrt(1 - self.beta2**self.k) / (1 - self.beta1**self.k)
        moments = zip(forward_pass.parameters, self.first, self.second, strict=True)
        return [W - corrected * m / (np.sqrt(v) + self.epsilon) for W, m, v in moments]
