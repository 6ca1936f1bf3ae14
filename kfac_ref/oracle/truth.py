"""What the oracle says of a case: everything that the format "Truth" names.

Nothing here is mathematics of its own: the files that belong to the sections of the paper are asked one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import Array, from_numpy, namespace, read_scalars, to_numpy
from autodiff.network import Parameters
from autodiff.objective import loss_and_gradient
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, factors, fisher, quadratic
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.damping import DampedFactors
from kfac_ref.curvature.factors import Factors
from kfac_ref.data.npz_file import write_archive
from kfac_ref.oracle.case import Case

LARGEST_DENSE = 2000
"""Parameters up to which the whole Fisher is written."""
LARGEST_BLOCK = 4000
"""Rows up to which a layer's block is."""


class Truth(dict[str, Array]):
    """Arrays by name, in the library, dtype and device of the case.

    `h`, `z` (N, d_ℓ), `gradient_i` (of h, ηθ included); `A_i_j` and `G_i_j` for all pairs, means over cases, G in exact
    expectation over the model's targets, `G_empirical_i_j` with those of the data, `G_sampled_i_j` with those that the
    case gives as sampled; `pi_i` by traces (§6.3); `block_diagonal_i` and `block_tridiagonal_i`, F̆⁻¹∇h and F̂⁻¹∇h with
    the case's γ; `alpha`, `mu`, `model_change` for Δ by the case's inverse and δ₀ = V, or 0 without V, and the three
    again, as `alpha_block_tridiagonal` and so on, for F̂; `fisher`, `fisher_empirical` (P, P), `fisher_block_i`, without
    η; `fisher_vector_i`, F V.
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


def truth(case: Case) -> Truth:
    """Everything the oracle says of `case`; what cannot be computed is named in `left_out`, with the reason."""
    found, forward_pass = Truth(), case.forward_pass
    # numbers that overflow are found at the end
    with np.errstate(all="ignore"):
        loss, gradient = loss_and_gradient(forward_pass, case.Y, case.eta)
        constant = case.network.likelihood.constant(case.network.outputs)
        found["h"] = namespace(case.X).astype(loss.h + constant, case.X.dtype)
        found["z"] = namespace(case.X).concat([activities.z for _, activities in forward_pass.chunks()])
        found.add("gradient", gradient)
        exact = _factors(found, case)
        _steps(found, case, exact, gradient)
        _fisher(found, case)
    for name, x in list(found.items()):
        if not namespace(x).all(namespace(x).isfinite(x)):
            del found[name]
            found.left_out[name] = f"not finite in {x.dtype}"
    return found


def _factors(found: Truth, case: Case) -> Factors:
    """Ā, G of each kind, π."""
    exact = factors.exact(case.forward_pass)
    found.update({f"A_{i}_{j}": block for (i, j), block in exact.A.items()})
    kinds = {"G": exact, "G_empirical": factors.empirical(case.forward_pass, case.Y)}
    if case.sampled is not None:
        kinds["G_sampled"] = factors.empirical(case.forward_pass, case.sampled)
    for name, of in kinds.items():
        found.update({f"{name}_{i}_{j}": block for (i, j), block in of.G.items()})
    found.add("pi", [damping.pi(exact.A[i - 1, i - 1], exact.G[i, i]) for i in range(1, exact.layers + 1)])
    return exact


def _steps(found: Truth, case: Case, exact: Factors, gradient: Parameters) -> None:
    """F̆⁻¹∇h and F̂⁻¹∇h with factored Tikhonov damping, and the best step along each (§4, §6.3, §7)."""
    for inverse, name in (("block-diagonal", "block_diagonal"), ("block-tridiagonal", "block_tridiagonal")):
        suffixes = [""] * (inverse == case.inverse) + ["_block_tridiagonal"] * (inverse == "block-tridiagonal")
        try:
            damped = _damped(case, exact)
            tridiagonal = inverse == "block-tridiagonal"
            F_0: Any = _tridiagonal(case, exact, damped) if tridiagonal else block_diagonal.invert(damped)
        except ValueError as error:
            found.left_out[f"{name}_i"] = str(error)
            found.left_out |= {f"{what}{s}": str(error) for s in suffixes for what in ("alpha", "mu", "model_change")}
            continue
        direction = F_0.apply(gradient)
        found.add(name, direction)
        step = _step(case, gradient, [-x for x in direction])
        for s in suffixes:
            values = {f"alpha{s}": step.alpha, f"mu{s}": step.mu, f"model_change{s}": step.change}
            found.update({what: from_numpy(np.asarray(value), case.X) for what, value in values.items()})


def _damped(case: Case, exact: Factors) -> DampedFactors:
    """The damped factors; ValueError where one is singular, or so nearly that rounding decides, or γ is not given."""
    if case.gamma_used is None:
        raise ValueError("the case gives neither gamma nor lambda")
    damped = damping.factorise(exact, case.gamma_used)
    (pivots,) = read_scalars(damped.pivots)
    for i, (R_A, R_G, pair) in enumerate(zip(damped.A, damped.G, pivots, strict=True), start=1):
        blocks = ((f"A_{i - 1}_{i - 1}", exact.A[i - 1, i - 1], R_A), (f"G_{i}_{i}", exact.G[i, i], R_G))
        for (name, block, R), pivot in zip(blocks, pair, strict=True):
            if not pivot > 0 or not _conditioning(block, R) < _limit(case):
                raise ValueError(f"{name} is singular after damping with gamma = {case.gamma_used:g}")
    return damped


def _limit(case: Case) -> float:
    """The condition number from which on rounding leaves next to nothing."""
    return 1e-2 / float(namespace(case.X).finfo(case.X.dtype).eps)


def _conditioning(A: Array, R: Array) -> float:
    """tr(A) tr((A + cI)⁻¹), RᵀR being that inverse: of the size of the condition number."""
    xp = namespace(A)
    return float(xp.linalg.trace(A) * xp.sum(R * R))


def _tridiagonal(case: Case, exact: Factors, damped: DampedFactors) -> BlockTridiagonalInverse:
    """F̂⁻¹; ValueError where a Σ_{i|i+1} is singular, or so nearly that rounding decides."""
    F_hat = block_tridiagonal.invert(exact, damped)
    for i, pair in enumerate(F_hat.Sigma_inverse, start=1):
        reciprocals = pair.reciprocals
        xp = namespace(reciprocals)
        # the spectra ascend, so the last is the largest, unless its denominator was 0 and replaced; it is 0 then where
        # the pencils are reduced
        last, largest, smallest = read_scalars(reciprocals[-1, -1], xp.max(reciprocals), xp.min(reciprocals))
        if not (smallest > 0 and largest < _limit(case) and last == largest):
            raise ValueError(f"Sigma of layer {i} given {i + 1} is singular with gamma = {case.gamma_used:g}")
    return F_hat


def _step(case: Case, gradient: Parameters, delta: Parameters) -> quadratic.Minimiser:
    directions = [delta] if case.V is None else [delta, case.V]
    products = quadratic.inner_products(case.forward_pass, gradient, directions, case.cases)
    damped: Any = case.damping_used
    return quadratic.minimise(quadratic.InnerProducts(*read_scalars(*products)), damped, range(len(directions)))


def _fisher(found: Truth, case: Case) -> None:
    """F and the empirical Fisher where they are small, F's diagonal blocks, and F V."""
    forward_pass = case.forward_pass
    rows = [d * columns for d, columns in case.network.shapes]
    if sum(rows) <= LARGEST_DENSE:
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
