"""
The constants, and what λ₀ does
===============================

λ adapts, but slowly: with ω = 19/20 it can fall to 1/36 of what it was in 70 iterations, and no lower. Too large a
λ₀ gives short steps until it has come down. 150 is the paper's, for autoencoders; about 1 is advised for classifiers.
"""

# %%
# A classifier of 1000 small images, from the same start with five λ₀: on the left the objective, on the right λ, which
# is changed every five iterations. Here, with all cases in each batch, the smaller λ₀ is the better.
import matplotlib.pyplot as plt
import numpy as np

from kfac_ref import KFAC, Batch, Network, glorot_initialisation, preset
from kfac_ref.data import datasets

data = datasets.load("fashion16")
batch = Batch(data.X[:1000].astype(np.float64), data.Y[:1000].astype(np.float64))
network = Network([256, 30, 10], "tanh", "categorical")
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for lambda0 in (0.01, 1.0, 10.0, 150.0, 1000.0):
    kfac = KFAC(network, preset("authors", lambda0=lambda0, eta=1e-3, inverse="block-diagonal"))
    state, h, lam = kfac.init(glorot_initialisation(network, seed=0)), [], []
    for _ in range(40):
        state, record = kfac.step(state, batch)
        h.append(record.h)
        lam.append(record.lam)
    axes[0].semilogy(h, label=f"λ₀ = {lambda0:g}")
    axes[1].semilogy(lam)
    print(f"λ₀ = {lambda0:6g}: h after 40 iterations {h[-1]:.3f}, λ {lam[-1]:.3g}")
axes[0].set(xlabel="iteration", ylabel="h")
fig.legend(loc="outside right upper", frameon=False)
axes[1].set(xlabel="iteration", ylabel="λ")
plt.show()
