"""
Which training cases made the network say that?
===============================================

Influence functions (Grosse et al. 2023) say to first order what leaving out a training case would do to the loss of
another case: s = ∇L_qᵀ (F + λI)⁻¹ ∇L_n, with EKFAC's approximation of the Fisher F. No network is trained again.
"""

# %%
# 1000 small images of ten kinds of clothes, and a network that K-FAC has trained on them for 40 iterations.
import matplotlib.pyplot as plt
import numpy as np

from autodiff.passes import forward
from kfac_ref import KFAC, Batch, Network, glorot_initialisation, preset
from kfac_ref.data import datasets
from kfac_ref.influence import Influence

clothes = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
data = datasets.load("fashion16")
X, Y, X_test, Y_test = (x.astype(np.float64) for x in (data.X[:1000], data.Y[:1000], data.X_test, data.Y_test))
network = Network([256, 40, 10], "tanh", "categorical")
kfac = KFAC(network, preset("authors", eta=1e-3, lambda0=1.0, tau1=1.0))
state = kfac.init(glorot_initialisation(network, seed=0))
for _ in range(40):
    state, _ = kfac.step(state, Batch(X, Y))

# %%
# Of the test cases that it mistakes, the surest: scores of all training cases for it, layers summed, over N.
z = forward(network, state.parameters, X_test).z
wrong = z.argmax(1) != Y_test.argmax(1)
query = int(np.argmax(np.where(wrong, network.likelihood.nll(z, Y_test), 0)))
influence = Influence(network, state.parameters, X, Y)
change = influence.on(X_test[[query]], Y_test[[query]]).sum(axis=0)[0] / len(X)
order = np.argsort(-change)

# %%
# Without the cases in the upper row its loss would be higher; those in the lower row have misled the network.
fig, axes = plt.subplots(2, 6, figsize=(8, 3.4), layout="constrained")
for row, what, cases in zip(axes, ("helps", "harms"), (order[:5], order[:-6:-1]), strict=True):
    for ax, n in zip(row[1:], cases, strict=True):
        ax.imshow(X[n].reshape(16, 16), cmap="gray")
        ax.set_title(f"{clothes[Y[n].argmax()]}\n{change[n]:+.2f}", fontsize=8)
    print(f"{what}:", ", ".join(f"{clothes[Y[n].argmax()]} {n}" for n in cases))
axes[0, 0].imshow(X_test[query].reshape(16, 16), cmap="gray")
axes[0, 0].set_title(f"{clothes[Y_test[query].argmax()]}, taken\nfor {clothes[z[query].argmax()]}", fontsize=8)
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
