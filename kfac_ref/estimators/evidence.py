"""How strongly weights are to be held small, as the data have it: MacKay's evidence with K-FAC's Fisher.

With a Gaussian prior of precision β on every weight, and the Laplace approximation of the posterior around θ, the
evidence is largest where (MacKay 1992, *A practical Bayesian framework for backpropagation networks*)

    β ‖θ‖² = γ,  γ = Σ e/(e + β) over the eigenvalues e of N F,

the number of well-determined parameters. Those of a Kronecker block Ā⊗G are the products of the factors' own. Of the
targets' variance a fraction σ² is left around what is predicted, with N − γ degrees of freedom. Of the Gaussian
likelihood, whose variance is 1 here and whose targets are standardised, the objective divided by σ² is what the prior
stands beside, so that α = βσ². Classes are treated alike: the fewer of them can be told, the larger is α.
"""

from __future__ import annotations

import numpy as np

from autodiff.arrays import Array, inner, namespace, read_scalars, to_numpy
from autodiff.network import Network
from kfac_ref.optimizer import State

AT = 12
"""The iteration after which α is set: when the factors are those of a fit and not of its beginning, and before a fit
that is too close makes errors look small."""
SHARES = {"categorical": 2.0, "bernoulli": 2.0, "gaussian": 0.4}
"""Of the α that the rule gives, by likelihood: chosen by what predicted best."""
BOUNDS = {"categorical": (1.0, 10.0), "bernoulli": (1.0, 10.0), "gaussian": (0.1, 10.0)}
"""Of α = ηN, by likelihood: beyond them the estimate is believed no more."""
LEAST = 0.1
"""Of N, the fewest degrees of freedom that are believed in."""


def alpha(
    network: Network, state: State, error: float, Y: Array, present: float, weights: Array | None = None
) -> float:
    """α = ηN, η being the ℓ₂ coefficient, that the evidence suggests from the factors of a training in progress.

    Parameters
    ----------
    network : Network
    state : State
        With factors.
    error : float
        ‖y − E[y|z]‖², mean over cases.
    Y : array (N, d_ℓ)
        The targets.
    present : float
        α as it is.
    weights : array (N,), optional
        Of cases; N above is then their sum.
    """
    assert state.factors is not None
    xp = namespace(Y)
    if weights is None:
        N, spread = float(Y.shape[0]), xp.var(Y, axis=0)
    else:
        N = float(xp.sum(weights))
        share = (weights / N)[:, None]
        spread = xp.sum(share * (Y - xp.sum(share * Y, axis=0)) ** 2, axis=0)
    factors = state.factors.explicit
    determined = 0.0
    for i in range(1, network.layers + 1):
        a, g = (np.linalg.eigvalsh(to_numpy(M)).clip(0) for M in (factors.A[i - 1, i - 1], factors.G[i, i]))
        e = N * np.multiply.outer(a, g)
        determined += float(np.sum(e / (e + present))) if present > 0 else float(np.count_nonzero(e))
    norm, variance = (float(x) for x in read_scalars(inner(state.averaged, state.averaged), xp.sum(spread)))
    if variance == 0 or norm == 0:
        return present  # nothing to be learnt, or nothing to be held small
    left = error / variance * N / max(N - determined, LEAST * N)
    name = network.likelihood.name
    return float(np.clip(SHARES[name] * determined * left / norm, *BOUNDS[name]))
