"""Corollary 2: K-FAC's path in function space is the same whichever parameterisation is trained; SGD's is not (§10).

20 undamped, re-scaled iterations of full-batch K-FAC, with momentum, by the library's own Algorithm 2: λ = η = γ = 0,
τ₁ = τ₂ = 1, T₃ = 1, running averages of factors whose targets are sampled, the same targets in both parameterisations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from autodiff import Network
from autodiff.network import Parameters
from autodiff.passes import forward
from kfac_ref import KFAC, Batch, Settings
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.curvature.factors import Factors
from kfac_ref.settings import INVERSES
from validation.theorems import reparameterisation
from validation.theorems.reparameterisation import Reparameterisation
from validation.theorems.statement import EPSILON, Deviation, Instance, Space, Statement, relative, worst

ITERATIONS = 20
NEVER = 10**9
UNDAMPED = {
    inverse: Settings(
        inverse=inverse, lambda0=0.0, eta=0.0, tau1=1.0, tau2=1.0, T1=NEVER, T2=NEVER, T3=1, full_batch_at=None
    )
    for inverse in INVERSES
}
"""Algorithm 2 as Corollary 2 has it: γ = sqrt(λ₀+η) = 0, and neither λ nor γ is adjusted."""
GRADIENT_DESCENT = SGDSettings(learning_rate=0.1, mu_max=0.9, eta=0.0)
RUN_AWAY = 10.0
"""A path ends where ‖z‖ is so many times what it was: nothing holds undamped steps back where F vanishes, as for
Bernoulli outputs that saturate, and rounding then grows without bound."""
TOGETHER = 1e-6
"""Where rounding may part K-FAC's paths by more, they are not compared with SGD's."""
DISTURBANCE = 1e-7
"""The relative size of what is added to θ, once, to see how a path's disturbances grow."""


@dataclass(frozen=True)
class Start:
    """A network, the parameters from which it is trained, and its inputs."""

    network: Network
    parameters: Parameters
    X: np.ndarray

    def transformed(self, change: Reparameterisation, network: Network) -> Start:
        """The same function in another parameterisation: θ† = ζ⁻¹(θ) on the transformed inputs."""
        return Start(network, change.zeta_inverse(self.parameters), change.inputs(self.X))

    def disturbed(self, rng: np.random.Generator) -> Start:
        """θ with each layer moved by DISTURBANCE of its length, in a random direction."""
        moved = []
        for W in self.parameters:
            step = rng.standard_normal(W.shape)
            moved.append(W + DISTURBANCE * np.linalg.norm(W) / np.linalg.norm(step) * step)
        return Start(self.network, moved, self.X)

    def outputs(self, parameters: Parameters) -> np.ndarray:
        """z of all cases (N, d_ℓ) with these parameters."""
        return forward(self.network, parameters, self.X).z


@dataclass(frozen=True)
class Path:
    """What a run went through."""

    z: list[np.ndarray]
    """The outputs of all cases before the first iteration and after each."""
    targets: list[np.ndarray]
    """The sampled targets of each iteration."""
    condition: float = 1.0
    """The largest κ(Ā_{i−1,i−1}) κ(G_{i,i}) of any layer in any iteration."""


def kfac(
    start: Start, Y: np.ndarray, settings: Settings, targets: Sequence[np.ndarray] | None = None, seed: int = 0
) -> Path:
    """A path of K-FAC with these sampled targets, as many iterations as there are; or with its own, ITERATIONS, or as
    many as there are until it runs away."""
    optimizer = KFAC(start.network, settings)
    state, batch, likelihood = optimizer.init(start.parameters), Batch(start.X, Y), start.network.likelihood
    z, used, condition = [start.outputs(start.parameters)], [], 1.0
    for k in range(ITERATIONS if targets is None else len(targets)):
        sampled = likelihood.sample(z[-1], (seed, k)) if targets is None else targets[k]
        state, _ = optimizer.step(state, batch, sampled)
        found = start.outputs(state.parameters)
        if targets is None and not np.linalg.norm(found) < RUN_AWAY * np.linalg.norm(z[0]):
            break
        z.append(found)
        used.append(sampled)
        assert state.factors is not None
        condition = max(condition, largest_condition(state.factors.explicit))
    return Path(z, used, condition)


def sgd(start: Start, Y: np.ndarray, settings: SGDSettings = GRADIENT_DESCENT) -> Path:
    """A path of full-batch gradient descent with Nesterov momentum."""
    optimizer = SGD(start.network, settings)
    state, z = optimizer.init(start.parameters), [start.outputs(start.parameters)]
    for _ in range(ITERATIONS):
        state, _ = optimizer.step(state, Batch(start.X, Y))
        z.append(start.outputs(state.parameters))
    return Path(z, [])


def largest_condition(factors: Factors) -> float:
    """The largest κ(Ā_{i−1,i−1}) κ(G_{i,i}) of any layer."""
    kappa = np.linalg.cond
    return max(float(kappa(factors.A[i - 1, i - 1]) * kappa(factors.G[i, i])) for i in range(1, factors.layers + 1))


def distances(ours: Path, theirs: Path) -> np.ndarray:
    """‖z† − z‖/‖z‖ over all cases, before the first iteration and after each."""
    return np.array([relative(there, here) for there, here in zip(ours.z, theirs.z, strict=True)])


def targets_within_reach(instance: Instance) -> np.ndarray:
    """Targets (N, d_ℓ), nearly those of a network nearby: with random ones undamped steps often run away."""
    rng, network = instance.rng(5), instance.network
    nearby = [W + 0.2 * rng.standard_normal(W.shape) / np.sqrt(W.shape[1]) for W in instance.parameters]
    return 0.15 * instance.Y + 0.85 * network.likelihood.mean(forward(network, nearby, instance.X).z)


# --- the parameterisations -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """Another parameterisation of a network of logistic units."""

    says: str
    make: Callable[[Start, np.random.Generator], Reparameterisation]
    tanh: bool = False
    """Whether its network has "tanh" in the place of "logistic"; otherwise it has the same activations."""

    def of(self, start: Start, rng: np.random.Generator) -> tuple[Start, Reparameterisation]:
        """The start in it, and how it came about."""
        change, network = self.make(start, rng), start.network
        if self.tanh:
            network = Network(network.sizes, "tanh", network.likelihood)
        return start.transformed(change, network), change


def shifted(start: Start, rng: np.random.Generator) -> Reparameterisation:
    """A number of size 1 or so added to each input."""
    d = start.network.sizes[0]
    return reparameterisation.of_inputs(start.network, np.eye(d), rng.standard_normal(d))


def scaled(start: Start, rng: np.random.Generator) -> Reparameterisation:
    """Each input in another unit, from ⅕ to 5 times as large."""
    d = start.network.sizes[0]
    return reparameterisation.of_inputs(start.network, np.diag(5 ** rng.uniform(-1, 1, d)), np.zeros(d))


def whitened(start: Start, rng: np.random.Generator) -> Reparameterisation:
    """Inputs of mean 0 and covariance I."""
    mean = start.X.mean(0)
    root = reparameterisation.inverse_symmetric_root(np.cov(start.X.T, bias=True).reshape(2 * mean.shape))
    return reparameterisation.of_inputs(start.network, root, -root @ mean)


CHANGES = {
    "logistic-tanh": Change(
        "tanh in place of logistic units", lambda start, rng: reparameterisation.logistic_to_tanh(start.network), True
    ),
    "shifted": Change("inputs shifted", shifted),
    "scaled": Change("each input scaled", scaled),
    "whitened": Change("inputs whitened", whitened),
}


def stay_together(name: str, instance: Instance) -> list[Deviation]:
    """The largest distance after any of the iterations, and what rounding may make of it, for each inverse."""
    start, Y = Start(instance.network, instance.parameters, instance.X), targets_within_reach(instance)
    there, _ = CHANGES[name].of(start, instance.rng(3))
    disturbed = start.disturbed(instance.rng(4))
    deviations = []
    for settings in UNDAMPED.values():
        here = kfac(start, Y, settings, seed=instance.seed)
        other = kfac(there, Y, settings, here.targets)
        growth = distances(kfac(disturbed, Y, settings, here.targets), here).max() / DISTURBANCE
        tolerance = 100 * EPSILON * max(here.condition, other.condition) * max(growth, 1.0)
        deviations.append(Deviation(float(distances(other, here).max()), tolerance))
    return deviations


def corollary_2(name: str, instance: Instance) -> Deviation:
    """Both inverses."""
    return worst(*stay_together(name, instance))


def sgd_drifts(instance: Instance) -> Deviation:
    """K-FAC's distance over SGD's: the larger of both inverses and all changes."""
    start, Y = Start(instance.network, instance.parameters, instance.X), targets_within_reach(instance)
    along, ratios = sgd(start, Y), [Deviation(0.0, 1e-3)]
    for name, change in CHANGES.items():
        there, _ = change.of(start, instance.rng(3))
        drift = distances(sgd(there, Y), along).max()
        # where disturbances grow so much that rounding alone may part K-FAC's paths, there is nothing to compare
        compared = (d for d in stay_together(name, instance) if not d.tolerance >= TOGETHER)
        ratios += [Deviation(float(d.value / drift), 1e-3) for d in compared]
    return worst(*ratios)


# --- the table -------------------------------------------------------------------------------------------------------

SPACE = Space((2, 3), (2, 4), (3, 4), (100, 150), ("logistic",), ("bernoulli", "gaussian"), 2.0, 1e5)
HOW = (
    f"‖z† − z‖/‖z‖ on all cases, the largest of {ITERATIONS} undamped, re-scaled iterations of full-batch K-FAC with "
    f"momentum (λ = η = γ = 0), F̆ and F̂; fewer where ‖z‖ becomes {RUN_AWAY:g} times what it was"
)
ALLOWED = "allowed: 100 ε × largest κ(Ā)κ(G) on the way × how much a disturbance of θ by 1e-7 grows along the same path"

STATEMENTS: tuple[Statement, ...] = (
    *(
        Statement(
            f"corollary-2-{name}",
            "§10",
            f"Corollary 2: the same path with {change.says}",
            f"{HOW}; {ALLOWED}",
            SPACE,
            partial(corollary_2, name),
            25,
        )
        for name, change in CHANGES.items()
    ),
    Statement(
        "corollary-2-sgd",
        "§10",
        "SGD's paths part, from the same starts",
        f"K-FAC's distance as above over that of SGD (ε = {GRADIENT_DESCENT.learning_rate:g}, Nesterov momentum up to "
        f"{GRADIENT_DESCENT.mu_max:g}) after as many iterations; the largest ratio of the four changes and both "
        f"inverses, of those that rounding may part by less than {TOGETHER:g}; allowed: 1e-3",
        SPACE,
        sgd_drifts,
        10,
    ),
)
