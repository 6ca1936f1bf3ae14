"""The Kronecker-factored Laplace approximation: a Gaussian around trained parameters (Ritter et al. 2018).

N cases and a Gaussian prior of precision λ₀ on each parameter give the log posterior −Σ_n L_n/σ² − ½ λ₀‖θ‖² (σ² is the
Gaussian likelihood's noise variance, 1 for the others). Around its maximum its curvature is taken to be that of F̆,
layer by layer, so that vec(W_i) has the covariance

    exact:     (β Ā⊗G + λ₀ I)⁻¹, β = N/σ²                       by the factors' eigenvectors,
    factored:  [(√β Ā + √λ₀ I) ⊗ (√β G + √λ₀ I)]⁻¹              Ritter et al.'s: too small a covariance,
    tikhonov:  [(√β Ā + π√λ₀ I) ⊗ (√β G + √λ₀/π I)]⁻¹           with the π of §6.3: noisy K-FAC's.

A layer with a full block B has (β B + λ₀ I)⁻¹ in all three. Training with the ℓ₂ coefficient η of h, which is a mean
over cases, is training with λ₀ = ηN/σ². Of shared weights Ā and G are expand's or reduce's; only "factored" depends on
how T is divided between them, which is as in `factors`. The steps of a recurrent layer are taken for independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autodiff import arrays
from autodiff.arrays import Array, device, namespace, read_scalars
from autodiff.names import closest
from autodiff.network import Network, Parameters
from autodiff.objective import check_weights, loss, require_sound
from autodiff.passes import CHUNK_SIZE, ForwardPass
from kfac_ref.curvature import ekfac, factors, targets
from kfac_ref.curvature.damping import pi
from kfac_ref.curvature.ekfac import Eigenbasis
from kfac_ref.curvature.factors import USUAL, Factors, Kinds

FISHERS = ("exact", "sampled", "empirical")
"""The distribution of the targets in G: the model's own, taken exactly or one drawn for each case; or the data's."""
DAMPINGS = ("exact", "factored", "tikhonov")
"""How λ₀ I is added to β Ā⊗G."""
LAYERS = ("all", "last")
LAPLACE_TARGETS = 5
"""Purpose of a random key; see `optimizer.SAMPLED_TARGETS`."""


@dataclass(frozen=True)
class Posterior:
    """A Gaussian over θ, its covariance block-diagonal by layers (Ritter et al. 2018); what is not in it is certain.

    ValueError for an unknown damping, or where a number is not positive or a noise variance is of a likelihood without.
    """

    network: Network
    mean: Parameters
    """θ where it was made: W_1 … W_ℓ."""
    basis: Eigenbasis
    """Of the factors of the uncertain layers, in their order."""
    first: int
    """The first uncertain layer, 1 … ℓ; those after it are uncertain too."""
    cases: float
    """N, or the sum of the cases' weights."""
    loss: float
    """Σ_n L_n at the mean, without constants; NaN where it is not known, and then there is no evidence."""
    prior_precision: float
    """λ₀."""
    noise_variance: float = 1.0
    """σ²."""
    damping: str = "exact"
    """One of DAMPINGS."""

    def __post_init__(self) -> None:
        closest(self.damping, DAMPINGS, "damping of the posterior")
        for name, value in (("prior_precision", self.prior_precision), ("noise_variance", self.noise_variance)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite; got {value!r}")
        if self.noise_variance != 1 and self.network.likelihood.name != "gaussian":
            raise ValueError(
                f"noise_variance is {self.noise_variance!r}, but only the gaussian likelihood has one, "
                f"and this is the {self.network.likelihood.name} one"
            )

    def variances(self) -> list[Array]:
        """The covariance's eigenvalues along U_A⊗U_G, of each uncertain layer as a matrix (d_i, d_{i−1}+1); of a full
        block (P_i,)."""
        return [1 / h for h in precisions(self)]

    def covariance_product(self, V: Parameters) -> Parameters:
        """ΣV for V of the shapes of the uncertain layers' weights."""
        return ekfac.product(self.basis, self.variances(), V)

    def sample(self, samples: int, key: Sequence[int]) -> list[Parameters]:
        """θ drawn `samples` times with a random key (see autodiff.arrays): W_i + Σ_i^½ E, E standard normal; ValueError
        if `samples` is less than 1."""
        if samples < 1:
            raise ValueError(f"samples must be at least 1; got {samples}")
        return [
            [*self.mean[: self.first - 1], *(W + d for W, d in zip(self._uncertain, deviation, strict=True))]
            for deviation in self.deviations(samples, key)
        ]

    def deviations(self, samples: int, key: Sequence[int]) -> list[Parameters]:
        """What `sample` adds to the uncertain layers' weights."""
        roots = [namespace(v).sqrt(v) for v in self.variances()]
        found = []
        for s in range(samples):
            E = [arrays.normal((*key, s, i), tuple(W.shape), W) for i, W in enumerate(self._uncertain)]
            found.append(ekfac.product(self.basis, roots, E))
        return found

    def with_prior(self, prior_precision: float, noise_variance: float | None = None) -> Posterior:
        """The same curvature with another λ₀, and σ² if it is given; the mean stays where it was."""
        noise = self.noise_variance if noise_variance is None else noise_variance
        return replace(self, prior_precision=prior_precision, noise_variance=noise)

    @property
    def _uncertain(self) -> Parameters:
        return self.mean[self.first - 1 :]


def precisions(posterior: Posterior) -> list[Array]:
    """The eigenvalues of the posterior's precision along U_A⊗U_G, of the shapes of `Posterior.variances`, which are
    their reciprocals (Ritter et al. 2018)."""
    p, lam = posterior, posterior.prior_precision
    beta = p.cases / p.noise_variance
    root, shift = math.sqrt(beta), math.sqrt(lam)
    found = []
    for a, g in zip(p.basis.s_A, p.basis.s_G, strict=True):
        g = arrays.positive_part(g)  # rounding may have left an eigenvalue of 0 below it
        if a is None:
            found.append(beta * g + lam)
            continue
        a = arrays.positive_part(a)
        if p.damping == "exact":
            found.append(beta * (g[:, None] * a[None, :]) + lam)
        else:
            ratio = 1.0 if p.damping == "factored" else pi(_diagonal(a), _diagonal(g))
            found.append((root * g + shift / ratio)[:, None] * (root * a + shift * ratio)[None, :])
    return found


def _diagonal(s: Array) -> Array:
    return namespace(s).eye(s.shape[0], dtype=s.dtype, device=device(s)) * s


def from_factors(
    network: Network,
    parameters: Parameters,
    found: Factors,
    cases: float,
    total_loss: float,
    prior_precision: float,
    *,
    layers: str = "all",
    damping: str = "exact",
    noise_variance: float = 1.0,
) -> Posterior:
    """The posterior around `parameters` from factors that are there: means over `cases` cases, whose losses sum to
    `total_loss`. The rest is as of `fit` (Ritter et al. 2018)."""
    closest(layers, LAYERS, "choice of uncertain layers")
    first = 1 if layers == "all" else network.layers
    basis = ekfac.eigenbasis(found.part(first, network.layers))
    mean = list(parameters)
    return Posterior(network, mean, basis, first, cases, total_loss, float(prior_precision), noise_variance, damping)


def fit(
    network: Network,
    parameters: Parameters,
    X: Array,
    Y: Array,
    prior_precision: float = 1.0,
    *,
    fisher: str = "exact",
    layers: str = "all",
    damping: str = "exact",
    noise_variance: float = 1.0,
    kinds: Kinds = USUAL,
    weights: Array | None = None,
    key: Sequence[int] = (0, LAPLACE_TARGETS),
    chunk_size: int = CHUNK_SIZE,
) -> Posterior:
    """The Kronecker-factored Laplace approximation at trained parameters (Ritter et al. 2018).

    Parameters
    ----------
    network : Network
    parameters : list of array
        W_1 … W_ℓ.
    X, Y : array
        All training cases, (N, d_0) or (N, *input), and their targets (N, d_ℓ).
    prior_precision : float
        λ₀ > 0, which N η of training with ℓ₂ coefficient η is.
    fisher : {"exact", "sampled", "empirical"}
        Of which targets G is made; "sampled" draws one for each case, with the random `key`.
    layers : {"all", "last"}
        Which are uncertain.
    damping : {"exact", "factored", "tikhonov"}
        See above.
    noise_variance : float
        σ² of the Gaussian likelihood.
    kinds : Kinds
        Of factors of layers with shared weights, and of full blocks.
    weights : array (N,), optional
        Of cases; N is then their sum.

    Raises
    ------
    ValueError, TypeError
        Where arrays do not fit the network or each other, X or Y is not finite or out of range, a name is unknown, or a
        precision or variance is not positive.
    """
    closest(fisher, FISHERS, "Fisher")
    network.check_parameters(parameters)
    network.check_batch(X, Y, parameters[0])
    check_weights(weights, X.shape[0], parameters[0])
    forward_pass = ForwardPass(network, parameters, X, chunk_size, weights)
    value = loss(forward_pass, Y, 0.0)
    h, excess = (float(x) for x in read_scalars(value.h, value.excess))
    require_sound(network.likelihood, X, Y, h, excess)
    if fisher == "exact":
        found = factors.exact(forward_pass, kinds, reach=1)
    elif fisher == "empirical":
        found = factors.empirical(forward_pass, Y, kinds, reach=1)
    else:
        N = forward_pass.cases
        found = factors.estimate(forward_pass, targets.drawn(forward_pass, N, key), N, False, kinds)
    total = float(forward_pass.total())
    return from_factors(
        *(network, parameters, found, total, h * total, prior_precision),
        layers=layers,
        damping=damping,
        noise_variance=noise_variance,
    )
