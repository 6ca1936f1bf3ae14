"""kfac-jax's Kronecker factors of convolutions: which factor carries the locations, and in which order are the rows?
Needs kfac-jax."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import kfac_jax
from jax import Array

from kfac_ref.oracle import CapturedCase
from validation.peers import cases
from validation.peers.jax_shared import batch, case, loss, parameters
from validation.peers.kfac_jax_factors import SAMPLES


def factors(mode: str) -> dict[str, Array]:
    """Its factors after one update; layers count from 1."""
    estimator = kfac_jax.BlockDiagonalCurvature(loss, num_samples=SAMPLES[mode])
    rng, arguments = jax.random.PRNGKey(2015), (parameters(), batch())
    state = estimator.init(rng, arguments, exact_powers_to_cache=None, approx_powers_to_cache=None)
    state = estimator.update_curvature_matrix_estimate(
        state,
        ema_old=0.0,
        ema_new=1.0,
        identity_weight=0.0,
        batch_size=cases.CASES,
        rng=rng,
        func_args=arguments,
        estimation_mode=mode,
    )
    theirs: dict[str, Array] = {}
    for i, block in enumerate(state.blocks_states, 1):
        theirs[f"A_{i}"], theirs[f"G_{i}"] = (factor.value for factor in block.factors)
    return theirs


def found() -> Iterator[tuple[str, CapturedCase, dict[str, Array]]]:
    """Its ways to estimate."""
    for mode, samples in SAMPLES.items():
        yield f"kfac-jax factors: convolution, categorical, {mode}, samples: {samples}", case(), factors(mode)


if __name__ == "__main__":
    cases.show(found())
