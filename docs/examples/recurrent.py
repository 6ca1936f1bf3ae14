"""
Recurrent networks, with their correlations in time
===================================================

The weights of a recurrent layer are applied at every step, and what they see at one step is correlated with what they
see at the next. K-FAC can take the steps for independent of each other, or for a chain (Martens, Ba & Johnson 2018):
the setting ``time`` says which. The adding problem asks for the sum of the two marked numbers of a sequence.
"""

# %%
# 2000 sequences of 20 numbers in [0, 1], one in each half marked. They differ in length: what lies behind a sequence's
# end is padding, which nothing sees.
import matplotlib.pyplot as plt
import numpy as np

from kfac_ref import KFAC, Batch, Network, glorot_initialisation, preset

rng = np.random.default_rng(0)
N, T = 2000, 20
X = np.stack([rng.random((N, T)), np.zeros((N, T))], axis=2)
marked = np.stack([rng.integers(0, T // 2, N), rng.integers(T // 2, T, N)], axis=1)
X[np.arange(N)[:, None], marked, 1] = 1.0
Y = X[np.arange(N)[:, None], marked, 0].sum(1, keepdims=True)
lengths = rng.integers(marked[:, 1] + 1, T + 1)

# %%
# A layer of 32 tanh units reads the sequence, and a dense one gives the sum from its state at the end.
network = Network.of([{"kind": "recurrent", "out": 32}, {"kind": "dense", "out": 1}], (T, 2), "gaussian")

# %%
# 100 iterations on mini-batches of 500 sequences, from the same start, with each of the three. The squared error of the
# best constant is 1/6.
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for time in ("independent", "symmetric", "stationary"):
    settings = preset("authors", time=time, inverse="block-diagonal", lambda0=1.0, tau1=0.25, tau2=0.25)
    kfac = KFAC(network, settings)
    state, errors, batches = kfac.init(glorot_initialisation(network, seed=0)), [], np.random.default_rng(1)
    for _ in range(100):
        n = batches.choice(N, 500, replace=False)
        state, record = kfac.step(state, Batch(X[n], Y[n], lengths=lengths[n]))
        errors.append(record.error)
    ax.semilogy(errors, label=time)
    print(f"{time:12} squared error {np.mean(errors[-10:]):.4f}")
ax.axhline(1 / 6, color="grey", lw=0.8, ls=":")
ax.set(xlabel="iteration", ylabel="squared error of the mini-batch")
ax.legend(frameon=False)
plt.show()
