"""What the oracle says of a case: everything that the format "Truth" names.

Nothing here is mathematics of its own: the files that belong to the sections of the paper are asked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import Array, from_numpy, namespace, read_scalars, to_numpy
from autodiff.network import Parameters
from autodiff.objective import loss_and_gradient
from kfac_ref.curvature import damping, factors, fisher, inverses, quadratic
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.damping import DampedFactors
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.inverses import Inverse, PartitionedInverse
from kfac_ref.data.npz_file import write_archive
from kfac_ref.oracle.captured import AnyCase, CapturedCase
from kfac_ref.oracle.case import Case

LARGEST_DENSE = 2000
"""Parameters up to which the whole Fisher is written."""
LARGEST_BLOCK = 4000
"""Rows up to which a layer's block is."""
WHOLE = "it takes the whole network, and the case has captured layers of one"


class Truth(dict[str, Array]):
    """Arrays by name, in the library, dtype and device of the case.

    `h`, `z` (N, d_ℓ), `gradient_i` (of h, ηθ included); `A_i_j` and `G_i_j` for all pairs, means over cases, weighted
    where the case has weights, G in exact expectation over the model's targets, `G_empirical_i_j` with those of the
    data, `G_sampled_i_j` with those that the case gives as sampled; `pi_i` by traces (§6.3); `block_diagonal_i` and
    `block_tridiagonal_i`, F̆⁻¹∇h and F̂⁻¹∇h with the case's γ; `alpha`, `mu`, `model_change` for Δ by the case's
    inverse and δ₀ = V, or 0 without V, and the three again, as `alpha_block_tridiagonal` and so on, for F̂; `fisher`,
    `fisher_empirical` (P, P), `fisher_block_i`, without η; `fisher_vector_i`, F V.

    Of a network with other layers than dense ones on vectors z is (N, *output), and in the place of `A_i_j` and `G_i_j`
    there are of each layer with rows `A_expand_i`, `G_expand_i`, `A_reduce_i`, `G_reduce_i` and KFC's `Omega_i`,
    `Gamma_i`, each G also as `G_expand_empirical_i` and so on, `G_expand_sampled_i` (see
    `kfac_ref.curvature.factors`). F̆ and F̂ are those of the kind "expand"; a layer without rows has its whole block.
    So it is of captured layers too, of which what takes the whole network is left out.
    """

    left_out: dict[str, str]
    """What is not there although the format has it, and why."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out = {}

    def add(self, name: str, layers: Parameters) -> None:
        """`name_1` … `name_ℓ`."""
        self.update({f"{name}_{i}": x for i, x in enumerate(layers, start=1)})

    def save(self, path: str | Path) -> None:
        """Write the arrays to an `.npz`, whole or not at all."""
        write_archive(Path(path), {name: to_numpy(x) for name, x in self.items()})


def truth(case: AnyCase) -> Truth:
    """Everything the oracle says of `case`, captured ones included; what cannot be computed is named in `left_out`,
    with the reason."""
    found, forward_pass = Truth(), case.forward_pass
    # numbers that overflow are found at the end
    with np.errstate(all="ignore"):
        loss, gradient = loss_and_gradient(forward_pass, case.Y, case.eta)
        constant = case.network.likelihood.constant(case.network.outputs)
        found["h"] = namespace(case.X).astype(loss.h + constant, case.X.dtype)
        xp = namespace(case.X)
        z = xp.concat([activities.z for _, activities in forward_pass.chunks()])
        found["z"] = xp.reshape(z, (case.cases, *case.network.output))
        found.add("gradient", gradient)
        exact = _factors(found, case)
        _steps(found, case, exact, gradient)
        _fisher(found, case)
    for name, x in list(found.items()):
        if not namespace(x).all(namespace(x).isfinite(x)):
            del found[name]
            found.left_out[name] = f"not finite in {x.dtype}"
    return found


def _factors(found: Truth, case: AnyCase) -> Factors:
    """Ā, G of each kind, π."""
    exact, sharing = factors.exact(case.forward_pass), not case.network.fully_connected
    for suffix, of in _by_targets(case, exact, factors.USUAL):
        if sharing:
            _add_diagonal(found, of, "A_expand", "G_expand", suffix)
            _add_diagonal(found, factors.kfc(of, case.network), "Omega", "Gamma", suffix)
            continue
        found.update({f"G{suffix}_{i}_{j}": block for (i, j), block in of.G.items()})
        if not suffix:
            found.update({f"A_{i}_{j}": block for (i, j), block in of.A.items()})
    if sharing:
        reduce = factors.Kinds("reduce")
        for suffix, of in _by_targets(case, factors.exact(case.forward_pass, reduce), reduce):
            _add_diagonal(found, of, "A_reduce", "G_reduce", suffix)
    found.update({f"pi_{i}": damping.pi(exact.A[i - 1, i - 1], exact.G[i, i]) for i in exact.kronecker})
    return exact


def _by_targets(case: AnyCase, exact: Factors, kinds: factors.Kinds) -> Iterator[tuple[str, Factors]]:
    """The factors of a kind for each choice of targets, and what is put behind their names."""
    yield "", exact
    yield "_empirical", factors.empirical(case.forward_pass, case.Y, kinds)
    if case.sampled is not None:
        yield "_sampled", factors.empirical(case.forward_pass, case.sampled, kinds)


def _add_diagonal(found: Truth, of: Factors, A: str, G: str, suffix: str) -> None:
    for i in of.kronecker:
        found[f"{G}{suffix}_{i}"] = of.G[i, i]
        if not suffix:
            found[f"{A}_{i}"] = of.A[i - 1, i - 1]


def _steps(found: Truth, case: AnyCase, exact: Factors, gradient: Parameters) -> None:
    """F̆⁻¹∇h and F̂⁻¹∇h with factored Tikhonov damping, and the best step along each (§4, §6.3, §7)."""
    for inverse, name in (("block-diagonal", "block_diagonal"), ("block-tridiagonal", "block_tridiagonal")):
        if isinstance(case, CapturedCase) and inverse == "block-tridiagonal":
            found.left_out |= dict.fromkeys((f"{name}_i", "alpha", "mu", "model_change"), WHOLE)
            return
        suffixes = [""] * (inverse == case.inverse) + ["_block_tridiagonal"] * (inverse == "block-tridiagonal")
        try:
            damped = _damped(case, exact)
            F_0 = inverses.invert(exact, damped, tridiagonal=inverse == "block-tridiagonal")
            _require_regular(case, F_0)
        except ValueError as error:
            found.left_out[f"{name}_i"] = str(error)
            found.left_out |= {f"{what}{s}": str(error) for s in suffixes for what in ("alpha", "mu", "model_change")}
            continue
        direction = F_0.apply(gradient)
        found.add(name, direction)
        if isinstance(case, CapturedCase):
            continue
        step = _step(case, gradient, [-x for x in direction])
        for s in suffixes:
            values = {f"alpha{s}": step.alpha, f"mu{s}": step.mu, f"model_change{s}": step.change}
            found.update({what: from_numpy(np.asarray(value), case.X) for what, value in values.items()})


def _damped(case: AnyCase, exact: Factors) -> DampedFactors:
    """The damped factors; ValueError where one is singular, or so nearly that rounding decides, or γ is not given."""
    if case.gamma_used is None:
        raise ValueError("the case gives neither gamma nor lambda")
    damped = damping.factorise(exact, case.gamma_used)
    (pivots,) = read_scalars(damped.pivots)
    for i, (R_A, R_G, pair) in enumerate(zip(damped.A, damped.G, pivots, strict=True), start=1):
        if R_A is None:
            blocks = [(f"the block of layer {i}", exact.full[i, i], R_G)]
        else:
            blocks = [(f"A_{i - 1}_{i - 1}", exact.A[i - 1, i - 1], R_A), (f"G_{i}_{i}", exact.G[i, i], R_G)]
        for (name, block, R), pivot in zip(blocks, pair, strict=False):
            if not pivot > 0 or not _conditioning(block, R) < _limit(case):
                raise ValueError(f"{name} is singular after damping with gamma = {case.gamma_used:g}")
    return damped


def _limit(case: AnyCase) -> float:
    """The condition number from which on rounding leaves next to nothing."""
    return 1e-2 / float(namespace(case.X).finfo(case.X.dtype).eps)


def _conditioning(A: Array, R: Array) -> float:
    """tr(A) tr((A + cI)⁻¹), RᵀR being that inverse: of the size of the condition number."""
    xp = namespace(A)
    return float(xp.linalg.trace(A) * xp.sum(R * R))


def _require_regular(case: AnyCase, F_0: Inverse) -> None:
    """ValueError where a Σ_{i|i+1} of F̂ is singular, or so nearly that rounding decides."""
    parts = zip(F_0.parts, F_0.layers, strict=True) if isinstance(F_0, PartitionedInverse) else [(F_0, 0)]
    first = 1
    for part, layers in parts:
        pairs = part.Sigma_inverse if isinstance(part, BlockTridiagonalInverse) else []
        for i, pair in enumerate(pairs, start=first):
            reciprocals = pair.reciprocals
            xp = namespace(reciprocals)
            # the spectra ascend, so the last is the largest, unless its denominator was 0 and replaced; it is 0 then
            # where the pencils are reduced
            last, largest, smallest = read_scalars(reciprocals[-1, -1], xp.max(reciprocals), xp.min(reciprocals))
            if not (smallest > 0 and largest < _limit(case) and last == largest):
                raise ValueError(f"Sigma of layer {i} given {i + 1} is singular with gamma = {case.gamma_used:g}")
        first += layers


def _step(case: Case, gradient: Parameters, delta: Parameters) -> quadratic.Minimiser:
    directions = [delta] if case.V is None else [delta, case.V]
    products = quadratic.inner_products(case.forward_pass, gradient, directions, case.cases)
    damped: Any = case.damping_used
    return quadratic.minimise(quadratic.InnerProducts(*read_scalars(*products)), damped, range(len(directions)))


def _fisher(found: Truth, case: AnyCase) -> None:
    """F and the empirical Fisher where they are small, F's diagonal blocks, and F V."""
    forward_pass = case.forward_pass
    rows = [d * columns for d, columns in case.network.shapes]
    if isinstance(case, CapturedCase):
        found.left_out |= dict.fromkeys(("fisher", "fisher_empirical", "fisher_vector_i"), WHOLE)
    elif sum(rows) <= LARGEST_DENSE:
        found["fisher"] = fisher.dense(forward_pass)
        found["fisher_empirical"] = fisher.dense_empirical(forward_pass, case.Y)
    else:
        reason = f"{sum(rows)} parameters, dense up to {LARGEST_DENSE}"
        found.left_out |= dict.fromkeys(("fisher", "fisher_empirical"), reason)
    for i, n in enumerate(rows, start=1):
        if n > LARGEST_BLOCK:
            found.left_out[f"fisher_block_{i}"] = f"{n} rows, written up to {LARGEST_BLOCK}"
        else:
            found[f"fisher_block_{i}"] = fisher.block(forward_pass, i, i)
    if case.V is not None:
        found.add("fisher_vector", fisher.product(forward_pass, case.V))
