"""The divergence that a step really makes beside the δ that was asked for, by the quadratic form that it is scaled by.

η = √(2δ/q) makes KL = δ to second order if q = ΔᵀFΔ of the cases at hand. What programs take in its place is measured
here on the same directions Δ, along a run whose own steps are scaled by F: what they would have made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from autodiff.network import Parameters
from autodiff.passes import forward
from kfac_ref.curvature import factors, kronecker_fisher, trust_region
from validation.policy.actor_critic import Batch
from validation.policy.environments import TASKS
from validation.policy.optimizers import TrustRegion
from validation.policy.training import Side, train

RULES = {
    "ΔᵀFΔ, F of the batch": "nothing: a forward-mode pass",
    "ΔᵀF̆Δ, F̆ of the batch": "the blocks between layers are left out, and the others Kronecker products",
    "ΔᵀF̆Δ, running averages": "the same, and it is of other cases and older policies",
    "−∇ᵀΔ": "F̆ with the damping that Δ was computed with, which is cheap as Δ is at hand",
    "−2∇ᵀΔ": "the same, and the 2 of η = √(2δ/q) is forgotten",
    "−∇ᵀΔ of both networks": "one q for actor and critic, whose share is taken from the policy's step",
    "squared gradients": "Δᵀ E[∇∇ᵀ] Δ with the advantages in ∇: that is no Fisher",
    "F, and then momentum": "the step is right, but 0.9 of those before are added to it",
}
"""What a step is scaled by, and what is wrong with it."""
DELTAS = (1e-4, 1e-3, 1e-2, 1e-1)
"""With F itself: how far second order reaches."""


class Comparison:
    """KL/δ at each update, by RULES, and by DELTAS for F itself."""

    def __init__(self, delta: float) -> None:
        self.delta = delta
        self.by_rule: dict[str, list[float]] = {name: [] for name in RULES}
        self.by_delta: dict[float, list[float]] = {delta: [] for delta in DELTAS}
        self.velocity: Parameters | None = None

    def __call__(self, batch: Batch, policy: Side, value: Side) -> None:
        """Measure one update; see `training.train`."""
        assert isinstance(policy.optimizer, TrustRegion) and isinstance(value.optimizer, TrustRegion)
        Delta, form, running = policy.optimizer.direction, policy.optimizer.form, policy.optimizer.running
        assert running is not None
        damped = -_dot(policy.gradient, Delta)
        both = damped - _dot(value.gradient, value.optimizer.direction)
        approximate = _dot(Delta, kronecker_fisher.product(running, Delta))
        of_batch = _dot(Delta, kronecker_fisher.product(factors.exact(policy.forward_pass, reach=1), Delta))
        forms = (form, of_batch, approximate, damped, 2 * damped, both, _squared(batch, policy, Delta))
        steps = [_scaled(Delta, q, self.delta) for q in forms]
        old = steps[0] if self.velocity is None else self.velocity
        before = 0.0 if self.velocity is None else 0.9
        self.velocity = [before * v + d for v, d in zip(old, steps[0], strict=True)]
        for found, step in zip(self.by_rule.values(), [*steps, self.velocity], strict=True):
            found.append(_divergence(policy, step) / self.delta)
        for delta, found in self.by_delta.items():
            found.append(_divergence(policy, _scaled(Delta, form, delta)) / delta)


def measured(task: str, constants: Mapping[str, float], seed: int, steps: int) -> Comparison:
    """Along a run of K-FAC on one of TASKS."""
    comparison = Comparison(constants["delta"])
    train(TASKS[task], "kfac", constants, seed, steps, comparison)
    return comparison


def _scaled(Delta: Parameters, q: float, delta: float) -> Parameters:
    return [math.sqrt(2 * delta / q) * d for d in Delta]


def _divergence(policy: Side, step: Parameters) -> float:
    """The KL that a step makes, mean over the batch."""
    passed = policy.forward_pass
    ((_, before),) = passed.chunks()
    moved = [W + d for W, d in zip(passed.parameters, step, strict=True)]
    after = forward(passed.network, moved, passed.X).z
    return float(trust_region.divergence(passed.network.likelihood, before.z, after).mean())


def _squared(batch: Batch, policy: Side, Delta: Parameters) -> float:
    """The mean of (A ∇log π(a|s)ᵀΔ)²."""
    passed = policy.forward_pass
    ((_, activities),) = passed.chunks()
    along = passed.forward_mode(activities, [Delta])[0, ...]
    derivative = passed.network.likelihood.derivative(activities.z, batch.actions)
    return float(np.mean((batch.advantages * np.vecdot(derivative, along)) ** 2))


def _dot(u: Parameters, v: Parameters) -> float:
    return float(sum(np.sum(a * b) for a, b in zip(u, v, strict=True)))
