"""Passes, activations, likelihoods and the objective, broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autodiff import arrays, likelihoods, objective, passes
from autodiff.activations import ACTIVATIONS
from autodiff.layers.dense import Dense
from autodiff.likelihoods import LIKELIHOODS, Likelihood
from tests.validation.theorems.mutations import after, caught_by, likelihood
from validation.theorems import differences

THEOREM_1 = [f"theorem-1-affine-{name}" for name in ("block-diagonal", "block-tridiagonal", "full")]


# --- passes ----------------------------------------------------------------------------------------------------------


@caught_by("fisher-dense", "gradient-differences", "forward-mode-differences", "lemma-5", "corollary-3", *THEOREM_1)
def bias_first(patch):
    """The homogeneous coordinate is the first column."""
    patch.setattr("autodiff.layers.dense.append_ones", lambda a: np.concatenate([np.ones((len(a), 1)), a], axis=1))


@caught_by("gradient-differences", "fisher-hessian-of-kl", "lemma-5", *THEOREM_1)
def backward_through_the_bias_column(patch):
    """The backward pass leaves out W's first column, not its last."""

    patch.setattr(Dense, "pull", lambda layer, W, tape, g: g @ W[:, 1:])


@caught_by("gradient-differences", "fisher-products", "corollary-3", "corollary-2-whitened", *THEOREM_1)
def biases_without_gradient(patch):
    """The last column of 𝒟W is 0."""
    after(
        patch,
        passes.ForwardPass,
        "pull_back",
        lambda V, *_: [v * (np.arange(v.shape[-1]) < v.shape[-1] - 1) for v in V],
    )


@caught_by("gradient-differences", "fisher-products", "fisher-hessian-of-kl")
def gradient_is_a_sum(patch):
    """The gradient is summed over cases."""
    after(patch, passes.ForwardPass, "pull_back", lambda V, forward_pass, *_: [v * forward_pass.cases for v in V])


@caught_by("forward-mode-differences", "fisher-gauss-newton", "fisher-kl-distance", "fisher-forms")
def forward_mode_of_the_last_layer_alone(patch):
    """ṡ_ℓ is V_ℓ ā_{ℓ−1}."""

    def forward_mode(network, parameters, activities, directions):
        return np.stack([activities.a[-1] @ v[-1].T for v in directions])

    patch.setattr(passes, "forward_mode", forward_mode)


# --- activations -----------------------------------------------------------------------------------------------------


@caught_by("gradient-differences", "forward-mode-differences", "fisher-dense", "fisher-gauss-newton", "cumulants")
def slope_of_tanh(patch):
    """1 − φ in place of 1 − φ²."""
    patch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], times_slope=lambda a, t: (1 - a) * t))


@caught_by("gradient-differences", "forward-mode-differences", "fisher-monte-carlo", "corollary-2-logistic-tanh")
def slope_of_logistic(patch):
    """φ in place of φ(1 − φ)."""
    patch.setitem(ACTIVATIONS, "logistic", replace(ACTIVATIONS["logistic"], times_slope=lambda a, t: a * t))


@caught_by("gradient-differences", "forward-mode-differences", "exact-for-one-case")
def slope_of_softplus(patch):
    """e^−φ in place of 1 − e^−φ."""
    patch.setitem(ACTIVATIONS, "softplus", replace(ACTIVATIONS["softplus"], times_slope=lambda a, t: np.exp(-a) * t))


@caught_by("gradient-differences", "forward-mode-differences", "corollary-2-logistic-tanh")
def tanh_of_half(patch):
    """tanh(s/2) in place of tanh(s)."""
    patch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], phi=lambda s: np.tanh(s / 2)))


# --- likelihoods -----------------------------------------------------------------------------------------------------


@caught_by("lemma-4", "gradient-differences", "fisher-empirical", "sampled-targets-unbiased", "fisher-hessian-of-kl")
def means_too_small(patch):
    """E[y|z] less 1 %."""
    for name, row in LIKELIHOODS.items():
        likelihood(patch, name, mean=lambda z, row=row: 0.99 * row.mean(z))


@caught_by("gradient-differences", "fisher-empirical", "sampled-targets-unbiased", "running-average")
def derivative_doubled(patch):
    """𝒟z = 2(E[y|z] − y)."""
    patch.setattr(Likelihood, "derivative", lambda self, z, y: 2 * (self.mean(z) - y))


@caught_by("gradient-differences", "rho")
def loss_doubled(patch):
    """The Gaussian's loss alone is ‖y − z‖²."""
    loss = LIKELIHOODS["gaussian"].loss
    likelihood(patch, "gaussian", loss=lambda z, y: 2 * loss(z, y))


@caught_by("fisher-products", "fisher-forms", "fisher-kl-distance", "alpha-and-mu", "rho")
def gaussian_fisher_doubled(patch):
    """F_R = 2I in products."""
    likelihood(patch, "gaussian", fisher_product=lambda z, v: 2 * v)


@caught_by("fisher-dense", "fisher-hessian-of-kl", "kronecker-blocks", "exact-for-linear-models")
def gaussian_root_doubled(patch):
    """B = 2I."""
    likelihood(patch, "gaussian", fisher_root_product=lambda z, v: 2 * v)


@caught_by("fisher-products", "fisher-forms", "fisher-kl-distance", "alpha-and-mu")
def bernoulli_fisher_of_the_mean(patch):
    """p in place of p(1 − p)."""
    likelihood(patch, "bernoulli", fisher_product=lambda z, v: arrays.logistic(z) * v)


@caught_by("fisher-dense", "fisher-hessian-of-kl", "kronecker-blocks", "exact-for-one-case")
def bernoulli_root_without_root(patch):
    """B = p(1 − p) in place of its square root."""
    likelihood(patch, "bernoulli", fisher_root_product=LIKELIHOODS["bernoulli"].fisher_product)


@caught_by("fisher-products", "fisher-forms", "fisher-kl-distance", "alpha-and-mu")
def categorical_fisher_diagonal(patch):
    """diag(p) without ppᵀ."""
    likelihood(patch, "categorical", fisher_product=lambda z, v: likelihoods._softmax(z) * v)


@caught_by("fisher-dense", "fisher-hessian-of-kl", "kronecker-blocks", "exact-for-one-case")
def categorical_root_diagonal(patch):
    """B = diag(√p)."""
    likelihood(patch, "categorical", fisher_root_product=lambda z, v: np.sqrt(likelihoods._softmax(z)) * v)


@caught_by("fisher-monte-carlo", "fisher-standard-error")
def samples_too_wide(patch):
    """The Gaussian's noise times 1.3, and the others' logits doubled."""
    likelihood(patch, "gaussian", sample_with=lambda z, noise: z + 1.3 * noise)
    for name in ("bernoulli", "categorical"):
        sample = LIKELIHOODS[name].sample_with
        likelihood(patch, name, sample_with=lambda z, u, sample=sample: sample(2 * z, u))


@caught_by("fisher-monte-carlo", "fisher-standard-error")
def noise_shared_by_outputs(patch):
    """One number for all outputs of a case."""
    for name in ("bernoulli", "gaussian"):
        sample = LIKELIHOODS[name].sample_with
        shared = lambda z, u, sample=sample: sample(z, np.repeat(u[:, :1], u.shape[1], axis=1))  # noqa: E731
        likelihood(patch, name, sample_with=shared)


# --- the objective ---------------------------------------------------------------------------------------------------


@caught_by("gradient-differences")
def no_weight_decay_in_the_gradient(patch):
    """∇h without ηθ."""
    given = differences.loss_and_gradient

    def without(forward_pass, Y, eta):
        return given(forward_pass, Y, eta)[0], given(forward_pass, Y, 0.0)[1]

    patch.setattr(differences, "loss_and_gradient", without)


@caught_by("gradient-differences", "rho")
def weight_decay_without_half(patch):
    """h has η‖θ‖²."""
    after(patch, objective, "inner", lambda value, *_: 2 * value)
