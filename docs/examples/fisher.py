"""
The Fisher and three approximations
===================================

Of a network as small as this the Fisher F is a matrix one can look at. K-FAC's F̃ takes each block for a Kronecker
product of two small factors (§3); F̆ keeps the blocks of the diagonal (§4.2), and F̂ has a block-tridiagonal inverse
(§4.3).
"""

# %%
# A tanh classifier of 300 cases, trained a little.
import matplotlib.pyplot as plt
import numpy as np

from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Network, glorot_initialisation, preset
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, factors, fisher, kronecker_fisher

rng = np.random.default_rng(0)
X = rng.standard_normal((300, 6))
Y = np.eye(4)[2 * (X[:, 0] > 0) + (X[:, 1] * X[:, 2] > 0)]
network = Network([6, 5, 5, 5, 4], "tanh", "categorical")
kfac = KFAC(network, preset("authors", eta=1e-3, lambda0=1.0, tau1=1.0))
state = kfac.init(glorot_initialisation(network, seed=0))
for _ in range(20):
    state, _ = kfac.step(state, Batch(X, Y))

# %%
# F itself, and the factors Ā and G, with the expectation over the model's targets taken exactly. Damping, which makes
# all of them invertible, is in the factors.
forward_pass = ForwardPass(network, state.parameters, X)
F = fisher.dense(forward_pass)
damped = damping.damp(factors.exact(forward_pass), 0.01)
matrices = {
    "F": F,
    "F̃, damped": kronecker_fisher.dense(damped),
    "F̆, damped": kronecker_fisher.dense(block_diagonal.approximate(damped)),
    "F̂, damped": kronecker_fisher.dense(block_tridiagonal.approximate(damped)),
}

# %%
# Absolute values above, on one scale; below those of the inverses (of F + 10⁻⁴ I for F), each on its own scale.
fig, axes = plt.subplots(2, 4, figsize=(9, 5), layout="constrained")
for (name, matrix), (above, below) in zip(matrices.items(), axes.T, strict=True):
    inverse = np.linalg.inv(matrix + (1e-4 * np.eye(len(F)) if name == "F" else 0))
    above.imshow(np.abs(matrix), cmap="gray_r", vmax=np.quantile(np.abs(F), 0.99))
    below.imshow(np.abs(inverse), cmap="gray_r", vmax=np.quantile(np.abs(inverse), 0.99))
    above.set_title(name)
    below.set_title(f"inverse of {name[0:2].strip(',')}")
    print(f"{name:10} distance to F, relative: {np.linalg.norm(matrix - F) / np.linalg.norm(F):.2f}")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
plt.show()
