"""
What damping does
=================

The quadratic model of the objective is right near the present parameters alone. Damping holds steps there: little of it
gives long steps along what seem flat directions, much of it short steps along the gradient (§6).
"""

# %%
# A network before training, and the gradient of its objective.
import matplotlib.pyplot as plt
import numpy as np

from autodiff import loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import Network, glorot_initialisation
from kfac_ref.curvature import block_diagonal, damping, factors

rng = np.random.default_rng(0)
X = rng.standard_normal((400, 8))
Y = np.sin(2 * X[:, :1]) * X[:, 1:2]
network = Network([8, 20, 20, 1], "tanh", "gaussian")
theta = glorot_initialisation(network, seed=0)
forward_pass = ForwardPass(network, theta, X)
loss, gradient = loss_and_gradient(forward_pass, Y, eta=0.0)
exact = factors.exact(forward_pass)


def flat(V):
    """All entries in one vector."""
    return np.concatenate([v.ravel() for v in V])


# %%
# F̆⁻¹∇h with γ from 10⁻³ to 10²: its length, its angle to the gradient, and what the whole step does to the objective.
gammas = np.logspace(-3, 2, 26)
lengths, angles, changes = [], [], []
for gamma in gammas:
    Delta = [-u for u in block_diagonal.invert(damping.factorise(exact, gamma)).apply(gradient)]
    d, g = flat(Delta), flat(gradient)
    moved = [W + D for W, D in zip(theta, Delta, strict=True)]
    after, _ = loss_and_gradient(ForwardPass(network, moved, X), Y, eta=0.0)
    lengths.append(np.linalg.norm(d))
    angles.append(np.degrees(np.arccos(-(d @ g) / np.linalg.norm(d) / np.linalg.norm(g))))
    changes.append(after.h - loss.h)
print(f"the best of these γ is {gammas[np.argmin(changes)]:.2g}: h changes by {min(changes):.4f}")

fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
axes[0].loglog(gammas, lengths)
axes[1].semilogx(gammas, angles)
axes[2].semilogx(gammas, changes)
for ax, name in zip(axes, ("length of the step", "degrees from −∇h", "change of h"), strict=True):
    ax.set(xlabel="γ", title=name)
plt.show()
