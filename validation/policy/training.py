"""One run: an actor and a critic trained on a task from one seed, and what the policy earns on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.network import Parameters
from autodiff.passes import ForwardPass, forward
from kfac_ref.curvature import trust_region
from validation.policy.actor_critic import ActorCritic, Batch, policy_gradient, value_gradient
from validation.policy.environments import Environments, Task, returns
from validation.policy.optimizers import Adam, TrustRegion

ENVIRONMENTS = 16
"""Side by side."""
EVALUATED_EVERY = 2048
"""Steps of training between evaluations."""
EPISODES = {"CartPole-v1": 100}
"""Of an evaluation, from starts of its own; 20 elsewhere."""


@dataclass(frozen=True)
class Side:
    """The actor's, or the critic's part in an update."""

    forward_pass: ForwardPass
    """With the parameters before the update."""
    gradient: Parameters
    optimizer: TrustRegion | Adam
    """After it."""


Visit = Callable[[Batch, Side, Side], None]


def train(
    task: Task,
    method: str,
    constants: Mapping[str, float],
    seed: int,
    steps: int,
    visit: Visit | None = None,
    until_solved: bool = False,
) -> dict[str, Any]:
    """Train for so many steps of all environments together.

    Parameters
    ----------
    method : "kfac" or "adam"
    constants :
        `horizon`, the steps of each environment between updates, and the optimizers': `delta`, `critic_delta`, `gamma`;
        or `rate`, `critic_rate`.
    visit : function, optional
        Called after each update with the batch, the actor's part and the critic's.

    until_solved : bool
        Whether to end where the task is solved.

    Returns
    -------
    dict
        Of each evaluation `steps`, `seconds` of training and `returns` (mean over the episodes); of each update `kl`,
        the divergence that the actor's step made, and `eta` (NaN for Adam).
    """
    environments = Environments(task, ENVIRONMENTS, seed)
    agent = ActorCritic.of(task, environments.seen.shape[1], seed)
    horizon = int(constants["horizon"])
    actor: TrustRegion | Adam
    critic: TrustRegion | Adam
    if method == "kfac":
        actor = TrustRegion(constants["delta"], constants["gamma"], seed=seed)
        critic = TrustRegion(constants["critic_delta"], constants["gamma"], seed=seed + 1)
    else:
        actor, critic = Adam(constants["rate"]), Adam(constants["critic_rate"])
    found: dict[str, list[float]] = {name: [] for name in ("steps", "seconds", "returns", "kl", "eta")}
    done, evaluated, seconds = 0, 0, 0.0

    def evaluate() -> None:
        episodes = EPISODES.get(task.name, 20)
        earned = returns(task, lambda seen: agent.performed(agent.draw(seen)), episodes, 77_000 + seed)
        for name, value in (("steps", done), ("seconds", seconds), ("returns", earned.mean())):
            found[name].append(float(value))

    evaluate()
    while done < steps:
        start = time.perf_counter()
        batch = agent.play(environments, horizon)
        policy, value = (ForwardPass(*x, batch.seen) for x in ((agent.actor, agent.theta), (agent.critic, agent.phi)))
        gradient, slope = policy_gradient(policy, batch), value_gradient(value, batch)
        agent.theta, agent.phi = actor.step(policy, gradient), critic.step(value, slope)
        done += horizon * ENVIRONMENTS
        seconds += time.perf_counter() - start
        ((_, before),) = policy.chunks()
        kl = trust_region.divergence(agent.actor.likelihood, before.z, forward(agent.actor, agent.theta, batch.seen).z)
        found["kl"].append(float(kl.mean()))
        found["eta"].append(actor.eta if isinstance(actor, TrustRegion) else float("nan"))
        if visit is not None:
            visit(batch, Side(policy, gradient, actor), Side(value, slope, critic))
        if done - evaluated >= EVALUATED_EVERY or done >= steps:
            evaluate()
            evaluated = done
            if until_solved and task.solved is not None and found["returns"][-1] >= task.solved:
                break
    return found


def steps_until(found: Mapping[str, Any], level: float, what: str = "steps") -> float:
    """The steps (or "seconds") at the first evaluation with a mean return of at least `level`; infinite if none."""
    there = np.flatnonzero(np.asarray(found["returns"]) >= level)
    return float(found[what][there[0]]) if len(there) else float("inf")
