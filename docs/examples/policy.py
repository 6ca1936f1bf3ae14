"""
A policy by the natural gradient
================================

K-FAC gives a direction Δ; a step ηΔ changes the policy by a divergence of about ½η² ΔᵀFΔ, which is held at δ (Wu et
al. 2017). That needs F itself, which one forward-mode pass gives.
"""

# %%
# CartPole of gymnasium (``pip install 'kfac-ref[rl]'``), and a network that says how likely each of two actions is.
import gymnasium
import matplotlib.pyplot as plt
import numpy as np

from autodiff.passes import ForwardPass, forward
from kfac_ref import Network, glorot_initialisation
from kfac_ref.curvature import block_diagonal, damping, factors, fisher, targets, trust_region

environment, rng, returns, divergences = gymnasium.make("CartPole-v1"), np.random.default_rng(0), [], []
policy = Network([4, 32, 2], "tanh", "categorical")
theta, delta, gamma = glorot_initialisation(policy, seed=0), 0.02, 0.03


def episode(theta):
    """What was seen, the actions as one-hot rows, and the discounted rewards from there on."""
    seen, actions, (now, _), over = [], [], environment.reset(seed=int(rng.integers(2**31))), []
    while not any(over):
        seen.append(now.astype(np.float64))
        p = policy.likelihood.mean(forward(policy, theta, seen[-1][None, :]).z)[0]
        actions.append(np.eye(2)[int(rng.random() > p[0])])
        now, _, *over, _ = environment.step(int(actions[-1][1]))
    return np.array(seen), np.array(actions), (1 - 0.98 ** np.arange(len(seen), 0, -1)) / (1 - 0.98)


# %%
# 25 steps, each from ten episodes: ∇ of −A log π(a|s), with rewards centred and scaled as A.
for k in range(1, 26):
    played = [episode(theta) for _ in range(10)]
    seen, actions, rewards = map(np.concatenate, zip(*played, strict=True))
    advantages = (rewards - rewards.mean()) / rewards.std()
    forward_pass = ForwardPass(policy, theta, seen)
    ((_, activities),) = forward_pass.chunks()
    Dz = advantages[:, None] * policy.likelihood.derivative(activities.z, actions) / len(seen)
    sample = targets.drawn(forward_pass, len(seen), (0, 2, k))
    F = damping.factorise(factors.estimate(forward_pass, sample, len(seen), tridiagonal=False), gamma)
    Delta = [-u for u in block_diagonal.invert(F).apply(forward_pass.pull_back(activities, Dz))]
    eta = trust_region.step_size(float(fisher.quadratic_forms(forward_pass, [Delta])[0, 0]), delta)
    theta = [W + eta * d for W, d in zip(theta, Delta, strict=True)]
    after = forward(policy, theta, seen).z
    divergences.append(float(trust_region.divergence(policy.likelihood, activities.z, after).mean()))
    returns.append(len(seen) / len(played))
ratio = np.median(divergences) / delta
print(f"return {returns[0]:.0f} at first, {np.mean(returns[-5:]):.0f} at last; KL/δ {ratio:.2f}")

fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
axes[0].plot(returns)
axes[0].set(xlabel="step", ylabel="mean return of ten episodes")
axes[1].semilogy(np.array(divergences) / delta)
axes[1].set(xlabel="step", ylabel="KL made / δ asked for")
plt.show()
