"""Layers whose weights are applied at many locations: routes to F, expand, reduce and KFC, Theorem 1 (KFC, ER)."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import ACTIVATIONS, Affine, Network
from autodiff.network import Parameters
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass, forward
from kfac_ref.curvature import block_diagonal, damping, factors, fisher, inverses, kronecker, kronecker_fisher
from kfac_ref.curvature.factors import Kinds
from validation.theorems.stacks import Stack, conv, dense
from validation.theorems.statement import EPSILON, Deviation, Instance, Space, Statement, relative, worst

STEP = 1e-6
"""Of central differences."""


def _jacobian(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """z (N, d_ℓ), and dz/dθ of each case by forward-mode passes, (N, d_ℓ, P)."""
    forward_pass, shapes = stack.forward_pass, stack.network.shapes
    ((_, activities),) = forward_pass.chunks()
    P = sum(p * q for p, q in shapes)
    directions = [kronecker.unflatten(e, shapes) for e in np.eye(P)]
    return activities.z, np.moveaxis(forward_pass.forward_mode(activities, directions), 0, -1)


def routes_to_the_fisher(instance: Instance) -> Deviation:
    """E[Jᵀ F_R J] with J by forward-mode, against F by cotangents and by products of passes."""
    stack = Stack.random(instance)
    z, J = _jacobian(stack)
    curved = stack.network.likelihood.fisher_product(z, np.moveaxis(J, -1, 0))
    F = np.einsum("ncp,qnc->pq", J, curved) / len(z)
    products = fisher.matmat(stack.forward_pass, np.eye(len(F)))
    tolerance = 1e4 * EPSILON
    ours = (fisher.dense(stack.forward_pass), products)
    return worst(*(Deviation(relative(x, F), tolerance) for x in ours))


def monte_carlo(instance: Instance) -> Deviation:
    """Entries of F by sampled targets are within 6 standard errors of F."""
    stack = Stack.random(instance)
    found, F = fisher.monte_carlo(stack.forward_pass, 400, (instance.seed, 4)), fisher.dense(stack.forward_pass)
    # a rare target that was not drawn leaves no trace in the standard error
    errors = found.standard_error + np.abs(F).max() / 400
    return Deviation(float(np.max(np.abs(found.value - F) / errors)), 6.0)


def forward_against_backward(instance: Instance) -> Deviation:
    """Σ 𝒟z·(Jv) = Σ (Jᵀ𝒟z)·v."""
    stack = Stack.random(instance)
    forward_pass, rng = stack.forward_pass, instance.rng(4)
    ((_, activities),) = forward_pass.chunks()
    Dz = rng.standard_normal(activities.z.shape)
    v = [rng.standard_normal(shape) for shape in stack.network.shapes]
    Jv = forward_pass.forward_mode(activities, [v])[0]
    back = forward_pass.pull_back(activities, Dz)
    left, right = np.sum(Dz * Jv), sum(np.sum(a * b) for a, b in zip(back, v, strict=True))
    size = float(np.linalg.norm(Dz) * np.linalg.norm(Jv))
    return Deviation(float(abs(left - right)), 1e4 * EPSILON * max(size, 1.0))


def differences(instance: Instance) -> Deviation:
    """Jv against central differences of the outputs."""
    stack, rng = Stack.random(instance), instance.rng(4)
    v = [rng.standard_normal(shape) for shape in stack.network.shapes]
    forward_pass = stack.forward_pass
    ((_, activities),) = forward_pass.chunks()
    ends = []
    for sign in (1, -1):
        moved = [W + sign * STEP * d for W, d in zip(stack.parameters, v, strict=True)]
        ends.append(forward(stack.network, moved, stack.X).z)
    difference = (ends[0] - ends[1]) / (2 * STEP)
    return Deviation(relative(forward_pass.forward_mode(activities, [v])[0], difference), 1e-6)


def expand_is_kfc(instance: Instance) -> Deviation:
    """Ω ⊗ Γ is expand's product, damped or not, as π takes up the factor T."""
    stack = Stack.random(instance)
    expand = factors.exact(stack.forward_pass)
    kfc = factors.kfc(expand, stack.network)
    deviations = []
    for gamma in (0.0, 0.3):
        a, b = (block_diagonal.approximate(damping.damp(f, gamma)) for f in (expand, kfc))
        deviations.append(Deviation(relative(kronecker_fisher.dense(b), kronecker_fisher.dense(a)), 1e3 * EPSILON))
    return worst(*deviations)


def one_location(instance: Instance) -> Deviation:
    """A convolution whose kernel is the whole image computes what a dense layer does: z, ∇h, factors."""
    c, H, W = (int(n) for n in instance.rng(3).integers(1, 4, size=3))
    whole = Stack(instance, ((c, H, W), [conv(3, [H, W], "identity"), {"kind": "flatten"}]))
    plain = Network([c * H * W, 3], [], instance.likelihood)
    flat = ForwardPass(plain, whole.parameters, whole.X.reshape(instance.cases, -1))
    ours, theirs = factors.exact(whole.forward_pass), factors.exact(flat)
    ((_, a),), ((_, b),) = whole.forward_pass.chunks(), flat.chunks()
    pairs = [(a.z, b.z), (ours.A[0, 0], theirs.A[0, 0]), (ours.G[1, 1], theirs.G[1, 1])]
    return worst(*(Deviation(relative(x, y), 1e2 * EPSILON) for x, y in pairs))


def _linear(instance: Instance, averaged: bool) -> Stack:
    """Positions that share dense layers without activations, with outputs each, or averaged before the last layer."""
    T, d, out = (int(n) for n in instance.rng(3).integers(2, 5, size=3))
    end = [{"kind": "mean-over-positions"}] if averaged else []
    return Stack(instance, ((T, d), [dense(out), *end, dense(2)]))


def _off(stack: Stack, sharing: str) -> float:
    """‖Ā⊗G − F_{1,1}‖/‖F_{1,1}‖."""
    exact = factors.exact(stack.forward_pass, Kinds(sharing))
    return relative(kronecker.dense(exact.A[0, 0], exact.G[1, 1]), fisher.block(stack.forward_pass, 1, 1))


def expand_exact(instance: Instance) -> Deviation:
    """Expand is the block of a linear network with outputs at each position."""
    return Deviation(_off(_linear(instance, averaged=False), "expand"), 1e4 * EPSILON)


def reduce_exact(instance: Instance) -> Deviation:
    """Reduce is the block of a linear network whose positions are averaged before the last layer."""
    return Deviation(_off(_linear(instance, averaged=True), "reduce"), 1e4 * EPSILON)


def the_other_is_not(instance: Instance) -> Deviation:
    """Reduce for the first of these networks, and expand for the second, are off by more than 1 %."""
    errors = _off(_linear(instance, averaged=False), "reduce"), _off(_linear(instance, averaged=True), "expand")
    return Deviation(1e-2 / min(errors) if min(errors) else np.inf, 1.0)


def theorem_1_convolution(instance: Instance) -> Deviation:
    """Updates −F̆⁻¹∇h map, where a convolution's channels are changed affinely: a† = Ω φ(Φ s†) + ω at each pixel.

    The next convolution sees patches ā† = Ω̂ ā, Ω̂ acting on the channels of each pixel, so that W₂ = W₂† Ω̂.
    """
    rng, c, k = instance.rng(3), 2, 2
    matrix = [np.eye(c) + 0.4 * rng.standard_normal((c, c)) for _ in range(2)]
    omega, (Omega, Phi) = rng.standard_normal(c), matrix

    def stack(activation: Any) -> Stack:
        return Stack(instance, ((1, 4, 4), [conv(c, k, activation), conv(2, k, "tanh"), {"kind": "flatten"}, dense(2)]))

    here, there = stack("tanh"), stack(Affine(ACTIVATIONS["tanh"], Omega, omega, Phi))
    hat = np.zeros((c * k * k + 1, c * k * k + 1))
    hat[:-1, :-1], hat[:-1, -1], hat[-1, -1] = np.kron(Omega, np.eye(k * k)), np.kron(omega, np.ones(k * k)), 1.0
    W = here.parameters
    changed = [np.linalg.solve(Phi, W[0]), W[1] @ np.linalg.inv(hat), W[2]]
    deviations = []
    for sharing in factors.SHARINGS:
        plain, condition = _update(here.network, W, here.X, instance, sharing)
        other, condition_there = _update(there.network, changed, here.X, instance, sharing)
        mapped = [Phi @ other[0], other[1] @ hat, other[2]]
        tolerance = 1e2 * EPSILON * max(condition, condition_there)
        deviations.append(Deviation(relative(kronecker.flatten(mapped), kronecker.flatten(plain)), tolerance))
    return worst(*deviations)


def _update(
    network: Network, W: Parameters, X: np.ndarray, instance: Instance, sharing: str
) -> tuple[Parameters, float]:
    """−F̆⁻¹∇h, undamped, and the largest condition number of a block of F̆."""
    Y = instance.rng(2).random((len(X), network.outputs))
    forward_pass = ForwardPass(network, W, X)
    exact = factors.exact(forward_pass, Kinds(sharing))
    _, gradient = loss_and_gradient(forward_pass, Y, 0.0)
    inverse = inverses.invert(exact, damping.factorise(exact, 0.0), tridiagonal=False)
    blocks = ((exact.A[i - 1, i - 1], exact.G[i, i]) for i in exact.kronecker)
    condition = max(np.linalg.cond(A) * np.linalg.cond(G) for A, G in blocks)
    return [-u for u in inverse.apply(gradient)], float(condition)


ANY = Space(layers=(1, 1), width=(1, 1), cases=(1, 6))
"""Of an instance, the likelihood, the cases and the seed alone are used."""
GAUSSIAN = Space(layers=(1, 1), width=(1, 1), cases=(3, 8), likelihoods=("gaussian",))
ENOUGH = Space(layers=(1, 1), width=(1, 1), cases=(20, 30), likelihoods=("gaussian", "bernoulli"))
"""Cases, for factors that need no damping."""

STATEMENTS = [
    Statement(
        "shared-fisher", "KFC §3", "F = E[Jᵀ F_R J] with weights shared between locations, whatever the layers",
        "J by forward-mode passes; F by cotangents; products by passes; allowed 1e4 ε", ANY, routes_to_the_fisher, 40,
    ),
    Statement(
        "shared-monte-carlo", "KFC §3", "F is the second moment of 𝒟θ, targets drawn from the model",
        "400 draws a case; allowed 6 standard errors", ANY, monte_carlo, 20,
    ),
    Statement(
        "shared-adjoint", "KFC §2", "forward-mode and backward pass of any layers are adjoint",
        "Σ 𝒟z·(Jv) and Σ (Jᵀ𝒟z)·v; allowed 1e4 ε", ANY, forward_against_backward,
    ),
    Statement(
        "shared-differences", "KFC §2", "the forward-mode pass is the derivative of the outputs, whatever the layers",
        "Jv and central differences; allowed 1e-6", ANY, differences,
    ),
    Statement(
        "expand-is-kfc", "KFC §3", "KFC's Ω ⊗ Γ is expand's Ā ⊗ G, damped by factored Tikhonov or not",
        "dense products; allowed 1e3 ε", ANY, expand_is_kfc, 50,
    ),
    Statement(
        "one-location", "KFC §2", "a convolution with one location is a dense layer",
        "outputs and factors; allowed 1e2 ε", ANY, one_location,
    ),
    Statement(
        "expand-exact", "ER §3.1", "expand is exact for linear networks with Gaussian outputs at each position",
        "Ā ⊗ G and the block of F; allowed 1e4 ε", GAUSSIAN, expand_exact,
    ),
    Statement(
        "reduce-exact", "ER §3.2", "reduce is exact for linear networks that average positions before the last layer",
        "Ā ⊗ G and the block of F; allowed 1e4 ε", GAUSSIAN, reduce_exact,
    ),
    Statement(
        "other-not-exact", "ER §3", "there reduce, and here expand, is not exact",
        "0.01 over the smaller relative error; allowed 1", GAUSSIAN, the_other_is_not,
    ),
    Statement(
        "theorem-1-convolution", "§10", "Theorem 1 for a convolution whose channels are changed affinely at each pixel",
        "updates −F̆⁻¹∇h, expand and reduce; allowed 1e2 ε κ(F̆)", ENOUGH, theorem_1_convolution, 50,
    ),
]  # fmt: skip
