"""The baseline of §13: stochastic gradient descent with Nesterov momentum, as in Sutskever et al. (2013)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autodiff.arrays import inner, read_scalars
from autodiff.network import Network, Parameters
from autodiff.objective import loss_and_gradient, require_sound
from autodiff.passes import ForwardPass
from kfac_ref.optimizer import Batch, Diverged
from kfac_ref.settings import CommonSettings, constant, require


@dataclass(frozen=True, kw_only=True)
class SGDSettings(CommonSettings):
    """The constants of SGD with Nesterov momentum. ValueError or TypeError naming one that is out of its range."""

    learning_rate: float = constant(0.01, "learning rate ε of SGD (§13)")
    mu_max: float = constant(0.99, "bound of SGD's momentum μ_t (§13): the paper tries 0, 0.9, 0.99, 0.995, 0.999")
    full_batch_at: int | None = constant(None, "iteration at which the mini-batch has grown to all cases; none: never")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "finite and > 0", lambda v: 0 < v < math.inf, "learning_rate")
        require(self, "in [0, 1)", lambda v: 0 <= v < 1, "mu_max")


@dataclass(frozen=True)
class SGDState:
    """A run of SGD between two iterations."""

    k: int
    """Iterations done."""
    parameters: Parameters
    """θ."""
    velocity: Parameters
    """v, the previous update."""
    seed: int

    @property
    def averaged(self) -> Parameters:
        """θ: the baseline does not average its iterates."""
        return self.parameters


@dataclass(frozen=True)
class SGDRecord:
    """What one iteration of SGD computed."""

    k: int
    m: int
    """Cases in the mini-batch."""
    h: float
    """h on the mini-batch at θ + μ_t v, where the gradient is taken; the likelihood's constant included."""
    error: float
    """‖y − E[y|z]‖² there, mean over the mini-batch."""
    mu: float
    """μ_t."""
    norm_delta: float
    """‖v‖ after the step."""


class SGD:
    """SGD with Nesterov momentum: v ← μ_t v − ε∇h(θ + μ_t v), θ ← θ + v."""

    def __init__(self, network: Network, settings: SGDSettings | None = None) -> None:
        self.network = network
        self.settings = SGDSettings() if settings is None else settings

    def init(self, parameters: Parameters, seed: int = 0) -> SGDState:
        """The state before the first iteration. ValueError if `parameters` do not fit the network."""
        self.network.check_parameters(parameters)
        return SGDState(0, list(parameters), [0 * W for W in parameters], int(seed))

    def step(self, state: SGDState, batch: Batch) -> tuple[SGDState, SGDRecord]:
        """One iteration on X (m, d_0) and Y (m, d_ℓ). Diverged if h becomes NaN or infinite."""
        s, k = self.settings, state.k + 1
        self.network.check_parameters(state.parameters)
        self.network.check_batch(batch.X, batch.Y, state.parameters[0])
        mu = momentum(k, s.mu_max)
        ahead = [W + mu * v for W, v in zip(state.parameters, state.velocity, strict=True)]
        forward_pass = ForwardPass(self.network, ahead, batch.X, s.chunk_size)
        value, gradient = loss_and_gradient(forward_pass, batch.Y, s.eta)
        velocity = [mu * v - s.learning_rate * g for v, g in zip(state.velocity, gradient, strict=True)]
        parameters = [W + v for W, v in zip(state.parameters, velocity, strict=True)]
        read = read_scalars(value.h, value.error, value.excess, inner(velocity, velocity))
        h, error, excess, squared_norm = (float(x) for x in read)
        require_sound(self.network.likelihood, batch.X, batch.Y, h, excess)
        if not np.isfinite(h + squared_norm):
            what = "the step" if np.isfinite(h) else "the objective h"
            found = squared_norm if np.isfinite(h) else h
            raise Diverged(f"iteration {k}: {what} is {found}; a smaller learning_rate than {s.learning_rate:g} helps")
        constant_ = self.network.likelihood.constant(self.network.sizes[-1])
        record = SGDRecord(k, batch.X.shape[0], h + constant_, error, mu, math.sqrt(squared_norm))
        return SGDState(k, parameters, velocity, state.seed), record


def momentum(t: int, mu_max: float) -> float:
    """μ_t = min(1 − 2^(−1 − log₂(⌊t/250⌋ + 1)), μ_max), t = 1, 2, … (§13)."""
    return min(1 - 2 ** (-1 - math.log2(t // 250 + 1)), mu_max)
