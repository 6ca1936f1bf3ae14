"""Targets for the factors (§5), as functions of rows and outputs, so that a batch can be worked through in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autodiff.arrays import Array, require_alike
from autodiff.passes import ForwardPass

Targets = Callable[[slice, Array], Array]
"""From (rows, z), z (m, d_ℓ) being the outputs of these cases: their targets (m, d_ℓ)."""


def drawn(forward_pass: ForwardPass, cases: int, key: Sequence[int]) -> Targets:
    """Targets for the first `cases` cases, drawn from the model with a random key (see autodiff.arrays) (§5)."""
    likelihood, outputs = forward_pass.network.likelihood, forward_pass.network.outputs
    # for all these cases at once, so that the targets depend neither on the chunks nor on how cases are shared
    noise = forward_pass.of_the_case(likelihood.noise(key, (cases, outputs), forward_pass.X))
    return lambda rows, z: likelihood.sample_with(z, noise[rows, ...])


def given(forward_pass: ForwardPass, cases: int, sampled: Array) -> Targets:
    """Targets that the caller has drawn, `sampled` (cases, d_ℓ), or those of a share (§5); ValueError or TypeError
    where they do not fit the batch."""
    require_alike(sampled, forward_pass.X, "sampled")
    expected = forward_pass.here(cases), forward_pass.network.outputs
    if tuple(sampled.shape) != expected:
        raise ValueError(
            f"sampled targets have shape {tuple(sampled.shape)}, expected {expected}: "
            "one row for each of the first ceil(tau1 m) cases"
        )
    return lambda rows, z: sampled[rows, :]
