"""Reparameterised activations, and the rules of Lemma 5 and Corollaries 2 and 3, broken."""

from __future__ import annotations

import numpy as np

from autodiff import Network
from autodiff.activations import Affine
from kfac_ref.curvature.factors import Factors
from tests.validation.theorems.mutations import after, caught_by
from validation.theorems import invariance, paths, reparameterisation, updates
from validation.theorems.reparameterisation import Reparameterisation, ReparameterisedLikelihood, affine

NAMES = ("block-diagonal", "block-tridiagonal", "full")
AFFINE, GENERAL = ([f"theorem-1-{omega}-{name}" for name in NAMES] for omega in ("affine", "general"))

# --- the network of Theorem 1 -----------------------------------------------------------------------------------------


@caught_by("lemma-5", "theorem-1-rescaled", "theorem-1-categorical", *AFFINE)
def value_with_phi_transposed(patch):
    """φ̄(Φᵀs)."""

    def value(self, s):
        a, saved = self.base.value(s @ self.Phi)
        return a @ self.Omega.T + self.omega, saved

    patch.setattr(Affine, "value", value)


@caught_by("lemma-5", *AFFINE)
def value_with_omega_transposed(patch):
    """Ωᵀ of the linear part."""

    def value(self, s):
        a, saved = self.base.value(s @ self.Phi.T)
        return a @ self.Omega + self.omega, saved

    patch.setattr(Affine, "value", value)


@caught_by("lemma-5", "corollary-3", *AFFINE)
def value_without_shift(patch):
    """Ω has no last column."""
    after(patch, Affine, "value", lambda found, self, s: (found[0] - self.omega, found[1]))


@caught_by("lemma-5", "theorem-1-rescaled", "theorem-1-categorical", *AFFINE)
def pull_with_phi_transposed(patch):
    """Backward by Φ in place of Φᵀ."""
    patch.setattr(Affine, "pull", lambda self, saved, Da: self.base.pull(saved, Da @ self.Omega) @ self.Phi.T)


@caught_by("lemma-5", *AFFINE)
def pull_with_omega_transposed(patch):
    """Backward by Ω in place of Ωᵀ."""
    patch.setattr(Affine, "pull", lambda self, saved, Da: self.base.pull(saved, Da @ self.Omega.T) @ self.Phi)


@caught_by("theorem-1-rescaled")
def push_with_phi_transposed(patch):
    """Forward mode by Φᵀ in place of Φ."""
    patch.setattr(Affine, "push", lambda self, saved, ds: self.base.push(saved, ds @ self.Phi) @ self.Omega.T)


@caught_by("lemma-5", *AFFINE)
def outputs_derivative_with_phi_transposed(patch):
    """𝒟z† = Φ𝒟z in place of Φᵀ𝒟z."""
    after(
        patch,
        ReparameterisedLikelihood,
        "derivative",
        lambda found, self, z, y: np.linalg.solve(self.Phi.T, found.T).T @ self.Phi.T,
    )


@caught_by("lemma-5", "corollary-3", "corollary-2-shifted", "corollary-2-scaled", "corollary-2-whitened", *AFFINE)
def inputs_as_they_are(patch):
    """Ω_0 is in the parameters alone."""
    patch.setattr(Reparameterisation, "inputs", lambda self, X: X)


@caught_by("lemma-5", "corollary-3", *AFFINE)
def bias_column_of_omega_first(patch):
    """The transformed network takes the first column of Ω for its last."""

    def misplaced(found, self, network):
        hidden = zip(network.activations[:-1], self.Omega[1:], self.Phi[:-1], strict=True)
        activations = [Affine(phi, Omega[:-1, 1:], Omega[:-1, 0], Phi) for phi, Omega, Phi in hidden]
        return Network(network.sizes, activations, found.likelihood)

    after(patch, Reparameterisation, "network", misplaced)


# --- Lemma 5's rules -------------------------------------------------------------------------------------------------


@caught_by("lemma-5", *GENERAL)
def gradient_with_phi(patch):
    """Φ∇hΩᵀ in place of Φᵀ∇hΩᵀ."""

    def gradient(self, V):
        return [Phi @ v @ Omega.T for Phi, v, Omega in zip(self.Phi, V, self.Omega, strict=True)]

    patch.setattr(Reparameterisation, "gradient", gradient)


@caught_by("lemma-5", *GENERAL)
def gradient_with_omega(patch):
    """Φᵀ∇hΩ in place of Φᵀ∇hΩᵀ."""

    def gradient(self, V):
        return [Phi.T @ v @ Omega for Phi, v, Omega in zip(self.Phi, V, self.Omega, strict=True)]

    patch.setattr(Reparameterisation, "gradient", gradient)


@caught_by("lemma-5", *GENERAL)
def factors_with_phi(patch):
    """ΦGΦᵀ in place of ΦᵀGΦ."""

    def misplaced(found, self, given):
        G = {(i, j): self.Phi[i - 1] @ block @ self.Phi[j - 1].T for (i, j), block in given.G.items()}
        return Factors(found.A, G)

    after(patch, Reparameterisation, "factors", misplaced)


@caught_by("lemma-5", *GENERAL)
def factors_with_omega(patch):
    """ΩᵀĀΩ in place of ΩĀΩᵀ."""

    def misplaced(found, self, given):
        return Factors({(i, j): self.Omega[i].T @ b @ self.Omega[j] for (i, j), b in given.A.items()}, found.G)

    after(patch, Reparameterisation, "factors", misplaced)


@caught_by("theorem-1-rescaled", "theorem-1-categorical", *AFFINE, *GENERAL)
def zeta_with_phi_transposed(patch):
    """ζ(V) = ΦᵀVΩ."""

    def zeta(self, V):
        return [Phi.T @ v @ Omega for Phi, v, Omega in zip(self.Phi, V, self.Omega, strict=True)]

    patch.setattr(Reparameterisation, "zeta", zeta)


@caught_by("corollary-3", "theorem-1-rescaled", *AFFINE, *GENERAL)
def zeta_without_biases(patch):
    """ζ leaves the bias column out of what Ω mixes."""

    def zeta(found, self, V):
        for new, Phi, v in zip(found, self.Phi, V, strict=True):
            new[:, -1] = (Phi @ v)[:, -1]
        return found

    after(patch, Reparameterisation, "zeta", zeta)


# --- singular G_{ℓ,ℓ} -------------------------------------------------------------------------------------------------


@caught_by("theorem-1-categorical")
def pseudo_inverse_damped(patch):
    """S + 1e-3 I is inverted in place of S⁺."""
    patch.setattr(updates, "pseudo_root", lambda S: np.linalg.inv(np.linalg.cholesky(S + 1e-3 * np.eye(len(S)))))


@caught_by("theorem-1-categorical")
def not_modulo_what_all_logits_share(patch):
    """Updates are compared wholly, whatever Φ_ℓ is: Theorem 1 does not say that."""
    patch.setattr(invariance, "_without_common_part", lambda V: V)


# --- the corollaries -------------------------------------------------------------------------------------------------


@caught_by("corollary-3")
def whitened_without_centring(patch):
    """The activities' second moment is made I, their mean left as it is."""

    def whitening(found, given):
        roots = [reparameterisation.inverse_symmetric_root(given.A[i, i][:-1, :-1]) for i in range(given.layers)]
        return Reparameterisation([affine(root, np.zeros(len(root))) for root in roots], found.Phi)

    after(patch, reparameterisation, "whitening", whitening)


@caught_by("corollary-3", "corollary-3-square-roots")
def inverse_for_root(patch):
    """S⁻¹ in place of S^{−½}."""
    patch.setattr(reparameterisation, "inverse_symmetric_root", np.linalg.inv)


@caught_by("corollary-2-logistic-tanh")
def tanh_without_shift(patch):
    """tanh(s) = 2 logistic(2s)."""

    def unshifted(found, network):
        Omega = [found.Omega[0], *(affine(2 * np.eye(d), np.zeros(d)) for d in network.sizes[1:-1])]
        return Reparameterisation(Omega, found.Phi)

    after(patch, reparameterisation, "logistic_to_tanh", unshifted)


@caught_by("corollary-2-logistic-tanh", "corollary-2-shifted", "corollary-2-scaled", "corollary-2-whitened")
def other_targets_in_the_other_path(patch):
    """Factors of targets whose cases are in another order."""
    kfac = paths.kfac

    def shuffled(start, Y, settings, targets=None, seed=0):
        shuffle = np.random.default_rng(0).permutation
        return kfac(start, Y, settings, None if targets is None else [shuffle(t) for t in targets], seed)

    patch.setattr(paths, "kfac", shuffled)


@caught_by("corollary-2-sgd")
def sgd_that_does_not_drift(patch):
    """SGD's path is K-FAC's."""
    patch.setattr(paths, "sgd", lambda start, Y: paths.kfac(start, Y, paths.UNDAMPED["block-diagonal"]))
