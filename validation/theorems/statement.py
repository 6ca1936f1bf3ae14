"""What a statement of the paper is here: a check of random instances, and the space that they come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from autodiff import Network
from autodiff.passes import ForwardPass
from kfac_ref.curvature import factors, kronecker_fisher

SEEDS = 50
"""How many seeds are tried for an instance that is admitted."""
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Instance:
    """A network at one point with data, and a seed for what else is random; all in NumPy and float64."""

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    """φ_1 … φ_{ℓ−1}."""
    likelihood: str
    cases: int
    seed: int
    scale: float = 1.0
    """Of θ."""

    @cached_property
    def network(self) -> Network:
        return Network(self.sizes, self.activations, self.likelihood)

    @cached_property
    def parameters(self) -> list[np.ndarray]:
        """θ: normal, of standard deviation scale/√(d_{i−1}+1)."""
        rng = self.rng(0)
        return [self.scale * rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in self.network.shapes]

    @cached_property
    def X(self) -> np.ndarray:
        """Inputs (N, d_0), standard normal."""
        return self.rng(1).standard_normal((self.cases, self.sizes[0]))

    @cached_property
    def Y(self) -> np.ndarray:
        """The data's targets (N, d_ℓ): classes, intensities in [0, 1], or normal."""
        rng, shape = self.rng(2), (self.cases, self.sizes[-1])
        if self.likelihood == "categorical":
            return np.eye(shape[1])[rng.integers(shape[1], size=shape[0])]
        return rng.random(shape) if self.likelihood == "bernoulli" else rng.standard_normal(shape)

    @property
    def forward_pass(self) -> ForwardPass:
        return ForwardPass(self.network, self.parameters, self.X)

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for a purpose: 0 parameters, 1 inputs, 2 targets; those of a statement from 3 on."""
        return np.random.default_rng([self.seed, purpose])


@dataclass(frozen=True)
class Space:
    """Where instances come from; both the command and the Hypothesis tests draw from it."""

    layers: tuple[int, int] = (1, 4)
    width: tuple[int, int] = (1, 5)
    """Of every layer, the input included, save the last where `outputs` is given."""
    outputs: tuple[int, int] | None = None
    cases: tuple[int, int] = (1, 12)
    activations: tuple[str, ...] = ("tanh", "logistic", "softplus", "identity")
    likelihoods: tuple[str, ...] = ("bernoulli", "categorical", "gaussian")
    scale: float = 1.0
    """Of θ: the larger, the more the activations curve, and the farther their factors are from singular."""
    condition: float = math.inf
    """The largest κ(F̃) of an instance, so that what is not damped can be inverted; of the part of F̃ that is not 0
    where the likelihood is categorical. The others are left out."""

    def admits(self, instance: Instance) -> bool:
        """Whether the instance is well-conditioned enough."""
        if self.condition == math.inf:
            return True
        spectrum = np.linalg.eigvalsh(kronecker_fisher.dense(factors.exact(instance.forward_pass)))
        # a number added to all logits, for each column of W_ℓ
        null = instance.sizes[-2] + 1 if instance.likelihood == "categorical" else 0
        return bool(spectrum[-1] <= self.condition * spectrum[null])

    def admitted(self, instance: Instance) -> Instance | None:
        """The instance with the first of SEEDS seeds, from its own on, with which it is admitted; None if there is
        none."""
        seeds = (replace(instance, seed=seed) for seed in range(instance.seed, instance.seed + SEEDS))
        return next(filter(self.admits, seeds), None)

    def random(self, rng: np.random.Generator) -> Instance:
        """An instance that is admitted, each part of it uniform in its range."""
        while (instance := self.admitted(self._any(rng))) is None:
            pass
        return instance

    def _any(self, rng: np.random.Generator) -> Instance:
        def whole(bounds: tuple[int, int]) -> int:
            return int(rng.integers(bounds[0], bounds[1] + 1))

        layers = whole(self.layers)
        sizes = [whole(self.width) for _ in range(layers)] + [whole(self.outputs or self.width)]
        activations = tuple(str(rng.choice(self.activations)) for _ in range(layers - 1))
        likelihood = str(rng.choice(self.likelihoods))
        cases = whole(self.cases)
        seed = int(rng.integers(2**32))
        return Instance(tuple(sizes), activations, likelihood, cases, seed, self.scale)


@dataclass(frozen=True)
class Deviation:
    """How far two ways to compute the same are apart, and how far rounding may put them."""

    value: float
    tolerance: float
    """It grows with the condition numbers involved; the statement says how."""

    @property
    def within(self) -> bool:
        """Whether the statement holds on this instance; not if the deviation is NaN."""
        return self.value <= self.tolerance

    @property
    def ratio(self) -> float:
        """value / tolerance; infinite for NaN, and for a value above a tolerance of 0."""
        if not self.tolerance > 0:
            return 0.0 if self.within else float("inf")
        return self.value / self.tolerance if self.value == self.value else float("inf")


def worst(*deviations: Deviation) -> Deviation:
    """The one closest to its tolerance, or farthest over it, where a statement has several parts."""
    return max(deviations, key=lambda deviation: deviation.ratio)


@dataclass(frozen=True)
class Statement:
    """One row of the table."""

    name: str
    """For the command line and the tests: theorem-1-block-diagonal."""
    section: str
    """§10."""
    says: str
    """The statement, in a line."""
    computed: str
    """What is compared with what, and what the tolerance is, in a line."""
    space: Space
    check: Callable[[Instance], Deviation]
    instances: int = 100
    """How many the command tries."""


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """‖ours − theirs‖ / ‖theirs‖, Frobenius; ‖ours‖ where theirs is 0."""
    size = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs))) / (size if size else 1.0)
