"""What K-FAC is measured against: SGD with Nesterov momentum, as in Sutskever et al. (2013), which is the baseline of
§13, and the exact natural gradient, which K-FAC approximates, for small networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autodiff import arrays, objective
from autodiff.arrays import inner, read_scalars
from autodiff.network import Network, Parameters
from autodiff.objective import loss_and_gradient, require_sound
from kfac_ref import optimizer
from kfac_ref.batch import Batch, check_input
from kfac_ref.curvature import damping, fisher, kronecker, quadratic
from kfac_ref.curvature.quadratic import InnerProducts
from kfac_ref.machine.processes import ALONE, Processes
from kfac_ref.optimizer import Diverged, Record, State
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
    """h, a mean over the mini-batch and (η/2)‖θ‖², at θ + μ_t v, where the gradient is taken; the likelihood's constant
    included."""
    error: float
    """‖y − E[y|z]‖² there, mean over the mini-batch."""
    mu: float
    """μ_t."""
    norm_delta: float
    """‖v‖ after the step."""


class SGD:
    """SGD with Nesterov momentum: v ← μ_t v − ε∇h(θ + μ_t v), θ ← θ + v (§13)."""

    def __init__(self, network: Network, settings: SGDSettings | None = None, processes: Processes = ALONE) -> None:
        self.network = network
        self.settings = SGDSettings() if settings is None else settings
        self.processes = processes

    def init(self, parameters: Parameters, seed: int = 0) -> SGDState:
        """The state before the first iteration. ValueError if `parameters` do not fit the network."""
        self.network.check_parameters(parameters)
        return SGDState(0, list(parameters), [0 * W for W in parameters], int(seed))

    def step(self, state: SGDState, batch: Batch) -> tuple[SGDState, SGDRecord]:
        """One iteration on X (m, d_0) and Y (m, d_ℓ). Diverged if h becomes NaN or infinite."""
        s, k, processes = self.settings, state.k + 1, self.processes
        share = check_input(self.network, state.parameters, batch, processes=processes)
        mu = momentum(k, s.mu_max)
        ahead = [W + mu * v for W, v in zip(state.parameters, state.velocity, strict=True)]
        forward_pass = batch.forward_pass(self.network, ahead, s.chunk_size, share)
        value, gradient = loss_and_gradient(forward_pass, batch.Y, processes.once(s.eta))
        h, error, gradient = processes.sum((value.h, value.error, gradient), "gradient")
        velocity = [mu * v - s.learning_rate * g for v, g in zip(state.velocity, gradient, strict=True)]
        parameters = [W + v for W, v in zip(state.parameters, velocity, strict=True)]
        read = read_scalars(h, error, value.excess, inner(velocity, velocity))
        h, error, excess, squared_norm = (float(x) for x in read)

        def require_finite() -> None:
            require_sound(self.network.likelihood, batch.X, batch.Y, h, excess)
            if not np.isfinite(h + squared_norm):
                what = "the step" if np.isfinite(h) else "the objective h"
                found = squared_norm if np.isfinite(h) else h
                helps = f"a smaller learning_rate than {s.learning_rate:g} helps"
                raise Diverged(f"iteration {k}: {what} is {found}; {helps}")

        processes.agree(require_finite)
        record = SGDRecord(
            k, forward_pass.cases, h + objective.constant(forward_pass), error, mu, math.sqrt(squared_norm)
        )
        return SGDState(k, parameters, velocity, state.seed), record


def momentum(t: int, mu_max: float) -> float:
    """μ_t = min(1 − 2^(−1 − log₂(⌊t/250⌋ + 1)), μ_max), t = 1, 2, … (§13)."""
    return min(1 - 2 ** (-1 - math.log2(t // 250 + 1)), mu_max)


LARGEST = 5000
"""The most parameters P for which the dense F is computed: each matrix (P, P) then takes 200 MB in float64."""


@dataclass(frozen=True, kw_only=True)
class NaturalGradientSettings(CommonSettings):
    """The constants of the exact natural gradient, K-FAC's where it has them. ValueError or TypeError naming one that
    is out of its range."""

    lambda0: float = constant(150.0, "λ at the start (§6.5); about 1 is advised for classifiers")
    T1: int = constant(5, "iterations between adjustments of λ (§6.5)")
    omega: float = constant(19 / 20, "ω₁ = ω^T₁ (§6.5)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "finite and ≥ 0", lambda v: 0 <= v < math.inf, "lambda0")
        require(self, "in (0, 1]", lambda v: 0 < v <= 1, "omega")
        require(self, "≥ 1", lambda v: v >= 1, "T1")


class NaturalGradient:
    """Δ = −(F + (λ+η)I)⁻¹∇h with the exact F of the mini-batch, dense; λ by the rule of §6.5 (§2.2).

    Δ minimises M over all δ, not over a span: what re-scaling (§6.4) finds is α = 1 but for rounding, and momentum (§7)
    has nothing to add, μ = 0. States and records are K-FAC's, with γ = sqrt(λ+η), which nothing depends on, and
    without factors, inverse and averaging. It is for one process. ValueError for a network of more than LARGEST
    parameters.
    """

    processes = ALONE

    def __init__(self, network: Network, settings: NaturalGradientSettings | None = None) -> None:
        P = sum(p * q for p, q in network.shapes)
        if P > LARGEST:
            raise ValueError(
                f"the exact natural gradient needs the dense Fisher, P² numbers: the network {network} has P = {P} "
                f"parameters, and at most {LARGEST} are allowed"
            )
        self.network = network
        self.settings = NaturalGradientSettings() if settings is None else settings

    def init(self, parameters: Parameters, seed: int = 0) -> State:
        """The state before the first iteration. ValueError if `parameters` do not fit the network."""
        self.network.check_parameters(parameters)
        s, theta = self.settings, list(parameters)
        return State(0, theta, theta, s.lambda0, math.sqrt(s.lambda0 + s.eta), int(seed))

    def step(self, state: State, batch: Batch) -> tuple[State, Record]:
        """One iteration on X (m, d_0) and Y (m, d_ℓ).

        Diverged if h becomes NaN or infinite; ValueError as K-FAC, and if F + (λ+η)I is not positive definite.
        """
        check_input(self.network, state.parameters, batch)
        s, k, m = self.settings, state.k + 1, batch.X.shape[0]
        forward_pass = batch.forward_pass(self.network, state.parameters, s.chunk_size)
        value, gradient = loss_and_gradient(forward_pass, batch.Y, s.eta)

        # Δ, and M along it
        F = fisher.dense(forward_pass)
        R, pivot = arrays.inverse_square_root(arrays.add_to_diagonal(F, state.lam + s.eta))
        direction = kronecker.unflatten(-(R.T @ (R @ kronecker.flatten(gradient))), self.network.shapes)
        products = quadratic.inner_products(forward_pass, gradient, [direction], m)
        h, error, excess, smallest, *on_host = read_scalars(value.h, value.error, value.excess, pivot, *products)
        require_sound(self.network.likelihood, batch.X, batch.Y, float(h), float(excess))
        if not np.isfinite(h):
            raise Diverged(f"iteration {k}: the objective h is {h}")
        if not smallest > 0:
            raise ValueError(
                f"iteration {k}: F + (λ+η)I is not positive definite (or it is not finite) with λ+η = "
                f"{state.lam + s.eta:g}; a larger lambda0 or eta helps, or float64"
            )
        products = InnerProducts(*on_host)
        if not np.isfinite(products.slopes.sum() + products.forms.sum()):
            raise Diverged(f"iteration {k}: the quadratic model of the objective is not finite")
        model = quadratic.minimise(products, state.lam + s.eta, [0])

        delta = [model.alpha * d for d in direction]
        parameters = [W + d for W, d in zip(state.parameters, delta, strict=True)]
        lam, rho = state.lam, math.nan
        if k % s.T1 == 0:
            rho = optimizer.measured_ratio(self.network, parameters, batch, s, float(h), model.change)
            lam = damping.adjust_lambda(lam, rho, s.omega**s.T1)
        gamma = math.sqrt(lam + s.eta)
        return State(k, parameters, parameters, lam, gamma, state.seed, delta=delta), Record(
            k=k,
            m=m,
            h=float(h) + objective.constant(forward_pass),
            error=float(error),
            alpha=model.alpha,
            mu=model.mu,
            lam=lam,
            gamma=gamma,
            rho=rho,
            model_change=model.change,
            norm_delta=model.norm,
            gradient=gradient,
            direction=direction,
        )
