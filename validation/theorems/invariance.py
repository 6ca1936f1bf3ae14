"""Theorem 1, Lemma 5 and Corollary 3: K-FAC's updates in one parameterisation and in another (§10).

Everything here is undamped, with the exact expectation over the model's y in the factors. Tolerances are 100 roundings
times condition numbers, which the statements name: κ(ζ) is that of ζ's matrix diag(Ω_{i−1}ᵀ ⊗ Φ_i), κ(F₀) that of the
approximation of the Fisher that is inverted, the larger one of the two networks'. Instances have κ(F̃) ≤ 1e7, so that a
tolerance says something.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from autodiff.network import Parameters
from autodiff.passes import ForwardPass
from kfac_ref.curvature import block_diagonal, kronecker
from validation.theorems import reparameterisation
from validation.theorems.reparameterisation import Reparameterisation
from validation.theorems.statement import EPSILON, Deviation, Instance, Space, Statement, relative, worst
from validation.theorems.updates import APPROXIMATIONS, Place, pseudo_update, rescaled

ROUNDINGS = 100 * EPSILON


def transformed_pass(instance: Instance, change: Reparameterisation) -> ForwardPass:
    """The transformed network at θ† = ζ⁻¹(θ) on the transformed inputs; every Ω_i is affine."""
    parameters = change.zeta_inverse(instance.parameters)
    return ForwardPass(change.network(instance.network), parameters, change.inputs(instance.X))


def outputs(forward_pass: ForwardPass) -> np.ndarray:
    """z of all cases (N, d_ℓ)."""
    return np.concatenate([activities.z for _, activities in forward_pass.chunks()])


def same_function(instance: Instance, change: Reparameterisation, there: ForwardPass) -> Deviation:
    """How far the outputs of the two networks are apart."""
    tolerance = ROUNDINGS * instance.network.layers * change.condition
    return Deviation(relative(change.outputs(outputs(there)), outputs(instance.forward_pass)), tolerance)


# --- Lemma 5 ---------------------------------------------------------------------------------------------------------


def lemma_5(instance: Instance) -> Deviation:
    """Ā†, G† and ∇h† of the transformed network's own passes, against those that the rule gives."""
    change = reparameterisation.random(instance.network, instance.rng(3))
    there = transformed_pass(instance, change)
    found, expected = Place.at(there, instance.Y), Place.at(instance.forward_pass, instance.Y).transformed(change)
    deviations = [relative(kronecker.flatten(found.gradient), kronecker.flatten(expected.gradient))]
    for ours, theirs in ((found.factors.A, expected.factors.A), (found.factors.G, expected.factors.G)):
        size = {i: np.linalg.norm(block) for (i, j), block in theirs.items() if i == j}
        deviations += [
            float(np.linalg.norm(ours[i, j] - block) / np.sqrt(size[i] * size[j])) for (i, j), block in theirs.items()
        ]
    tolerance = ROUNDINGS * instance.network.layers * change.condition**2
    return worst(same_function(instance, change, there), *(Deviation(value, tolerance) for value in deviations))


# --- Theorem 1 -------------------------------------------------------------------------------------------------------


def maps(found: Parameters, expected: Parameters, tolerance: float) -> Deviation:
    """How far an update brought back by ζ is from the one it should be, over all layers."""
    return Deviation(relative(kronecker.flatten(found), kronecker.flatten(expected)), tolerance)


def allowed(name: str, here: Place, there: Place) -> float:
    """100 ε κ(F₀)."""
    return ROUNDINGS * max(APPROXIMATIONS[name].condition(place.factors) for place in (here, there))


def theorem_1_affine(name: str, instance: Instance) -> Deviation:
    """Both networks' own passes, factors, inverses and updates."""
    change = reparameterisation.random(instance.network, instance.rng(3))
    forward_pass = transformed_pass(instance, change)
    here, there = Place.at(instance.forward_pass, instance.Y), Place.at(forward_pass, instance.Y)
    update = APPROXIMATIONS[name].update
    return worst(
        same_function(instance, change, forward_pass),
        maps(change.zeta(update(there)), update(here), allowed(name, here, there)),
    )


def theorem_1_general(name: str, instance: Instance) -> Deviation:
    """Ā, G and ∇h transformed by the rule; Ω mixes the homogeneous coordinate with the others."""
    change = reparameterisation.random(instance.network, instance.rng(3), general=True)
    here = Place.at(instance.forward_pass, instance.Y)
    there = here.transformed(change)
    update = APPROXIMATIONS[name].update
    return maps(change.zeta(update(there)), update(here), allowed(name, here, there))


def theorem_1_rescaled(instance: Instance) -> Deviation:
    """αΔ of both networks, for each of the approximations."""
    change = reparameterisation.random(instance.network, instance.rng(3))
    passes = instance.forward_pass, transformed_pass(instance, change)
    here, there = (Place.at(forward_pass, instance.Y) for forward_pass in passes)

    def deviation(name: str) -> Deviation:
        ours, theirs = (
            rescaled(forward_pass, place, APPROXIMATIONS[name].update(place))
            for forward_pass, place in zip(passes, (here, there), strict=True)
        )
        return maps(change.zeta(theirs), ours, allowed(name, here, there))

    return worst(*map(deviation, APPROXIMATIONS))


# --- classes: G_ℓℓ is singular ----------------------------------------------------------------------------------------


def theorem_1_categorical(instance: Instance) -> Deviation:
    """With any Φ_ℓ, modulo a number added to all logits; with an orthogonal one, wholly."""
    free = reparameterisation.random(instance.network, instance.rng(3))
    Q, _ = np.linalg.qr(free.Phi[-1])
    deviations = []
    for change, wholly in ((free, False), (Reparameterisation(free.Omega, [*free.Phi[:-1], Q]), True)):
        forward_pass = transformed_pass(instance, change)
        here, there = Place.at(instance.forward_pass, instance.Y), Place.at(forward_pass, instance.Y)
        for name in APPROXIMATIONS:
            pair = change.zeta(pseudo_update(name, there)), pseudo_update(name, here)
            ours, theirs = pair if wholly else map(_without_common_part, pair)
            deviations.append(maps(ours, theirs, allowed(name, here, there)))
    return worst(*deviations)


def _without_common_part(V: Parameters) -> Parameters:
    """V with 1cᵀ taken off V_ℓ, which adds cᵀā_{ℓ−1} to all logits, so that 1ᵀV_ℓ = 0."""
    return [*V[:-1], V[-1] - V[-1].mean(0)]


# --- Corollary 3 -----------------------------------------------------------------------------------------------------


def corollary_3(instance: Instance) -> Deviation:
    """The whitened network's own passes: its factors are I, and its gradient step is K-FAC's."""
    here = Place.at(instance.forward_pass, instance.Y)
    change = reparameterisation.whitening(here.factors)
    forward_pass = transformed_pass(instance, change)
    there = Place.at(forward_pass, instance.Y)
    tolerance = allowed("block-diagonal", here, there)
    blocks = block_diagonal.approximate(there.factors)
    return worst(
        same_function(instance, change, forward_pass),
        *(Deviation(relative(S, np.eye(len(S))), tolerance) for S in (*blocks.A.values(), *blocks.G.values())),
        maps(change.zeta([-v for v in there.gradient]), APPROXIMATIONS["block-diagonal"].update(here), tolerance),
    )


def corollary_3_roots(instance: Instance) -> Deviation:
    """The symmetric square roots, by the rule for ∇h."""
    here = Place.at(instance.forward_pass, instance.Y)
    change = reparameterisation.square_roots(here.factors)
    there = here.transformed(change)
    step = change.zeta([-v for v in there.gradient])
    tolerance = allowed("block-diagonal", here, there)
    return maps(step, APPROXIMATIONS["block-diagonal"].update(here), tolerance)


# --- the table -------------------------------------------------------------------------------------------------------

# nothing is singular: outputs enough for every G_{i,i}, cases enough for every Ā_{i,i}, curved activations
SPACE = Space((1, 4), (2, 5), (4, 6), (20, 40), ("tanh", "logistic"), ("bernoulli", "gaussian"), 2.0, 1e7)
CLASSES = Space((1, 4), (2, 5), (4, 6), (20, 40), ("tanh", "logistic"), ("categorical",), 2.0, 1e7)
WIDTHS = "1–4 layers of 2–5 units, 4–6 outputs, tanh and logistic"
ALLOWED = "allowed: 100 ε κ(F₀)"

STATEMENTS: tuple[Statement, ...] = (
    Statement(
        "lemma-5",
        "§10",
        "Lemma 5: Ā†_{i,j} = Ω_i Ā_{i,j} Ω_jᵀ, G†_{i,j} = Φ_iᵀ G_{i,j} Φ_j, ∇h†_i = Φ_iᵀ ∇h_i Ω_{i−1}ᵀ, and the same "
        "function",
        "every block and ∇h by the transformed network's own passes, against the rule; Ω affine, on the inputs too; "
        "Bernoulli, Gaussian, classes; allowed: 100 ε ℓ κ(ζ)²",
        Space((1, 4), (1, 5), (2, 5), (1, 12), ("tanh", "logistic", "softplus", "identity")),
        lemma_5,
        100,
    ),
    *(
        Statement(
            f"theorem-1-affine-{name}",
            "§10",
            f"Theorem 1 for {of.sign}: −{of.sign}⁻¹∇h in θ† maps under ζ to that in θ; affine Ω",
            f"passes, exact factors, inverse and update in both networks, Ω_0 on the inputs; {WIDTHS}; {ALLOWED}",
            SPACE,
            partial(theorem_1_affine, name),
            80,
        )
        for name, of in APPROXIMATIONS.items()
    ),
    *(
        Statement(
            f"theorem-1-general-{name}",
            "§10",
            f"Theorem 1 for {of.sign}, any invertible Ω",
            f"Ā, G and ∇h transformed by Lemma 5's rule, then inverted and applied; {ALLOWED}",
            SPACE,
            partial(theorem_1_general, name),
            50,
        )
        for name, of in APPROXIMATIONS.items()
    ),
    Statement(
        "theorem-1-rescaled",
        "§10",
        "Theorem 1, re-scaled: αΔ maps under ζ too, α by the exact Fisher",
        f"F̆, F̂ and F̃ in both networks, α = −∇hᵀΔ / ΔᵀFΔ in each; {ALLOWED}",
        SPACE,
        theorem_1_rescaled,
        50,
    ),
    Statement(
        "theorem-1-categorical",
        "§10",
        "Theorem 1 for classes, with pseudo-inverses: updates map modulo 1cᵀ in the last layer, which adds the same to "
        "all logits; wholly where Φ_ℓ is orthogonal",
        "F̆ and F̂ from Ā⁺ and G⁺, F̃⁺ of the dense matrix, in both networks; allowed: 100 ε κ(F₀), of what is not 0 "
        "of F₀'s spectrum",
        CLASSES,
        theorem_1_categorical,
        50,
    ),
    Statement(
        "corollary-3",
        "§10",
        "Corollary 3: −F̆⁻¹∇h is a plain gradient step in the network whose activities are centred and whitened and "
        "whose gradients are whitened",
        "that network's own ∇h, brought back by ζ, and its factors against I; allowed: 100 ε κ(F̆)",
        SPACE,
        corollary_3,
        60,
    ),
    Statement(
        "corollary-3-square-roots",
        "§10",
        "Corollary 3 with Ω_i = Ā_{i,i}^{−½}, Φ_i = G_{i,i}^{−½}",
        "∇h by Lemma 5's rule, brought back by ζ; allowed: 100 ε κ(F̆)",
        SPACE,
        corollary_3_roots,
        40,
    ),
)
