"""Preconditioned gradients that no inverse of one layer's factors explains: EKFAC, exact blocks, all layers at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kfac_ref.curvature import damping, fisher
from kfac_ref.oracle import fits
from kfac_ref.oracle.damping_rules import with_pi
from kfac_ref.oracle.fits import claim
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.references import FISHERS, SHARINGS, References, dear
from kfac_ref.oracle.truth import LARGEST_DENSE
from kfac_ref.oracle.verdict import Explanation


@dataclass(frozen=True)
class Joint:
    """A layer's preconditioned gradient, weights and bias together, in one reading."""

    U: np.ndarray
    """(d, n+1), the bias last."""
    says: Explanation
    """How it was laid out."""
    tolerance: float
    """What rounding may have done to it."""


def joints(readings: Sequence[Arrangement], layer: int, references: References, tolerance: float) -> list[Joint]:
    """Those ways to read theirs that have weights and bias together."""
    shape = references.network.shapes[layer - 1]
    return [
        Joint(a.matrix, claim(bias=a.bias, layout=a.layout, cost=a.cost, expected=a.own), tolerance)
        for a in readings
        if a.matrix.shape == shape
    ]


def explain_layer(joints: Sequence[Joint], layer: int, references: References) -> list[Explanation]:
    """The gradient of one layer through EKFAC's inverse, or through the exact Fisher block's."""
    found = []
    for joint in joints:
        U, tolerance = joint.U, joint.tolerance
        for kind in references.kinds:
            says = replace(joint.says, fisher=FISHERS[kind], cost=joint.says.cost + 1.5, expected=False)
            # the eigenvectors of KFC's factors are those of expand
            for sharing in [s for s in references.sharings(layer) if s != "kfc"] * references.kronecker(layer):
                basis = references.eigenbasis(kind, sharing)
                U_A, U_G = basis.U_A[layer - 1], basis.U_G[layer - 1]

                def rotate(V: np.ndarray, U_G: np.ndarray = U_G, U_A: np.ndarray = U_A) -> np.ndarray:
                    return U_G.T @ V @ U_A

                rotated = rotate(U)
                for other in references.kinds:
                    s = references.ekfac_diagonal(kind, other, sharing)[layer - 1]
                    note = f"EKFAC's diagonal ({FISHERS[other]} Fisher)"
                    cost = says.cost + (0.0 if other == kind else 1.5) + SHARINGS.get(sharing or "", 0.0)
                    extra = replace(says, sharing=sharing, notes=(note,), cost=cost)
                    found += _through(s * rotated, rotated, rotate, layer, references, tolerance, extra)
            if U.size <= LARGEST_DENSE:
                u = U.T.ravel()
                extra = replace(says, notes=("the exact inverse of the layer's Fisher block",), cost=says.cost + 0.3)
                through = references.block(layer, kind) @ u
                found += _through(through, u, lambda V: V.T.ravel(), layer, references, tolerance, extra)
    return found


def _through(
    FU: np.ndarray,
    U: np.ndarray,
    move: Callable[[np.ndarray], np.ndarray],
    layer: int,
    references: References,
    tolerance: float,
    says: Explanation,
) -> list[Explanation]:
    """V = (F U + λ U)/c for a λ to be found."""
    found = []
    for V, notes, cost in references.gradients:
        said = replace(says, notes=(*says.notes, *notes), cost=says.cost + cost)
        found.append(_regressed(move(V[layer - 1]), FU, U, references, tolerance, said))
    return found


def _regressed(
    V: np.ndarray, FU: np.ndarray, U: np.ndarray, references: References, tolerance: float, says: Explanation
) -> Explanation:
    for terms in ([FU, U], [FU]):
        fit = fits.regress(V, terms)
        if fit is None or U.size < len(terms) + 3:
            continue
        p, residual = fit
        weights = np.array([abs(x) * np.linalg.norm(t) for x, t in zip(p, terms, strict=True)]) / np.linalg.norm(V)
        if not np.all(weights > 0):
            continue
        allowed = fits.conditioned(tolerance, float(weights.sum()))
        if residual > allowed or weights[0] < 30 * allowed:
            continue
        loose = float(max(allowed / weights)) / tolerance
        said = replace(says, damping="none")
        if len(terms) == 2:
            if weights[1] < 30 * allowed:
                continue
            found = p[1] / p[0]
            names = [k for k, x in references.dampings().items() if abs(found - x) <= 10 * loose * tolerance * x]
            text = f"{names[0] if names else f'{found:.6g}'} on the product"
            said = replace(says, damping=text, damping_values=(float(found),), cost=says.cost + (0.0 if names else 2.0))
        read = fits.with_scale(said, 1 / p[0], residual, allowed, references.symbols(), 10 * loose * tolerance)
        # a singular F takes many U to the same V, and a strength and a scale both unheard of explain too much
        if read.expression is not None or (len(terms) == 2 and names and U.size >= 20):
            return read
    return says


def explain_all(joints: Mapping[int, Sequence[Joint]], references: References) -> dict[int, list[Explanation]]:
    """Explanations of all layers together, read in the same way: the dense natural gradient, and F̂⁻¹."""
    layers = range(1, references.layers + 1)
    found: dict[int, list[Explanation]] = {i: [] for i in layers}
    if set(joints) != set(layers):
        return found
    for first in joints[1]:
        way = first.says.bias, first.says.layout
        alike = [j for i in layers for j in joints[i] if (j.says.bias, j.says.layout) == way]
        if len(alike) == len(layers):
            for i, more in _explain_all(alike, references).items():
                found[i] += more
    return found


def _explain_all(joint: Sequence[Joint], references: References) -> dict[int, list[Explanation]]:
    layers = range(1, references.layers + 1)
    found: dict[int, list[Explanation]] = {i: [] for i in layers}
    tolerance, laid_out = max(part.tolerance for part in joint), joint[0].says
    parts = [part.U for part in joint]
    flat = np.concatenate([u.T.ravel() for u in parts])
    for V, notes, cost in references.gradients:
        target = np.concatenate([v.T.ravel() for v in V])
        for kind in references.kinds:
            said = (*notes, "the exact inverse of the whole Fisher")
            dear = laid_out.cost + 2.0 + cost
            says = replace(laid_out, fisher=FISHERS[kind], cost=dear, notes=said, expected=False)
            if references.captured:  # of whose network the rest is not known
                continue
            Fu = fisher.matmat(references.case.forward_pass, flat[:, None], references.targets(kind))[:, 0]
            e = _regressed(target, Fu, flat, references, tolerance, says)
            says = replace(laid_out, fisher=FISHERS[kind], cost=laid_out.cost + cost, notes=notes)
            says = replace(says, expected=says.expected and kind == "exact" and not notes)
            tridiagonal = _tridiagonal(parts, V, kind, references, tolerance, says)
            for i in layers:
                found[i] += [e, *tridiagonal[i]]
    return found


def _tridiagonal(
    U: list[np.ndarray],
    V: list[np.ndarray],
    kind: str,
    references: References,
    tolerance: float,
    says: Explanation,
) -> dict[int, list[Explanation]]:
    """F̂⁻¹V damped with the known strengths; of one layer it is F̆⁻¹V, which is tried elsewhere."""
    found: dict[int, list[Explanation]] = {i: [] for i in range(1, references.layers + 1)}
    if references.layers == 1:
        return found
    gamma = references.case.gamma_used
    for name, x in references.dampings().items():
        for norm in damping.PI_NORMS if x > 0 else ():
            inverse = references.tridiagonal(kind, float(np.sqrt(x)), norm)
            if inverse is None:
                continue
            own = norm == "trace" and bool(gamma) and abs(np.sqrt(x) / (gamma or 1) - 1) < 1e-9
            tri = replace(
                says,
                damping=with_pi(name, norm),
                matrix="block-tridiagonal inverse",
                cost=says.cost + 0.5 + (0.0 if norm == "trace" else 0.6) + dear(kind),
                expected=says.expected and own,
            )
            P = inverse.apply(V)
            for i, (p, u) in enumerate(zip(P, U, strict=True), start=1):
                fit = fits.regress(u, [p])
                if fit is None or u.size < 2:
                    continue
                if not references.kronecker(i):
                    continue
                size = float(np.linalg.norm(references.A(i)) * np.linalg.norm(references.G(i, kind)))
                condition = float(np.linalg.norm(p) / max(float(np.linalg.norm(V[i - 1])), 1e-300)) * max(size, x)
                allowed = fits.conditioned(tolerance, condition)
                found[i].append(fits.with_scale(tri, fit[0][0], fit[1], allowed, references.symbols()))
    return found
