"""𝒟z = dL/dz under the three distributions of y: the model's own, exactly or sampled, and the data's (§2).

Each function returns `Cotangents`, whose second moments over y are what F and the factors G are made of. The first two
belong to the Fisher, the last to the empirical Fisher, which is a different matrix. Where the forward pass has weights
w, each 𝒟z is multiplied by √w, as what it is for is of second order in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from autodiff.arrays import Array, device, namespace
from autodiff.passes import ENTRIES, ForwardPass

Cotangents = Callable[[slice, Array], Iterator[Array]]
"""From (rows, z), z (m, d_ℓ) being the outputs of these cases: 𝒟z in pieces (r, m, d_ℓ), so that memory stays bounded.
What is wanted is summed over the r of all pieces."""


def exact(forward_pass: ForwardPass) -> Cotangents:
    """The d_ℓ columns of B(z), F_R = B Bᵀ: Σ_r 𝒟z 𝒟zᵀ is F_R(z), the expectation over the model's y taken exactly.

    As 𝒟z has mean 0 under the model (Lemma 4), these columns stand for it in everything of second order in 𝒟z.
    """
    root, step = forward_pass.network.likelihood.fisher_root_product, forward_pass.together

    def columns(rows: slice, z: Array) -> Iterator[Array]:
        xp, d = namespace(z), z.shape[1]
        identity = xp.eye(d, dtype=z.dtype, device=device(z))
        for start in range(0, d, step):
            e = identity[start : min(start + step, d), :]
            yield forward_pass.root_weighted(rows, root(z, xp.broadcast_to(e[:, None, :], (e.shape[0], *z.shape))))

    return columns


def empirical(forward_pass: ForwardPass, Y: Array) -> Cotangents:
    """𝒟z with the data's targets Y (N, d_ℓ): one for each case (§5, footnote). ValueError or TypeError where Y does not
    fit X."""
    forward_pass.network.check_batch(forward_pass.X, Y, forward_pass.X)
    derivative = forward_pass.network.likelihood.derivative

    def given(rows: slice, z: Array) -> Iterator[Array]:
        yield forward_pass.root_weighted(rows, derivative(z, Y[rows, :])[None, ...])

    return given


def sampled(forward_pass: ForwardPass, samples: int, key: Sequence[int]) -> Cotangents:
    """𝒟z with targets drawn from the model, `samples` for each case with a random key (see autodiff.arrays) (§2.2).

    The draws do not depend on the chunks. What is summed over r is to be divided by `samples`. ValueError if that is
    less than 1.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1; got {samples}")
    likelihood, step = forward_pass.network.likelihood, forward_pass.together
    shape = (forward_pass.cases, forward_pass.network.outputs)

    # of all cases at once, and kept while memory allows, for the chunks to take their rows from
    @lru_cache(max(ENTRIES // (shape[0] * shape[1]), 1))
    def noise(s: int) -> Array:
        return likelihood.noise((*key, s), shape, forward_pass.X)

    def draws(rows: slice, z: Array) -> Iterator[Array]:
        for start in range(0, samples, step):
            draw = range(start, min(start + step, samples))
            targets = (likelihood.sample_with(z, noise(s)[rows, ...]) for s in draw)
            stacked = namespace(z).stack([likelihood.derivative(z, y) for y in targets])
            yield forward_pass.root_weighted(rows, stacked)

    return draws
