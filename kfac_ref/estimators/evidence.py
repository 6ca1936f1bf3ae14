"""How strongly weights are to be held small, as the data have it: MacKay's evidence with K-FAC's Fisher.

With a Gaussian prior of precision β on every weight, and the Laplace approximation of the posterior around θ, the
evidence is largest where (MacKay 1992, *A practical Bayesian framework for backpropagation networks*)

    β ‖θ‖² = γ,  γ = Σ e/(e + β) over the eigenvalues e of N F,

the number of well-determined parameters. Those of a Kronecker block Ā⊗G are the products of the factors' own. With the
Gaussian likelihood, whose variance is 1 here, the data's variance σ² around what is predicted is estimated too, with
N − γ degrees of freedom: the objective divided by σ² is what the prior stands beside, so that α = βσ².
"""

from __future__ import annotations

import numpy as np

from autodiff.arrays import inner, read_scalars, to_numpy
from autodiff.network import Network
from kfac_ref.optimizer import State

AT = 12
"""The iteration after which α is set: when the factors are those of a fit and not of its beginning, and before a fit
that is too close makes errors look small."""
SHARES = {"categorical": 0.1, "bernoulli": 0.1, "gaussian": 0.4}
"""Of the α that the rule gives, by likelihood: it was several times what predicted best on most of the data that it was
tried on."""
BOUNDS = 0.1, 10.0
"""Of α = ηN: beyond them the estimate is believed no more."""


def eta(network: Network, state: State, error: float, cases: int, eta: float) -> float:
    """The ℓ₂ coefficient η that the evidence suggests, from the factors of a training in progress.

    Parameters
    ----------
    network : Network
    state : State
        With factors.
    error : float
        ‖y − E[y|z]‖², mean over cases.
    cases : int
        N.
    eta : float
        The present one.
    """
    assert state.factors is not None
    factors, N, alpha = state.factors.explicit, cases, eta * cases
    determined = 0.0
    for i in range(1, network.layers + 1):
        a, g = (np.linalg.eigvalsh(to_numpy(M)).clip(0) for M in (factors.A[i - 1, i - 1], factors.G[i, i]))
        e = N * np.multiply.outer(a, g)
        determined += float(np.sum(e / (e + alpha))) if alpha > 0 else float(np.count_nonzero(e))
    variance = 1.0
    if network.likelihood.name == "gaussian":
        variance = error / network.sizes[-1] * N / max(N - determined, 0.1 * N)
    (norm,) = read_scalars(inner(state.averaged, state.averaged))
    return float(np.clip(SHARES[network.likelihood.name] * determined * variance / float(norm), *BOUNDS)) / N
