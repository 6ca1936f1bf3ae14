"""The quadratic model and the step, broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kfac_ref import optimizer
from kfac_ref.curvature import quadratic
from kfac_ref.curvature.block_diagonal import BlockDiagonalInverse
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from tests.validation.theorems.mutations import after, caught_by

PATHS = [f"corollary-2-{name}" for name in ("logistic-tanh", "shifted", "scaled", "whitened")]


@caught_by("alpha-and-mu", "rho")
def model_without_damping(patch):
    """M has F in place of F + (λ+η)I."""
    minimise = quadratic.minimise
    patch.setattr(quadratic, "minimise", lambda products, damping, pick: minimise(products, 0.0, pick))


@caught_by("theorem-1-rescaled", *PATHS)
def model_with_damping(patch):
    """M has 1e-3 I more."""
    minimise = quadratic.minimise
    patch.setattr(quadratic, "minimise", lambda products, damping, pick: minimise(products, damping + 1e-3, pick))


@caught_by("alpha-and-mu", "rho")
def step_uphill(patch):
    """−α."""
    after(patch, quadratic, "minimise", lambda model, *_: replace(model, alpha=-model.alpha))


@caught_by("alpha-and-mu", "conjugate-gradients")
def momentum_uphill(patch):
    """−μ."""
    after(patch, quadratic, "minimise", lambda model, *_: replace(model, mu=-model.mu))


@caught_by("alpha-and-mu", "conjugate-gradients")
def momentum_forgotten(patch):
    """M is minimised along Δ alone."""
    minimise = quadratic.minimise
    patch.setattr(quadratic, "minimise", lambda products, damping, pick: minimise(products, damping, pick[:1]))


@caught_by("alpha-and-mu")
def momentum_of_nothing(patch):
    """μ is 1 where there is no δ₀."""
    after(
        patch, quadratic, "minimise", lambda model, _, __, pick: replace(model, mu=model.mu if len(pick) > 1 else 1.0)
    )


@caught_by("alpha-and-mu", "conjugate-gradients")
def one_direction_after_the_other(patch):
    """α and μ each as if the other direction were not there."""
    minimise = quadratic.minimise

    def apart(products, damping, pick):
        found = [minimise(products, damping, [p]) for p in pick]
        return replace(found[0], mu=found[-1].alpha if len(pick) > 1 else 0.0, change=sum(m.change for m in found))

    patch.setattr(quadratic, "minimise", apart)


@caught_by("theorem-1-rescaled", *PATHS)
def step_of_a_length(patch):
    """α is divided by 1 + ‖δ‖/1000, and a length differs between parameterisations."""
    after(patch, quadratic, "minimise", lambda model, *_: replace(model, alpha=model.alpha / (1 + 1e-3 * model.norm)))


@caught_by("alpha-and-mu", "rho")
def change_without_half(patch):
    """M(δ) − M(0) is ∇hᵀδ."""
    after(patch, quadratic, "minimise", lambda model, *_: replace(model, change=2 * model.change))


@caught_by("alpha-and-mu")
def norm_without_the_angle(patch):
    """‖αΔ‖ + ‖μδ₀‖ in place of ‖αΔ + μδ₀‖."""

    def added(model, products, _, pick):
        lengths = np.sqrt(np.diag(products.dots))[list(pick)]
        return replace(model, norm=float(np.abs([model.alpha, model.mu])[: len(pick)] @ lengths))

    after(patch, quadratic, "minimise", added)


@caught_by("rho")
def rho_inverted(patch):
    """(M(δ) − M(0)) / (h(θ+δ) − h(θ))."""
    after(patch, optimizer, "reduction_ratio", lambda rho, *_: 1 / rho)


@caught_by("corollary-2-sgd", *PATHS)
def steps_along_the_gradient(patch):
    """The inverse is I: gradient descent."""
    for inverse in (BlockDiagonalInverse, BlockTridiagonalInverse):
        patch.setattr(inverse, "apply", lambda self, V: V)


@caught_by(*PATHS)
def factors_in_single_precision(patch):
    """Ā and G are rounded to float32."""

    def rounded(found, *_, **__):
        A, G = ({i: b.astype(np.float32).astype(float) for i, b in blocks.items()} for blocks in (found.A, found.G))
        return replace(found, A=A, G=G)

    after(patch, optimizer.factors, "estimate", rounded)
