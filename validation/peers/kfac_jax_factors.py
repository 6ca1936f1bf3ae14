"""kfac-jax's Kronecker factors: is it the Fisher's, and on which scale? Needs kfac-jax."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import jax
import kfac_jax
from jax import Array

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.jax_network import batch, loss, parameters

SAMPLES = {"fisher_exact": 1, "fisher_empirical": 1, "fisher_gradients": 100, "fisher_curvature_prop": 100}


def factors(case: Case, mode: str) -> dict[str, Array]:
    """Its factors after one update."""
    estimator = kfac_jax.BlockDiagonalCurvature(loss(case), num_samples=SAMPLES[mode])
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
        estimation_mode=mode,
    )
    theirs: dict[str, Array] = {}
    for indices, block in zip(estimator.jaxpr.layer_indices, state.blocks_states, strict=True):
        i = indices[0] // 2  # the parameters are weight, bias, weight, bias, …
        theirs[f"A_{i}"], theirs[f"G_{i + 1}"] = (factor.value for factor in block.factors)
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Array]]]:
    """Its ways to estimate, on each likelihood."""
    for likelihood, mode in product(("categorical", "bernoulli", "gaussian"), SAMPLES):
        case = cases.case(likelihood)
        yield f"kfac-jax factors: {likelihood}, {mode}, samples: {SAMPLES[mode]}", case, factors(case, mode)


if __name__ == "__main__":
    cases.show(found())
