"""
What re-scaling does
====================

The direction that the approximate Fisher gives is multiplied by α, at which the quadratic model with the exact Fisher
is least (§6.4). Without it one has to hope that the approximation has the right size.
"""

# %%
# A network before training, and directions F̆⁻¹∇h with three strengths of damping.
import matplotlib.pyplot as plt
import numpy as np

from autodiff import loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import Network, glorot_initialisation
from kfac_ref.curvature import block_diagonal, damping, factors, fisher

rng = np.random.default_rng(0)
X = rng.standard_normal((400, 8))
Y = np.eye(3)[(X[:, 0] > 0).astype(int) + (X[:, 1] * X[:, 2] > 0)]
network = Network([8, 20, 20, 3], "tanh", "categorical")
theta = glorot_initialisation(network, seed=0)
forward_pass = ForwardPass(network, theta, X)
loss, gradient = loss_and_gradient(forward_pass, Y, eta=0.0)
exact = factors.exact(forward_pass)

# %%
# Along each, the objective at θ + tΔ, and the model's h + t∇hᵀΔ + ½t²Δᵀ(F + λI)Δ with λ = γ²; α is where that is least.
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, gamma in zip(axes, (0.03, 0.1, 0.5), strict=True):
    Delta = [-u for u in block_diagonal.invert(damping.factorise(exact, gamma)).apply(gradient)]
    slope = sum(float((g * D).sum()) for g, D in zip(gradient, Delta, strict=True))
    length2 = sum(float((D * D).sum()) for D in Delta)
    curvature = float(fisher.quadratic_forms(forward_pass, [Delta])[0, 0]) + gamma**2 * length2
    alpha = -slope / curvature
    t = np.linspace(0, max(2 * alpha, 1.2), 60)
    h = []
    for s in t:
        moved = [W + s * D for W, D in zip(theta, Delta, strict=True)]
        h.append(loss_and_gradient(ForwardPass(network, moved, X), Y, eta=0.0)[0].h)
    ax.plot(t, h, label="h")
    ax.plot(t, loss.h + slope * t + curvature * t**2 / 2, ls="--", label="model")
    ax.axvline(alpha, color="grey", lw=0.8, label="α")
    ax.axvline(1.0, color="grey", lw=0.8, ls=":", label="without")
    ax.set(xlabel="t", title=f"γ = {gamma:g}", ylim=(min(*h, loss.h + slope * alpha / 2) - 0.05, loss.h + 0.15))
    print(f"γ = {gamma:4g}: α = {alpha:.2f}")
axes[2].legend(frameon=False)
plt.show()
