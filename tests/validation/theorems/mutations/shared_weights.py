"""Layers with shared weights, broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autodiff.layers.convolution import Convolution
from autodiff.layers.layer import Layer
from autodiff.passes import ForwardPass
from kfac_ref.curvature import factors, fisher
from tests.validation.theorems.mutations import after, caught_by


@caught_by("shared-adjoint", "shared-differences", "shared-fisher")
def forward_mode_is_too_long(patch):
    """Jv is a hundredth too long."""
    after(patch, ForwardPass, "forward_mode", lambda J, *_: 1.01 * J)


@caught_by("expand-exact", "other-not-exact")
def one_kind_of_factors(patch):
    """Reduce is expand, and both are with Ā of twice the size."""
    original = factors._second_moments

    def same(forward_pass, Dz, cases, samples, reach, kinds):
        found = original(forward_pass, Dz, cases, samples, reach, factors.USUAL)
        return found if kinds.sharing == "reduce" else replace(found, A={i: 2 * a for i, a in found.A.items()})

    patch.setattr(factors, "_second_moments", same)


@caught_by("reduce-exact")
def activities_are_summed(patch):
    """Reduce sums the activities over locations, as it does derivatives."""
    original = factors._activities_moment

    def moment(layer, tape, kinds, *args):
        return original(layer, tape, kinds, *args) * (layer.locations**2 if kinds.sharing == "reduce" else 1)

    patch.setattr(factors, "_activities_moment", moment)


@caught_by("expand-is-kfc")
def kfc_forgets_locations(patch):
    """Ω is (1/T) E[Σ āāᵀ], and Γ (1/T) E[Σ ggᵀ]."""

    def forgetful(found, expand, network):
        return replace(found, A=expand.A)

    after(patch, factors, "kfc", forgetful)


@caught_by("one-location")
def moments_of_patches_twice(patch):
    """A convolution's Σ āāᵀ is twice what it is."""
    after(patch, Convolution, "moment", lambda M, *_: 2 * M)


@caught_by("theorem-1-convolution")
def biases_of_convolutions_without_gradient(patch):
    """The last column of a convolution's 𝒟W is 0."""
    after(patch, Convolution, "gradient", lambda D, *_: D * (np.arange(D.shape[-1]) < D.shape[-1] - 1))


@caught_by("shared-monte-carlo")
def monte_carlo_of_more(patch):
    """The estimate of F is half as large again."""
    after(patch, fisher, "monte_carlo", lambda found, *_: replace(found, value=1.5 * found.value))


@caught_by("shared-fisher")
def derivatives_of_cases_are_means(patch):
    """A case's 𝒟W is the mean over locations."""
    after(patch, Layer, "case_gradients", lambda D, layer, *_: D / layer.locations)
