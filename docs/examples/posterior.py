"""
What a network does not know
============================

Around trained parameters the posterior is nearly Gaussian, and K-FAC's factors say how wide: that is Laplace's
approximation (Ritter et al. 2018). Its evidence chooses the prior and the noise; its predictions have error bars.
"""

# %%
# Two clusters of noisy cases, and a tanh network trained by K-FAC on all of them at once.
import matplotlib.pyplot as plt
import numpy as np

from kfac_ref import KFAC, Batch, Network, glorot_initialisation, posterior, preset

rng = np.random.default_rng(2)
X = np.concatenate([rng.uniform(-1.6, -0.5, 40), rng.uniform(0.5, 1.6, 40)])[:, None]
Y = np.sin(3 * X) + 0.1 * rng.standard_normal(X.shape)
network = Network([1, 30, 30, 1], "tanh", "gaussian")
kfac = KFAC(network, preset("authors", eta=1e-3, lambda0=1.0, inverse="block-diagonal", tau1=1.0))
state = kfac.init(glorot_initialisation(network, seed=0))
for _ in range(200):
    state, record = kfac.step(state, Batch(X, Y))

# %%
# The posterior, with the prior precision and the noise at which the evidence is largest.
laplace = posterior.most_evident(posterior.fit(network, state.parameters, X, Y), noise=True)
print(f"log evidence {posterior.log_evidence(laplace):.1f}, prior precision {laplace.prior_precision:.2f}")
print(f"noise {laplace.noise_variance**0.5:.3f}, and 0.1 is true")

# %%
# Outputs of the network, linearised in its parameters, are Gaussian: mean and exact variance. Ten functions drawn from
# the posterior are beside them.
x = np.linspace(-3, 3, 201)[:, None]
predicted = posterior.outputs(laplace, x)
z, deviation = predicted.z[:, 0], np.sqrt(predicted.variance[:, 0] + laplace.noise_variance)
functions = posterior.sampled_outputs(laplace, x, samples=10, key=(0,))
inside, outside = deviation[np.abs(x[:, 0]) < 1.6].mean(), deviation[np.abs(x[:, 0]) > 2.5].mean()
print(f"standard deviation of a target: {inside:.2f} among the cases, {outside:.2f} far from them")

# %%
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.fill_between(x[:, 0], z - 2 * deviation, z + 2 * deviation, color="#c9d9ec", lw=0, label="two standard deviations")
ax.plot(x, functions[:, :, 0].T, color="#1f5fa8", lw=0.5, alpha=0.6)
ax.plot(x, z, color="#1f5fa8", lw=1.8, label="network")
ax.plot(X, Y, ".", color="#222222", label="cases")
ax.set(xlabel="x", ylim=(-4, 4))
ax.legend(frameon=False)
plt.show()
