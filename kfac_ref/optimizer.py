"""Algorithm 2, step by step in the paper's order, and nothing else (§9)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from autodiff.arrays import Array, combination, read_scalars
from autodiff.network import Network, Parameters
from autodiff.objective import constant, loss, loss_and_gradient, require_finite, require_sound
from autodiff.passes import ForwardPass
from autodiff.share import Share
from kfac_ref.batch import Batch, check_input
from kfac_ref.curvature import damping, factors, implicit_factors, inverses, quadratic, targets
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.implicit_factors import ImplicitFactors
from kfac_ref.curvature.inverses import Inverse
from kfac_ref.curvature.quadratic import InnerProducts
from kfac_ref.machine.processes import ALONE, Processes
from kfac_ref.settings import CommonSettings, Settings

SAMPLED_TARGETS = 2
"""Purpose of a random key (seed, purpose, iteration); see autodiff.arrays. 0: initial parameters, 1: mini-batches."""


class Diverged(ArithmeticError):
    """The objective became NaN or infinite."""


@dataclass(frozen=True)
class State:
    """An optimisation between two iterations. All that is random follows from `seed` and `k`."""

    k: int
    """Iterations done."""
    parameters: Parameters
    """θ."""
    averaged: Parameters
    """θ̄, the average of iterates (§13)."""
    lam: float
    gamma: float
    seed: int
    restart: int = 0
    """Iterations done when the running averages were last restarted."""
    delta: Parameters | None = None
    """δ₀, the previous update."""
    factors: Factors | ImplicitFactors | None = None
    """Running averages; with several processes this one's summands of them (see `KFAC.whole`)."""
    inverse: Inverse | None = None
    """F₀⁻¹ as it was last computed; None: to be computed at the next iteration."""


@dataclass(frozen=True)
class Record:
    """What one iteration computed."""

    k: int
    m: int
    """Cases in the mini-batch."""
    h: float
    """h(θ), a mean over the mini-batch and (η/2)‖θ‖², before the step, the likelihood's constant included."""
    error: float
    """‖y − E[y|z]‖², mean over the mini-batch, before the step."""
    alpha: float
    mu: float
    lam: float
    """After this iteration's adjustment, as is gamma."""
    gamma: float
    rho: float
    """NaN where not computed."""
    model_change: float
    """M(δ) − M(0)."""
    norm_delta: float
    """‖δ‖."""
    gradient: Parameters
    """∇h, a mean over the mini-batch, and ηθ."""
    direction: Parameters
    """Δ = −F₀⁻¹∇h."""


class KFAC:
    """K-FAC (Algorithm 2).

    A subclass may put another matrix in the place of F₀, by `update_factors` and `inverses` of its own.

    Parameters
    ----------
    network : Network
    settings : Settings
        The constants; `kfac_ref.preset("quick")`, `("authors")` or `("paper")`.
    processes : Processes, optional
        Among which the cases of every mini-batch are shared; `kfac_ref.machine.processes_found()`. All have the same
        state but for their summands of the factors, and take the same steps, which are those of one process to
        rounding.

    Raises
    ------
    ValueError
        If the setting `time` is for recurrent layers, and the network has none of several steps.

    Examples
    --------
    >>> import numpy as np
    >>> import kfac_ref
    >>> network = kfac_ref.Network([8, 4, 8], "tanh", "gaussian")
    >>> kfac = kfac_ref.KFAC(network, kfac_ref.preset("authors", lambda0=1.0))
    >>> state = kfac.init(kfac_ref.glorot_initialisation(network, 0), seed=0)
    >>> X = np.random.default_rng(0).standard_normal((100, 8))
    >>> for _ in range(20):
    ...     state, record = kfac.step(state, kfac_ref.Batch(X, X))
    >>> state.k, bool(record.h < 12)
    (20, True)
    """

    def __init__(self, network: Network, settings: Settings | None = None, processes: Processes = ALONE) -> None:
        self.network = network
        self.settings = Settings() if settings is None else settings
        self.processes = processes
        if self.settings.time != "independent" and not any(map(self.settings.kinds.lagged, network.weighted)):
            raise ValueError(
                f"time {self.settings.time} is for recurrent layers of several steps; the network {network} has none"
            )

    def init(self, parameters: Parameters, seed: int = 0) -> State:
        """The state before the first iteration; γ = sqrt(λ₀+η). ValueError if `parameters` do not fit the network."""
        self.network.check_parameters(parameters)
        s = self.settings
        return State(0, list(parameters), list(parameters), s.lambda0, math.sqrt(s.lambda0 + s.eta), int(seed))

    def step(self, state: State, batch: Batch, sampled: Array | None = None) -> tuple[State, Record]:
        """One iteration.

        Parameters
        ----------
        state : State
        batch : Batch
            X (m, d_0) and Y (m, d_ℓ), of the library, device and dtype of the parameters; optionally weights and
            lengths, (m,). Of several processes each gives its part of the mini-batch.
        sampled : array (⌈τ₁m⌉, d_ℓ), optional
            Targets for the factors, instead of drawing them from the model; of the cases that are here.

        Raises
        ------
        Diverged
            If h becomes NaN or infinite; `state` is as it was.
        ValueError
            If shapes do not fit, X or Y is not finite, Y is outside the likelihood's range, a weight is negative or all
            are 0 of the cases, or of the first ⌈τ₁m⌉ or ⌈τ₂m⌉ of them, or a damped factor is not positive definite with
            any candidate for γ.
        TypeError
            If X, Y, weights or `sampled` are not arrays of the library, dtype and device of the parameters.

        What one of several processes has to raise, all raise.
        """
        s, k, processes = self.settings, state.k + 1, self.processes
        share = check_input(self.network, state.parameters, batch, s.tau1, s.tau2, processes=processes)
        forward_pass = batch.forward_pass(self.network, state.parameters, s.chunk_size, share)

        # 1. the gradient
        value, gradient = loss_and_gradient(forward_pass, batch.Y, processes.once(s.eta))
        h, error, gradient = processes.sum((value.h, value.error, gradient), "gradient")

        # 2. the running averages of the factors, with targets sampled from the model
        running = self.update_factors(state, forward_pass, sampled)

        # 3. the candidates for γ
        gammas = [state.gamma]
        if k % s.T2 == 0:
            gammas = damping.gamma_candidates(state.gamma, math.sqrt(s.omega) ** s.T2, s.gamma_min, s.gamma_max)
        refresh = self.inversion_due(state)
        if not (refresh or s.candidates_inverted):
            gammas = gammas[:1]  # all share the old inverse and are equal

        # 4. for each of them the inverse, Δ, and the minimiser of M over span{Δ, δ₀}
        inverses, pivots = self.inverses(state, running, gammas, refresh)
        directions = [[-u for u in inverse.apply(gradient)] for inverse in inverses]
        previous = [state.delta] if s.momentum and state.delta is not None else []
        m = forward_pass.cases
        products = quadratic.inner_products(forward_pass, gradient, directions + previous, math.ceil(s.tau2 * m))
        products = products._replace(forms=processes.sum(products.forms, "forms"))
        h, error, excess, *on_host = read_scalars(h, error, value.excess, *products, *pivots.values())
        products, of_gamma = InnerProducts(*on_host[:3]), dict(zip(pivots, on_host[3:], strict=True))

        def require_usable() -> list[int]:
            require_sound(self.network.likelihood, batch.X, batch.Y, float(h), float(excess))
            return _usable(k, batch, float(h), gammas, products, of_gamma)

        usable = processes.agree(require_usable)
        second = [len(gammas)] if previous else []
        models = {c: quadratic.minimise(products, state.lam + s.eta, [c, *second]) for c in usable}

        # 5. the best candidate, the first of equals; the step
        best = min(usable, key=lambda c: models[c].change)
        best, model = processes.tell((best, models[best]), "decisions")
        inverse, direction = inverses[best], directions[best]
        # the others are not held while ρ takes memory of its own, nor is what the passes left
        del inverses, directions
        likelihood_constant = constant(forward_pass)
        del forward_pass
        if previous:
            pairs = zip(direction, previous[0], strict=True)
            delta = [combination(model.alpha, d, model.mu, d0) for d, d0 in pairs]
        else:
            delta = [model.alpha * d for d in direction]
        parameters = [W + d for W, d in zip(state.parameters, delta, strict=True)]

        # 6. λ, by how well M predicted the change of h
        lam, rho = state.lam, math.nan
        if k % s.T1 == 0:
            rho = measured_ratio(self.network, parameters, batch, s, float(h), model.change, share, processes)
            rho = processes.tell(rho, "decisions")
            lam = damping.adjust_lambda(lam, rho, s.omega**s.T1, s.lambda_min, s.lambda_max)

        state = replace(
            state,
            k=k,
            parameters=parameters,
            averaged=self._average(state, parameters),
            lam=lam,
            gamma=gammas[best],
            delta=delta,
            factors=running,
            inverse=inverse,
        )
        return state, Record(
            k=k,
            m=m,
            h=float(h) + likelihood_constant,
            error=float(error),
            alpha=model.alpha,
            mu=model.mu,
            lam=lam,
            gamma=state.gamma,
            rho=rho,
            model_change=model.change,
            norm_delta=model.norm,
            gradient=gradient,
            direction=direction,
        )

    def update_factors(
        self, state: State, forward_pass: ForwardPass, sampled: Array | None
    ) -> Factors | ImplicitFactors:
        """ε·old + (1−ε)·new, the new ones from the first ⌈τ₁m⌉ cases, with `sampled` targets (cases, d_ℓ) or drawn ones
        (§5); a subclass may add what its inverses need. ValueError or TypeError as of `step`."""
        s, cases = self.settings, math.ceil(self.settings.tau1 * forward_pass.cases)
        if sampled is None:
            sample = sampled_targets(state, forward_pass, cases)
        else:
            given = sampled
            sample = self.processes.agree(lambda: targets.given(forward_pass, cases, given))
        epsilon = factors.averaging_weight(state.k + 1 - state.restart, s.epsilon_max)
        running = implicit_factors.average(state.factors, forward_pass, sample, cases, s.tridiagonal, epsilon, s.kinds)
        candidates_due = (state.k + 1) % s.T2 == 0 and s.candidates_inverted
        return running.explicit if self.inversion_due(state) or candidates_due else running

    def inversion_due(self, state: State) -> bool:
        """Whether the coming iteration computes inverses: if T₃ divides it, for k ≤ 3, and where there is none (§8)."""
        k = state.k + 1
        return k % self.settings.T3 == 0 or k <= 3 or state.inverse is None

    def inverses(
        self, state: State, running: Factors | ImplicitFactors, gammas: list[float], refresh: bool
    ) -> tuple[list[Inverse], dict[float, Array]]:
        """F₀⁻¹, or what a subclass has in its place with `apply`, for each γ, and the pivots (ℓ, 2) of those computed
        now: all at a refresh (§8), otherwise those for a γ other than the present one."""
        s, old = self.settings, state.inverse
        kept = [old is not None and not refresh and (g == state.gamma or not s.candidates_inverted) for g in gammas]
        due = [gamma for gamma, keep in zip(gammas, kept, strict=True) if not keep]
        if not due:
            return [cast(Inverse, old)] * len(gammas), {}
        whole, divide = self.whole(running), self.processes.divide
        new = inverses.invert_each(whole, due, s.pi_norm, s.tridiagonal, s.time, divide)
        found = iter(inverse for inverse, _ in new)
        pivots = dict(zip(due, (pivots for _, pivots in new), strict=True))
        return [cast(Inverse, old) if keep else next(found) for keep in kept], pivots

    def whole(self, running: Factors | ImplicitFactors) -> Factors:
        """The running averages, multiplied out, of which each process has a summand (§8, §14). As they are linear in
        the cases, they are summed only where they are to be inverted, and where a state is written."""
        found = running.explicit
        return found if self.processes.alone else factors.summed(found, lambda x: self.processes.sum(x, "factors"))

    def gathered(self, state: State) -> State:
        """The state as one process alone would have it, for all: that of a checkpoint."""
        if self.processes.alone or state.factors is None:
            return state
        return replace(state, factors=self.whole(state.factors))

    def told(self, state: State) -> State:
        """For all processes the state that the first one has from one process alone: the reverse of `gathered`."""
        state = self.processes.tell(state)
        if self.processes.first or state.factors is None:
            return state
        return replace(state, factors=factors.scaled(state.factors.explicit, 0.0))

    def _average(self, state: State, parameters: Parameters) -> Parameters:
        """§13: θ̄ ← ξθ̄ + (1−ξ)θ, counted from `average_from`; before that θ̄ is θ."""
        count = state.k + 2 - self.settings.average_from
        if count <= 1:
            return parameters
        xi = min(1 - 1 / count, self.settings.xi_max)
        return [combination(xi, a, 1 - xi, W) for a, W in zip(state.averaged, parameters, strict=True)]


def sampled_targets(state: State, forward_pass: ForwardPass, cases: int) -> targets.Targets:
    """Targets drawn from the model for the first `cases` cases, in the iteration after `state` (§5)."""
    return targets.drawn(forward_pass, cases, (state.seed, SAMPLED_TARGETS, state.k + 1))


def measured_ratio(
    network: Network,
    parameters: Parameters,
    batch: Batch,
    settings: CommonSettings,
    before: float,
    model_change: float,
    share: Share | None = None,
    processes: Processes = ALONE,
) -> float:
    """ρ of the step to `parameters` from where h was `before`, on the same mini-batch (§6.5)."""
    forward_pass = batch.forward_pass(network, parameters, settings.chunk_size, share)
    after = processes.sum(loss(forward_pass, batch.Y, processes.once(settings.eta)).h, "ρ")
    return reduction_ratio(before, float(read_scalars(after)[0]), model_change)


def reduction_ratio(before: float, after: float, model_change: float) -> float:
    """ρ = (h(θ+δ) − h(θ)) / (M(δ) − M(0)); −∞ for a step that makes h worse or not finite (§6.5)."""
    if not after <= before:
        return -math.inf
    return (after - before) / model_change if model_change else math.nan


def refreshed(state: State) -> State:
    """`state` as the authors' program resumes it: the inverse is computed anew at the next iteration, and the running
    averages' ε counts from here (§9)."""
    return replace(state, inverse=None, restart=state.k)


def _usable(
    k: int, batch: Batch, h: float, gammas: list[float], products: InnerProducts, pivots: dict[float, np.ndarray]
) -> list[int]:
    """The candidates for γ with which every damped factor is positive definite, so that rounding in float32 can end
    neither the search for a smaller γ nor the run.

    Diverged if h or the model is not finite; ValueError if X or Y is to blame for that, or, naming layer and γ, if no
    candidate is left.
    """
    if not np.isfinite(h):
        raise Diverged(f"iteration {k}: the objective h is {h}")
    usable = [c for c, gamma in enumerate(gammas) if gamma not in pivots or np.all(pivots[gamma] > 0)]
    if not usable:
        damping.require_positive_definite(pivots[max(gammas)], max(gammas))
    directions = [*usable, *range(len(gammas), len(products.slopes))]
    if not all(np.all(np.isfinite(p[directions])) for p in (products.slopes, np.diag(products.forms))):
        require_finite(batch.X, batch.Y)
        raise Diverged(f"iteration {k}: the quadratic model of the objective is not finite")
    return usable
