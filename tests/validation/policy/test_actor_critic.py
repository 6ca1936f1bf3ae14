"""Advantages, gradients and divergences of policies; no environment is needed."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.passes import ForwardPass, forward
from kfac_ref.curvature import fisher
from validation.policy import actor_critic
from validation.policy.actor_critic import DISCOUNT, ENTROPY, SMOOTHING, ActorCritic, Batch, estimates
from validation.policy.environments import Task
from validation.policy.kl import RULES, Comparison
from validation.policy.optimizers import Adam, TrustRegion
from validation.policy.training import Side, steps_until


def test_advantages_by_their_definition() -> None:
    """Σ_l (γλ)^l d_{t+l} up to the end of the episode."""
    rng = np.random.default_rng(0)
    rewards, values, following = rng.standard_normal((3, 7, 2))
    ended, cut = np.zeros((2, 7, 2), bool)
    ended[2, 0] = cut[4, 1] = ended[5, 1] = True
    found = estimates(rewards, values, following, ended, cut)
    for i in range(2):
        for t in range(7):
            expected = 0.0
            for s in range(t, 7):
                bootstrap = 0.0 if ended[s, i] else following[s, i]
                d = rewards[s, i] + DISCOUNT * bootstrap - values[s, i]
                expected += (DISCOUNT * SMOOTHING) ** (s - t) * d
                if ended[s, i] or cut[s, i]:
                    break
            np.testing.assert_allclose(found[t, i], expected, atol=1e-14)


def made(actions: int) -> tuple[ActorCritic, Batch]:
    agent = ActorCritic.of(Task("none", actions, 100), 4, 3)
    agent.theta = [W + 0.1 * np.random.default_rng(1).standard_normal(W.shape) for W in agent.theta]
    rng = np.random.default_rng(2)
    seen = rng.standard_normal((30, 4))
    return agent, Batch(seen, agent.draw(seen), rng.standard_normal(30), rng.standard_normal((30, 1)))


@pytest.mark.parametrize("actions", [3, 0])
def test_policy_gradient_against_differences(actions: int) -> None:
    agent, batch = made(actions)

    def objective(theta: list[np.ndarray]) -> float:
        z = forward(agent.actor, theta, batch.seen).z
        value = batch.advantages * agent.actor.likelihood.nll(z, batch.actions)
        if actions:
            log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            value = value + ENTROPY * np.sum(np.exp(log_p) * log_p, axis=1)
        return float(value.mean())

    gradient = actor_critic.policy_gradient(ForwardPass(agent.actor, agent.theta, batch.seen), batch)
    rng = np.random.default_rng(4)
    for _ in range(5):
        V = [rng.standard_normal(W.shape) for W in agent.theta]
        up, down = ([W + sign * 1e-5 * v for W, v in zip(agent.theta, V, strict=True)] for sign in (1, -1))
        slope = sum(float(np.sum(g * v)) for g, v in zip(gradient, V, strict=True))
        np.testing.assert_allclose(slope, (objective(up) - objective(down)) / 2e-5, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("actions", [3, 0])
def test_a_step_goes_down_and_as_far_as_it_may(actions: int) -> None:
    agent, batch = made(actions)
    policy = ForwardPass(agent.actor, agent.theta, batch.seen)
    gradient = actor_critic.policy_gradient(policy, batch)
    method = TrustRegion(1e-3, eta_max=np.inf)
    after = method.step(policy, gradient)
    step = [a - b for a, b in zip(after, agent.theta, strict=True)]
    assert sum(np.sum(g * d) for g, d in zip(gradient, step, strict=True)) < 0
    np.testing.assert_allclose(fisher.quadratic_forms(policy, [step])[0, 0] / 2, 1e-3, rtol=1e-10)
    assert TrustRegion(1e9, eta_max=0.25).step(policy, gradient)[0].shape == agent.theta[0].shape


def test_what_steps_are_scaled_by_is_compared() -> None:
    """With F itself KL/δ is near 1; every rule has a number for each update; twice the form is half of the KL."""
    agent, batch = made(3)
    comparison = Comparison(1e-5)
    policy, value = (ForwardPass(*x, batch.seen) for x in ((agent.actor, agent.theta), (agent.critic, agent.phi)))
    gradients = actor_critic.policy_gradient(policy, batch), actor_critic.value_gradient(value, batch)
    methods = TrustRegion(1e-5), TrustRegion(1e-5)
    for _ in range(2):
        sides = []
        for passed, gradient, method in zip((policy, value), gradients, methods, strict=True):
            method.step(passed, gradient)
            sides.append(Side(passed, gradient, method))
        comparison(batch, *sides)
    assert all(len(x) == 2 for x in (*comparison.by_rule.values(), *comparison.by_delta.values()))
    exact, _, _, damped, twice, *_, momentum = comparison.by_rule.values()
    np.testing.assert_allclose(exact, 1, atol=0.02)
    np.testing.assert_allclose(np.divide(twice, damped), 0.5, atol=0.02)
    np.testing.assert_allclose(momentum[0], exact[0])
    assert momentum[1] > 3 * exact[1]
    assert len(RULES) == len(comparison.by_rule)


def test_adam_against_its_formulas() -> None:
    agent, batch = made(3)
    policy, method = ForwardPass(agent.actor, agent.theta, batch.seen), Adam(0.01)
    theta, rng = agent.theta, np.random.default_rng(5)
    m = v = 0.0
    for k in range(1, 4):
        gradient = [rng.standard_normal(W.shape) for W in theta]
        g = gradient[0]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        corrected = (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-5 / np.sqrt(1 - 0.999**k))
        np.testing.assert_allclose(method.step(policy, gradient)[0], theta[0] - 0.01 * corrected, atol=1e-14)


def test_the_steps_until_it_is_solved() -> None:
    found = {"steps": [0, 10, 20, 30], "seconds": [0, 1, 2, 3], "returns": [1.0, 4.0, 7.0, 5.0]}
    assert steps_until(found, 4.0) == 10 and steps_until(found, 5.0, "seconds") == 2
    assert steps_until(found, 8.0) == np.inf
