"""Adam (Kingma & Ba 2015), with the interface of the optimizers here, to be compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autodiff.arrays import namespace, read_scalars
from autodiff.network import Network, Parameters
from autodiff.objective import loss_and_gradient
from kfac_ref.batch import Batch
from kfac_ref.machine.processes import ALONE
from kfac_ref.optimizer import Diverged
from kfac_ref.settings import CommonSettings, constant, require


@dataclass(frozen=True, kw_only=True)
class AdamSettings(CommonSettings):
    """Adam's constants, with the defaults of its paper. ValueError or TypeError naming one that is out of its range."""

    learning_rate: float = constant(1e-3, "learning rate")
    beta1: float = constant(0.9, "of the average of gradients")
    beta2: float = constant(0.999, "of the average of their squares")
    epsilon: float = constant(1e-8, "added to the root of that")
    full_batch_at: int | None = constant(None, "iteration at which the mini-batch has grown to all cases; none: never")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "finite and > 0", lambda v: 0 < v < math.inf, "learning_rate", "epsilon")
        require(self, "in [0, 1)", lambda v: 0 <= v < 1, "beta1", "beta2")


@dataclass(frozen=True)
class AdamState:
    """A run between two iterations."""

    k: int
    """Iterations done."""
    parameters: Parameters
    first: Parameters
    """m, the average of gradients."""
    second: Parameters
    """v, that of their squares."""
    seed: int

    @property
    def averaged(self) -> Parameters:
        """θ: iterates are not averaged."""
        return self.parameters


class Adam:
    """m ← β₁m + (1−β₁)∇h, v ← β₂v + (1−β₂)∇h², θ ← θ − ε m̂/(√v̂ + ε₀), m̂ = m/(1−β₁^k), v̂ = v/(1−β₂^k)."""

    def __init__(self, network: Network, settings: AdamSettings | None = None) -> None:
        self.network = network
        self.settings = AdamSettings() if settings is None else settings
        self.processes = ALONE

    def init(self, parameters: Parameters, seed: int = 0) -> AdamState:
        """The state before the first iteration."""
        zero = [0 * W for W in parameters]
        return AdamState(0, list(parameters), zero, zero, int(seed))

    def step(self, state: AdamState, batch: Batch) -> tuple[AdamState, None]:
        """One iteration. Diverged if h becomes NaN or infinite."""
        s, k, xp = self.settings, state.k + 1, namespace(batch.X)
        forward_pass = batch.forward_pass(self.network, state.parameters, s.chunk_size)
        value, gradient = loss_and_gradient(forward_pass, batch.Y, s.eta)
        (h,) = read_scalars(value.h)
        if not np.isfinite(h):
            raise Diverged(f"iteration {k}: the objective h is {h}")
        first = [s.beta1 * m + (1 - s.beta1) * g for m, g in zip(state.first, gradient, strict=True)]
        second = [s.beta2 * v + (1 - s.beta2) * g * g for v, g in zip(state.second, gradient, strict=True)]
        rate, unbiased = s.learning_rate / (1 - s.beta1**k), 1 - s.beta2**k
        parameters = [
            W - rate * m / (xp.sqrt(v / unbiased) + s.epsilon)
            for W, m, v in zip(state.parameters, first, second, strict=True)
        ]
        return AdamState(k, parameters, first, second, state.seed), None
