"""kfac-jax's damped inverses, on the gradient: what does each do with λ? Needs kfac-jax."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import jax
import kfac_jax
from jax import Array

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.jax_network import batch, loss, parameters


def preconditioned(case: Case, exact: bool) -> dict[str, Array]:
    """The gradient of the loss, and the same times the inverse."""
    of = loss(case)
    estimator = kfac_jax.BlockDiagonalCurvature(of)
    arguments = (parameters(case), batch(case))
    rng = jax.random.PRNGKey(2015)
    state = estimator.init(rng, arguments, exact_powers_to_cache=None, approx_powers_to_cache=None)
    state = estimator.update_curvature_matrix_estimate(
        state,
        ema_old=0.0,
        ema_new=1.0,
        identity_weight=0.0,
        batch_size=case.X.shape[0],
        rng=rng,
        func_args=arguments,
        estimation_mode="fisher_exact",
    )
    gradient = jax.grad(of)(*arguments)
    product = estimator.multiply_inverse(
        state, gradient, identity_weight=cases.DAMPING, exact_power=exact, use_cached=False, pmap_axis_name=None
    )
    theirs: dict[str, Array] = {}
    for kind, pairs in (("gradient", gradient), ("preconditioned", product)):
        for i, (w, b) in enumerate(pairs, 1):
            theirs |= {f"{kind}_weight_{i}": w, f"{kind}_bias_{i}": b}
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Array]]]:
    """Both its ways, for a loss that is the likelihood's and for one that is twice that."""
    for likelihood, exact in product(("categorical", "gaussian"), (True, False)):
        case = cases.case(likelihood)
        how = "exact" if exact else "factored with pi"
        title = f"kfac-jax inverse: {likelihood}, {how}, damping {cases.DAMPING}"
        yield title, case, preconditioned(case, exact)


if __name__ == "__main__":
    cases.show(found())
