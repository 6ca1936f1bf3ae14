"""
A convolutional network
=======================

Weights of a convolution are applied at many locations; its factors are KFC's, or with ``sharing="reduce"`` of rows that
are summed over locations first (Eschenhagen et al. 2023).
"""

# %%
# Digits of 8×8 pixels, and a network of a convolution, a pooling and two dense layers.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from autodiff import evaluate, he_initialisation
from kfac_ref import KFAC, Batch, Network, preset

X, labels = load_digits(return_X_y=True)
X, Y = X.reshape(-1, 1, 8, 8) / 16, np.eye(10)[labels]
layers = [
    {"kind": "conv", "out": 8, "kernel": [3, 3], "padding": 1, "activation": "relu"},
    {"kind": "average-pool", "size": [2, 2]},
    {"kind": "flatten"},
    {"kind": "dense", "out": 10},
]
network = Network.of(layers, (1, 8, 8), "categorical")
print(network)

# %%
# 80 iterations on mini-batches of 300, with both kinds of factors; the last 400 digits are held out.
fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for sharing in ("expand", "reduce"):
    kfac = KFAC(network, preset("authors", sharing=sharing, lambda0=1.0, eta=1e-4, inverse="block-diagonal"))
    state, h, rng = kfac.init(he_initialisation(network, seed=0)), [], np.random.default_rng(0)
    for _ in range(80):
        n = rng.choice(len(X) - 400, 300, replace=False)
        state, record = kfac.step(state, Batch(X[n], Y[n]))
        h.append(record.h)
    ax.semilogy(h, label=sharing)
    print(f"{sharing}: error of held-out digits {evaluate(network, state.averaged, X[-400:], Y[-400:]).error:.3f}")
ax.set(xlabel="iteration", ylabel="h of the mini-batch")
ax.legend(frameon=False)
plt.show()
