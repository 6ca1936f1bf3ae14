"""The Fisher, its factors, estimates and cumulants, broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kfac_ref.curvature import block_diagonal, cotangents, cumulants, factors, fisher, kronecker_fisher
from kfac_ref.curvature.factors import Factors
from tests.validation.theorems.mutations import after, caught_by, transposed

EXACT = ["exact-for-one-case", "exact-for-linear-networks", "exact-for-linear-models"]

# --- which y ---------------------------------------------------------------------------------------------------------


def _one_target(forward_pass):
    """𝒟z with the same y for all cases."""

    def given(rows, z):
        y = np.zeros_like(z)
        y[:, 0] = 1
        yield forward_pass.network.likelihood.derivative(z, y)[None]

    return given


@caught_by("fisher-dense", "fisher-hessian-of-kl", "kronecker-blocks", "damped-factors", "cumulants", *EXACT)
def empirical_for_exact(patch):
    """The Fisher and the factors are of given targets: empirical ones."""
    patch.setattr(cotangents, "exact", _one_target)


@caught_by("fisher-empirical")
def exact_for_empirical(patch):
    """The empirical Fisher is the Fisher."""
    patch.setattr(cotangents, "empirical", lambda forward_pass, Y: cotangents.exact(forward_pass))


@caught_by("fisher-monte-carlo", "fisher-standard-error", "neighbours-sampled")
def empirical_for_sampled(patch):
    """What should be drawn from the model is given."""

    def sampled(forward_pass, samples, key):
        def draws(rows, z):
            (Dz,) = _one_target(forward_pass)(rows, z)
            yield np.repeat(Dz, samples, axis=0)

        return draws

    patch.setattr(cotangents, "sampled", sampled)


@caught_by("sampled-targets-unbiased", "running-average")
def targets_of_other_cases(patch):
    """Targets rolled by a case, and within [0.1, 0.9], where there is only one."""
    estimate = factors.estimate

    def other(forward_pass, sample, cases, tridiagonal):
        return estimate(
            forward_pass, lambda rows, z: np.clip(np.roll(sample(rows, z), 1, axis=0), 0.1, 0.9), cases, tridiagonal
        )

    patch.setattr(factors, "estimate", other)


# --- means -----------------------------------------------------------------------------------------------------------


@caught_by("kronecker-blocks", "running-average", "exact-for-linear-models", "block-diagonal-inverse")
def factors_are_sums(patch):
    """Ā and G are sums over cases."""
    add = factors._add
    patch.setattr(factors, "_add", lambda blocks, index, total, count: add(blocks, index, total, 1))


@caught_by("running-average")
def factors_over_the_whole_batch(patch):
    """The first cases' sums are divided by the number of all."""

    def scaled(found, forward_pass, Dz, cases, *_, **__):
        A, G = ({i: b * cases / forward_pass.cases for i, b in blocks.items()} for blocks in (found.A, found.G))
        return Factors(A, G)

    after(patch, factors, "_second_moments", scaled)


@caught_by("fisher-forms", "alpha-and-mu")
def forms_of_all_cases(patch):
    """τ₂ has no effect."""
    forms = fisher.quadratic_forms
    patch.setattr(
        fisher, "quadratic_forms", lambda forward_pass, directions, cases=None: forms(forward_pass, directions)
    )


@caught_by("fisher-products", "fisher-forms", "fisher-empirical")
def products_are_sums(patch):
    """Fv is summed over cases."""
    after(patch, fisher, "_products", lambda found, forward_pass, directions, cases, _: [V * cases for V in found])


@caught_by("running-average")
def averaging_a_step_late(patch):
    """ε = 1 − 1/(k+1)."""
    patch.setattr(factors, "averaging_weight", lambda k, epsilon_max: min(1 - 1 / (k + 1), epsilon_max))


@caught_by("running-average")
def averaging_at_its_largest(patch):
    """ε = 0.95 from the start."""
    patch.setattr(factors, "averaging_weight", lambda k, epsilon_max: epsilon_max)


@caught_by("running-average")
def averaging_the_wrong_way(patch):
    """ε of the new, 1 − ε of the old."""
    average = factors.running_average
    patch.setattr(factors, "running_average", lambda old, new, epsilon: average(old, new, 1 - epsilon))


# --- blocks ----------------------------------------------------------------------------------------------------------


@caught_by("kronecker-blocks", "kronecker-inverse")
def lower_blocks_not_transposed(patch):
    """Ā_{j,i} is Ā_{i,j}."""

    def mirrored(upper):
        return upper | {(j, i): transposed(block.T) for (i, j), block in upper.items() if i != j}

    patch.setattr(factors, "mirrored", mirrored)


@caught_by("kronecker-blocks", "kronecker-inverse", "exact-for-linear-networks", "tridiagonal-blocks")
def dense_without_what_is_off_the_diagonal(patch):
    """F̃ is F̆."""
    dense = kronecker_fisher.dense
    patch.setattr(kronecker_fisher, "dense", lambda found: dense(block_diagonal.approximate(found)))


@caught_by("kronecker-inverse", "inverse-covariance")
def inverse_without_what_is_off_the_diagonal(patch):
    """F̃⁻¹ is F̆⁻¹."""
    invert = kronecker_fisher.invert
    patch.setattr(kronecker_fisher, "invert", lambda found: invert(block_diagonal.approximate(found)))


# --- Monte Carlo, cumulants -------------------------------------------------------------------------------------------


@caught_by("fisher-monte-carlo")
def sampled_factors_summed_over_draws(patch):
    """G is not divided by the number of draws."""

    def summed(found, forward_pass, samples, key):
        return Factors(found.A, {index: samples * block for index, block in found.G.items()})

    after(patch, factors, "sampled", summed)


@caught_by("fisher-standard-error")
def standard_error_of_one_draw(patch):
    """The standard deviation of a draw."""
    after(
        patch,
        fisher,
        "monte_carlo",
        lambda found, forward_pass, samples, *_: replace(found, standard_error=found.standard_error * samples**0.5),
    )


@caught_by("fisher-standard-error")
def standard_error_of_one_case(patch):
    """The mean over cases has the variance of one of them."""
    after(
        patch,
        fisher,
        "monte_carlo",
        lambda found, forward_pass, *_: replace(found, standard_error=found.standard_error * forward_pass.cases**0.5),
    )


@caught_by("cumulants")
def cumulants_swapped(patch):
    """The second term in the place of the third."""
    after(patch, cumulants, "kronecker_error", lambda found, *_: replace(found, first=found.second, second=found.first))


@caught_by("cumulants")
def fourth_moment_for_the_fourth_cumulant(patch):
    """The other two terms are left in the first."""
    after(
        patch,
        cumulants,
        "kronecker_error",
        lambda found, *_: replace(found, fourth=found.fourth + found.first + found.second),
    )
