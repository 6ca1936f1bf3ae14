"""
Train an autoencoder
====================

K-FAC on 4000 small images, which come with the package, and the same images made again from 16 numbers each.
"""

# %%
# Images of 16×16 pixels, and a network that is narrow in the middle.
import matplotlib.pyplot as plt
import numpy as np

from autodiff.passes import forward
from kfac_ref import KFAC, Batch, Network, preset, sparse_initialisation
from kfac_ref.data import datasets
from kfac_ref.machine import at_full_speed

data = datasets.load("fashion16")
images, unseen = data.X.astype(np.float64), data.X_test[:8].astype(np.float64)
network = Network([256, 100, 16, 100, 256], "tanh", "bernoulli")
kfac = KFAC(network, preset("authors", eta=7e-3))
state, errors, rng = kfac.init(sparse_initialisation(network, seed=0)), [], np.random.default_rng(0)

# %%
# 60 iterations on mini-batches of 1000.
with at_full_speed(widest=network.widest):
    for _ in range(60):
        n = rng.choice(len(images), 1000, replace=False)
        state, record = kfac.step(state, Batch(images[n], images[n]))
        errors.append(record.error)
print(f"squared error of a mini-batch: {errors[0]:.1f} at first, {errors[-1]:.1f} at last")

# %%
# Above images that were not used, below what the network makes of them.
z = forward(network, state.averaged, unseen).z
fig, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for (above, below), x, y in zip(axes.T, unseen, network.likelihood.mean(z), strict=True):
    above.imshow(x.reshape(16, 16), cmap="gray")
    below.imshow(y.reshape(16, 16), cmap="gray")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
