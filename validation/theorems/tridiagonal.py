"""F̂ and its inverse (§4.3), against dense matrices; tolerances grow with the condition number of the damped matrix."""

from __future__ import annotations

import numpy as np

from kfac_ref.curvature import block_tridiagonal, damping, kronecker_fisher
from validation.theorems import enumerated
from validation.theorems.comparison import apart, small
from validation.theorems.enumerated import Blocks
from validation.theorems.inverses import applied, assembled, damped
from validation.theorems.statement import Deviation, Instance, Space, Statement, worst


def tridiagonal_blocks(instance: Instance) -> Deviation:
    """The tridiagonal blocks of F̂, and of the dense inverse of F̂⁻¹ applied to every unit vector, with those of F̃."""
    at = damped(instance)
    F = enumerated.split(
        kronecker_fisher.dense(block_tridiagonal.approximate(damping.damp(at.ours, at.gamma))), instance
    )
    inverse = applied(at.tridiagonal, instance)
    again = enumerated.split(np.linalg.inv(inverse), instance)
    near = [index for index in at.blocks if abs(index[0] - index[1]) <= 1]
    size, condition = float(np.max(np.abs(at.F))), np.linalg.cond(inverse)
    return worst(
        *(small(F[index] - at.blocks[index], size, 200, np.linalg.cond(at.F)) for index in near),
        *(small(again[index] - at.blocks[index], size, 200, condition) for index in near),
    )


def tridiagonal_inverse(instance: Instance) -> Deviation:
    """F̂⁻¹ by products and by the dense inverse of F̂: block-tridiagonal, symmetric, positive definite; F̂⁻¹F̂ = I."""
    at = damped(instance)
    F = kronecker_fisher.dense(block_tridiagonal.approximate(damping.damp(at.ours, at.gamma)))
    by_products, dense = applied(at.tridiagonal, instance), np.linalg.inv(F)
    blocks = enumerated.split(np.ones_like(F), instance)
    beyond = assembled({(i, j): block * (abs(i - j) > 1) for (i, j), block in blocks.items()})
    size, condition = np.max(np.abs(dense)), np.linalg.cond(F)
    smallest = min(np.linalg.eigvalsh(matrix).min() for matrix in (F, by_products))
    return worst(
        small(dense * beyond, size, 200, condition),
        small(by_products * beyond, size, 200, condition),
        small(by_products - by_products.T, size, 200, condition),
        apart(by_products @ F, np.eye(len(F)), 200, condition),
        Deviation(float(smallest <= 0), 0.5),
    )


def tridiagonal_factors(instance: Instance) -> Deviation:
    """F̂⁻¹ applied to every unit vector, with ΞᵀΛΞ, of dense Ψ and Σ."""
    at, layers = damped(instance), instance.network.layers
    blocks = at.blocks
    Xi = {(i, i): np.eye(len(blocks[i, i])) for i in range(1, layers + 1)}
    Lambda: Blocks = {(layers, layers): np.linalg.inv(blocks[layers, layers])}
    for i in range(1, layers):
        Psi = blocks[i, i + 1] @ np.linalg.inv(blocks[i + 1, i + 1])
        Sigma = blocks[i, i] - Psi @ blocks[i + 1, i + 1] @ Psi.T
        Lambda[i, i], Xi[i, i + 1] = np.linalg.inv(Sigma), -Psi
    Xi_, Lambda_ = assembled(Xi), assembled(Lambda)
    inverse = Xi_.T @ Lambda_ @ Xi_
    return apart(applied(at.tridiagonal, instance), inverse, 200, np.linalg.cond(inverse))


def two_layers(instance: Instance) -> Deviation:
    """With ℓ = 2 all blocks are tridiagonal: F̂⁻¹ applied to every unit vector, with the inverse of the dense F̃."""
    at = damped(instance)
    return apart(applied(at.tridiagonal, instance), np.linalg.inv(at.F), 200, np.linalg.cond(at.F))


DEEP = Space(layers=(2, 5), width=(1, 4))

STATEMENTS = (
    Statement(
        "tridiagonal-blocks",
        "§4.3",
        "F̂ agrees with F̃ on the tridiagonal blocks",
        "F̂, and the inverse of F̂⁻¹ applied to every unit vector; allowed: 200 ε κ(F̂)",
        DEEP,
        tridiagonal_blocks,
        50,
    ),
    Statement(
        "tridiagonal-inverse",
        "§4.3",
        "F̂⁻¹ is block-tridiagonal, symmetric and positive definite",
        "applied to every unit vector, and the dense inverse of F̂; their product with F̂ is I; allowed: 200 ε κ(F̂)",
        DEEP,
        tridiagonal_inverse,
        50,
    ),
    Statement(
        "tridiagonal-factors",
        "§4.3",
        "F̂⁻¹ = ΞᵀΛΞ",
        "applied to every unit vector, with dense Ξ and Λ; allowed: 200 ε κ(F̂)",
        DEEP,
        tridiagonal_factors,
        50,
    ),
    Statement(
        "tridiagonal-two-layers",
        "§4.3",
        "F̂ = F̃ for two layers",
        "F̂⁻¹ applied to every unit vector, with the dense inverse of F̃; allowed: 200 ε κ(F̃)",
        Space(layers=(2, 2), width=(1, 4)),
        two_layers,
        50,
    ),
)
