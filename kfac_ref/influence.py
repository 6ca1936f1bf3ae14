"""Influence functions with EKFAC: which training cases raise or lower the loss of a query (Grosse et al. 2023).

The score of a training case n for a query q is

    s(q, n) = ∇L_qᵀ (F + λI)⁻¹ ∇L_n,

layer by layer with EKFAC's approximation (A⊗G's eigenvectors, the corrected diagonal) in the place of F; λ is the
damping, η of the objective included. To first order, leaving case n out of N adds s(q, n)/N to the query's loss: a case
with s > 0 helps, one with s < 0 does harm. ∇L is that of one case's loss, neither divided by N nor with ηθ.

No case's gradient is formed where a layer has one row for each case: s = g_nᵀ P_q ā_n, P_q = (F + λI)⁻¹∇L_q.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autodiff.arrays import Array, namespace, read_scalars
from autodiff.names import closest
from autodiff.network import Network, Parameters
from autodiff.passes import CHUNK_SIZE, ENTRIES, Activities, ForwardPass
from kfac_ref.curvature import ekfac, factors, targets
from kfac_ref.curvature.ekfac import Eigenbasis
from kfac_ref.curvature.factors import Kinds

FISHERS = ("exact", "sampled", "empirical")
"""The distribution of the targets that F is made of: the model's own, exactly or by one draw for each case, or the
data's, which gives the *empirical* Fisher, another matrix."""
DIAGONALS = ("ekfac", "kfac")
"""Second moments of the derivatives along the eigenvectors of A⊗G, or the eigenvalues of A⊗G."""
HEURISTIC = 0.1
"""A layer's λ in units of the mean of its diagonal, where none is given (Grosse et al. 2023, §3.1)."""
SAMPLED_TARGETS = 5
"""Purpose of a random key (seed, purpose); see autodiff.arrays."""


@dataclass(frozen=True)
class DampedEKFAC:
    """U (diag(s) + λI) Uᵀ, U = U_A⊗U_G, of each layer (INF §3.1)."""

    basis: Eigenbasis
    damped: list[Array]
    """s_i + λ_i, (d_i, d_{i−1}+1), or (P_i,) of a full block; all positive."""

    def solve(self, V: Parameters) -> Parameters:
        """(F + λI)⁻¹V, V_i of shape (…, d_i, d_{i−1}+1)."""
        return ekfac.solve(self.basis, self.damped, V, 0.0)


def fit(
    forward_pass: ForwardPass,
    targets: Array | None = None,
    damping: float | None = None,
    diagonal: str = "ekfac",
    kinds: Kinds = factors.USUAL,
) -> DampedEKFAC:
    """EKFAC's approximation of F on the training cases of `forward_pass`, damped (INF §3.1); a mean over these.

    Parameters
    ----------
    forward_pass : ForwardPass
        The training cases; its weights of cases, if any, are those of the means in F.
    targets : (N, d_ℓ), optional
        Drawn from the model, or the data's for the empirical Fisher. By default the expectation over the model's own
        distribution is exact, at the cost of a backward pass for each output.
    damping : float, optional
        λ+η, the same in all layers; by default 0.1 times the mean of a layer's diagonal.
    diagonal : one of DIAGONALS
    kinds : Kinds
        Of the factors whose eigenvectors are used, where layers share weights; and of full blocks.

    Raises
    ------
    ValueError
        If damping is not a number > 0, or naming the layer whose curvature is 0 or not finite.
    """
    closest(diagonal, DIAGONALS, "diagonal")
    if damping is not None and not 0 < damping < float("inf"):
        raise ValueError(f"damping is {damping:g}, expected a finite number > 0, or None for {HEURISTIC} of the mean")
    if targets is None:
        moments = factors.exact(forward_pass, kinds, reach=1)
    else:
        moments = factors.empirical(forward_pass, targets, kinds, reach=1)
    basis = ekfac.eigenbasis(moments)
    s = ekfac.diagonal(forward_pass, basis, targets) if diagonal == "ekfac" else basis.kronecker_diagonal()
    xp = namespace(*s)
    # rounding may leave an eigenvalue of A or G just below 0
    s = [xp.where(x > 0, x, xp.zeros_like(x)) for x in s]
    damped = [x + (HEURISTIC * xp.mean(x) if damping is None else damping) for x in s]
    for i, least in enumerate(read_scalars(*(xp.min(x) for x in damped)), start=1):
        if not 0 < least < float("inf"):
            raise ValueError(
                f"layer {i}: the curvature is 0 or not finite, so that {HEURISTIC} of its mean is no damping; got "
                f"{least} as the least of its damped diagonal, expected parameters at which F is not 0, or a damping"
            )
    return DampedEKFAC(basis, damped)


class Influence:
    """The influence of training cases (X, Y) at a network's parameters (INF §2; INF §3.1).

    Parameters
    ----------
    network : Network
    parameters : list of array
        θ, at which the network has been trained.
    X, Y : (N, d_0) or (N, *input), and (N, d_ℓ)
        The training cases, like the parameters.
    damping, diagonal, kinds :
        As of `fit`.
    fisher : one of FISHERS
    seed : int
        Of the draws, for "sampled".
    chunk_size : int
        Cases worked through at once, at most; the scores do not depend on it.

    Raises
    ------
    ValueError, TypeError
        If shapes, libraries or dtypes do not fit, or as `fit` does.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        X: Array,
        Y: Array,
        damping: float | None = None,
        fisher: str = "exact",
        diagonal: str = "ekfac",
        kinds: Kinds = factors.USUAL,
        seed: int = 0,
        chunk_size: int = CHUNK_SIZE,
    ) -> None:
        closest(fisher, FISHERS, "Fisher")
        network.check_parameters(parameters)
        network.check_batch(X, Y, parameters[0])
        self.training = ForwardPass(network, parameters, X, chunk_size)
        self.Y = Y
        of_fisher = {"exact": lambda: None, "sampled": lambda: _drawn(self.training, seed), "empirical": lambda: Y}
        self.curvature = fit(self.training, of_fisher[fisher](), damping, diagonal, kinds)

    def on(self, X: Array, Y: Array) -> Array:
        """s(q, n) for queries X (Q, d_0), Y (Q, d_ℓ): (ℓ, Q, N), by layers; its sum over the first axis is the whole.

        ValueError or TypeError where they do not fit the network.
        """
        training = self.training
        network, parameters = training.network, training.parameters
        network.check_batch(X, Y, parameters[0])
        at_once = ENTRIES // sum(d * p for d, p in network.shapes)  # queries, of each of which a gradient is held
        queries = ForwardPass(network, parameters, X, training.chunk_size).limited(at_once)
        xp, by_query = namespace(X), []
        for activities, g in _backward(queries, Y):
            Q = activities.z.shape[0]
            gradients = [
                layer.case_gradients(tape, x) for (layer, tape), x in zip(activities.weighted(), g, strict=True)
            ]
            P = self.curvature.solve(gradients)
            by_case = []
            for seen, h in _backward(training.limited(self._cases_at_once(Q)), self.Y):
                by_case.append(xp.stack([_products(network, seen, h, i, p) for i, p in enumerate(P, start=1)]))
            by_query.append(xp.concat(by_case, axis=-1))
        return xp.concat(by_query, axis=1)

    def of_themselves(self) -> Array:
        """s(n, n) of the training cases, (ℓ, N), by layers: how much each would lose if it were left out."""
        network, basis = self.training.network, self.curvature.basis
        xp, parts = namespace(self.Y), []
        for seen, g in _backward(self.training.limited(self._cases_at_once(1)), self.Y):
            by_layer = []
            for i, damped in enumerate(self.curvature.damped, start=1):
                U_A, U_G = basis.U_A[i - 1], basis.U_G[i - 1]
                if network.has_one_row(i):  # (U_Gᵀg āᵀU_A)² is (U_Gᵀg)² times (U_Aᵀā)²
                    a, b = (seen.rows(i) @ U_A) ** 2, (g[i - 1] @ U_G) ** 2
                    by_layer.append(xp.sum((b @ (1 / damped)) * a, axis=-1))
                    continue
                layer, tape = seen.weighted()[i - 1]
                D = layer.case_gradients(tape, g[i - 1])
                (V,) = ekfac.solve(Eigenbasis([None], [U_A], [None], [U_G]), [damped], [D], 0.0)
                by_layer.append(xp.sum(V * D, axis=(-2, -1)))
            parts.append(xp.stack(by_layer))
        return xp.concat(parts, axis=-1)

    def _cases_at_once(self, queries: int) -> int:
        """Training cases of which what `_products` makes may be held: P_q ā, or 𝒟W itself."""
        network = self.training.network
        shapes = enumerate(network.shapes, start=1)
        return ENTRIES // max(queries * d if network.has_one_row(i) else d * p for i, (d, p) in shapes)


def _products(network: Network, seen: Activities, g: Sequence[Array], i: int, P: Array) -> Array:
    """⟨P_q, 𝒟W_i⟩ of queries P (Q, d, p) and cases, (Q, m)."""
    xp, (Q, d, p) = namespace(P), P.shape
    if network.has_one_row(i):
        Pa = xp.reshape(seen.rows(i) @ xp.reshape(P, (Q * d, p)).T, (-1, Q, d))
        return xp.sum(Pa * g[i - 1][:, None, :], axis=-1).T
    layer, tape = seen.weighted()[i - 1]
    return xp.reshape(P, (Q, -1)) @ xp.reshape(layer.case_gradients(tape, g[i - 1]), (-1, d * p)).T


def _backward(forward_pass: ForwardPass, Y: Array) -> Iterator[tuple[Activities, list[Array]]]:
    """Chunk by chunk the activities and g_1 … g_ℓ of the cases' own losses."""
    derivative = forward_pass.network.likelihood.derivative
    for rows, activities in forward_pass.chunks():
        yield activities, forward_pass.backward(activities, derivative(activities.z, Y[rows, :]))


def _drawn(forward_pass: ForwardPass, seed: int) -> Array:
    """One target for each case, drawn from the model (N, d_ℓ)."""
    sample = targets.drawn(forward_pass, forward_pass.cases, (seed, SAMPLED_TARGETS))
    return namespace(forward_pass.X).concat([sample(rows, seen.z) for rows, seen in forward_pass.chunks()])
