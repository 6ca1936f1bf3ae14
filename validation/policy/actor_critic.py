"""An actor and a critic: what they do in environments, advantages, and the gradients of the two (A2C)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autodiff import Network, glorot_initialisation
from autodiff.network import Parameters
from autodiff.passes import ForwardPass, forward
from validation.policy.environments import Environments, Task

HIDDEN = (64, 64)
DISCOUNT, SMOOTHING = 0.99, 0.95
"""γ of returns, and λ of generalised advantage estimates (Schulman et al. 2016)."""
ENTROPY = 0.01
"""What a unit of entropy is worth to a policy that chooses among actions."""


@dataclass(frozen=True)
class Batch:
    """What was done and came of it, (m, …)."""

    seen: np.ndarray
    actions: np.ndarray
    """One-hot (m, actions), or in units of the spread (m, 1)."""
    advantages: np.ndarray
    """(m,), mean 0 and variance 1."""
    targets: np.ndarray
    """Of the critic, (m, 1), in its units."""


@dataclass
class ActorCritic:
    """Two networks of the same hidden layers: z of the policy's distribution, and the value of what is seen."""

    task: Task
    actor: Network
    critic: Network
    theta: Parameters
    """The actor's parameters."""
    phi: Parameters
    """The critic's."""
    rng: np.random.Generator

    @classmethod
    def of(cls, task: Task, inputs: int, seed: int) -> ActorCritic:
        """With initial parameters that the seed gives; the actor's last layer small, so that it begins undecided."""
        likelihood = "categorical" if task.actions else "gaussian"
        actor = Network([inputs, *HIDDEN, task.actions or 1], "tanh", likelihood)
        critic = Network([inputs, *HIDDEN, 1], "tanh", "gaussian")
        theta, phi = glorot_initialisation(actor, seed), glorot_initialisation(critic, seed + 10_000)
        theta[-1], phi[-1] = 0.01 * theta[-1], 0.01 * phi[-1]
        return cls(task, actor, critic, theta, phi, np.random.default_rng([seed, 7]))

    def draw(self, seen: np.ndarray) -> np.ndarray:
        """Actions drawn from the policy, as targets of its network."""
        likelihood, z = self.actor.likelihood, forward(self.actor, self.theta, seen).z
        key = [int(k) for k in self.rng.integers(2**32, size=2)]
        return likelihood.sample(z, key)

    def performed(self, drawn: np.ndarray) -> np.ndarray:
        """Actions as the environment takes them."""
        if self.task.actions:
            return drawn.argmax(axis=1)
        return np.clip(self.task.spread * drawn, -2.0, 2.0).astype(np.float32)

    def values(self, seen: np.ndarray) -> np.ndarray:
        """What the critic makes of it, (m,), in the units of its targets: 1/(1 − γ) of a reward."""
        return forward(self.critic, self.phi, seen).z[:, 0]

    def play(self, environments: Environments, steps: int) -> Batch:
        """So many steps in each environment."""
        steps_made = []
        for _ in range(steps):
            now = environments.seen.copy()
            drawn = self.draw(now)
            steps_made.append((now, drawn, *environments.step(self.performed(drawn))))
        seen, actions, rewards, after, ended, cut = (np.array(x) for x in zip(*steps_made, strict=True))
        values, following = (self.values(x.reshape(-1, x.shape[-1])).reshape(x.shape[:2]) for x in (seen, after))
        scaled = (1 - DISCOUNT) * self.task.scale * rewards
        advantages = estimates(scaled, values, following, ended, cut)
        targets = (advantages + values).reshape(-1, 1)
        flat = advantages.ravel()
        flat = (flat - flat.mean()) / (flat.std() + 1e-8)
        return Batch(seen.reshape(len(flat), -1), actions.reshape(len(flat), -1), flat, targets)


def estimates(
    rewards: np.ndarray, values: np.ndarray, following: np.ndarray, ended: np.ndarray, cut: np.ndarray
) -> np.ndarray:
    """Generalised advantages, all arguments (steps, environments): Σ_l (γλ)^l d_{t+l} within the episode,
    d_t = r_t + γ V(s_{t+1}) − V(s_t), with V = 0 where the episode ended and not where it was only cut short."""
    differences = rewards + DISCOUNT * following * ~ended - values
    total, found = np.zeros(rewards.shape[1]), np.empty_like(rewards)
    for t in reversed(range(len(rewards))):
        total = differences[t] + DISCOUNT * SMOOTHING * total * ~(ended[t] | cut[t])
        found[t] = total
    return found


def policy_gradient(forward_pass: ForwardPass, batch: Batch) -> Parameters:
    """∇ of the mean of −A log π(a|s) − c H(π), the entropy H where there are actions to choose from."""
    ((_, activities),) = forward_pass.chunks()
    likelihood, z = forward_pass.network.likelihood, activities.z
    Dz = batch.advantages[:, None] * likelihood.derivative(z, batch.actions)
    if likelihood.name == "categorical":
        p = likelihood.mean(z)
        log_p = np.log(np.maximum(p, 1e-300))
        Dz += ENTROPY * p * (log_p - np.sum(p * log_p, axis=1, keepdims=True))
    return forward_pass.pull_back(activities, Dz / len(z))


def value_gradient(forward_pass: ForwardPass, batch: Batch) -> Parameters:
    """∇ of the mean of ½(V(s) − target)²."""
    ((_, activities),) = forward_pass.chunks()
    Dz = forward_pass.network.likelihood.derivative(activities.z, batch.targets)
    return forward_pass.pull_back(activities, Dz / len(Dz))
