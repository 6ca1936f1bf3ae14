"""K-FAC beside its variants (beyond the paper): EKFAC, damping that is exact, and the empirical Fisher's factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from autodiff.arrays import Array, namespace
from autodiff.network import Network, Parameters
from autodiff.passes import ForwardPass
from kfac_ref.curvature import ekfac, factors
from kfac_ref.curvature.ekfac import Eigenbasis
from kfac_ref.curvature.factors import Factors
from kfac_ref.curvature.implicit_factors import ImplicitFactors
from kfac_ref.optimizer import KFAC, Batch, Record, State, sampled_targets
from kfac_ref.settings import Settings
from kfac_ref.training.experiment import Experiment, Prepared, prepare
from validation.figures.course import course, first_below, panels, spread
from validation.figures.drawn import Drawn
from validation.figures.palette import COLOURS, DIAGONAL, EKFAC, EMPIRICAL, EXACT_DAMPING, TRIDIAGONAL
from validation.work import Arrays, Work

TITLE = "K-FAC against EKFAC, exact damping and the empirical Fisher"
SECONDS = {"quick": 12, "full": 95}

LAMBDA0 = 1.0
AMOUNT: dict[bool, dict[str, Any]] = {
    True: {"iterations": 120, "seeds": (0,)},
    False: {"iterations": 300, "seeds": (0, 1, 2)},
}
"""Iterations and seeds; quick and not."""
LEVELS = (4.0, 2.0, 1.3)
"""Squared errors that the table asks for."""
METHODS = (DIAGONAL, TRIDIAGONAL, EXACT_DAMPING, EKFAC, EMPIRICAL)
"""`_optimizer` says what they are."""

# --- the variants: Algorithm 2 with another matrix in place of F₀ ----------------------------------------------------


class EmpiricalKFAC(KFAC):
    """K-FAC with the data's targets in place of sampled ones: G is that of the *empirical* Fisher.

    Re-scaling, momentum and λ are as before, by the exact Fisher.
    """

    def step(self, state: State, batch: Batch, sampled: Array | None = None) -> tuple[State, Record]:
        cases = math.ceil(self.settings.tau1 * batch.X.shape[0])
        return super().step(state, batch, batch.Y[:cases, :])


@dataclass(frozen=True)
class ScaledFactors(Factors):
    """Running averages of the factors with the eigenbasis that was last computed of them, and a diagonal in it."""

    basis: Eigenbasis
    s: list[Array]
    """The matrix is U diag(s) Uᵀ, U = U_A⊗U_G, for each layer; s_i is (d_i, d_{i−1}+1)."""
    updates: int
    """Estimates that s is the running average of; the eigenvalues of Ā⊗G are the first."""


@dataclass(frozen=True)
class EigenbasisInverse:
    """(U diag(s) Uᵀ + γ²I)⁻¹."""

    basis: Eigenbasis
    s: list[Array]
    gamma: float

    def apply(self, V: Parameters) -> Parameters:
        """The product with V."""
        return ekfac.solve(self.basis, self.s, V, self.gamma**2)


class EigenbasisKFAC(KFAC):
    """K-FAC with (U diag(s) Uᵀ + γ²I)⁻¹ for F̆⁻¹: γ² is added exactly, not by factored Tikhonov damping.

    The eigenbasis U is that of the running factors, computed anew where K-FAC inverts. The eigenvalues of Ā⊗G then are
    s; with `rescaled` (EKFAC) each iteration averages E[(U_Gᵀ 𝒟W U_A)²] of the τ₁ part and its sampled targets in.
    """

    def __init__(self, network: Network, settings: Settings, rescaled: bool) -> None:
        super().__init__(network, settings)
        self.rescaled = rescaled

    def update_factors(self, state: State, forward_pass: ForwardPass, sampled: Array | None) -> ScaledFactors:
        """K-FAC's, with their eigenbasis and s; the targets that K-FAC draws serve both G and s."""
        cases = math.ceil(self.settings.tau1 * forward_pass.cases)
        if sampled is None:
            draw = sampled_targets(state, forward_pass, cases)
            sampled = namespace(forward_pass.X).concat([draw(rows, a.z) for rows, a in forward_pass.chunks(cases)])
        running, old = super().update_factors(state, forward_pass, sampled).explicit, state.factors
        if self.inversion_due(state) or not isinstance(old, ScaledFactors):
            basis = ekfac.eigenbasis(running)
            s, updates = basis.kronecker_diagonal(), 1
        else:
            basis, s, updates = old.basis, old.s, old.updates
        if self.rescaled:
            first = ForwardPass(self.network, state.parameters, forward_pass.X[:cases, :], self.settings.chunk_size)
            updates += 1
            epsilon = factors.averaging_weight(updates, self.settings.epsilon_max)
            new = ekfac.diagonal(first, basis, sampled)
            s = [epsilon * a + (1 - epsilon) * b for a, b in zip(s, new, strict=True)]
        return ScaledFactors(running.A, running.G, basis, s, updates)

    def inverses(
        self, state: State, running: Factors | ImplicitFactors, gammas: list[float], refresh: bool
    ) -> tuple[list[Any], dict[float, Array]]:
        """An `EigenbasisInverse` for each γ, none of which needs a factorisation, and no pivots."""
        assert isinstance(running, ScaledFactors)
        return [EigenbasisInverse(running.basis, running.s, gamma) for gamma in gammas], {}


# --- the figure ------------------------------------------------------------------------------------------------------


def draw(work: Work) -> Drawn:
    """The figure "variants"."""
    amount = AMOUNT[work.quick]
    at, prepared = spread(amount["iterations"]), [_prepared(seed) for seed in amount["seeds"]]
    # one seed of all methods after the other, so that what else the machine does hits all of them
    runs = [{name: _run(work, name, p, at) for name in METHODS} for p in prepared]
    found = {name: [run[name] for run in runs] for name in METHODS}
    p = prepared[0]
    s = p.optimizer.settings
    rows = [
        {"method": name, "seed": seed, **{key: float(run[key][i]) for key in run}}
        for name, runs in found.items()
        for seed, run in zip(amount["seeds"], runs, strict=True)
        for i in range(len(run["k"]))
    ]
    several = f"seeds {', '.join(map(str, amount['seeds']))} (thin: each, thick: their median)"
    seeds = several if len(prepared) > 1 else f"seed {amount['seeds'][0]}"
    caption = (
        f"Squared error on all {p.data.X.shape[0]} training cases of the {p.network} autoencoder of the packaged "
        f"16×16 Fashion-MNIST images, float32, sparse initialisation; preset authors, η = {s.eta:g}, λ₀ = {LAMBDA0:g}, "
        f"mini-batches from {s.m1} cases, growing to all at iteration {s.full_batch_at}; {seeds}. "
        "Each variant is Algorithm 2 with another matrix in place of F₀: exact damping, (Ā⊗G + γ²I)⁻¹ where K-FAC has "
        "factored Tikhonov damping; EKFAC, (U diag(s) Uᵀ + γ²I)⁻¹ in the eigenbasis U of Ā⊗G, with estimates from the "
        "targets sampled for G averaged into s at each iteration; empirical Fisher, the block-diagonal inverse with "
        "the data's targets in place of sampled ones. All are re-scaled by the exact Fisher. Seconds are those of one "
        "thread."
    )
    return Drawn(_figure(found, str(p.network)), caption, [_row(n, runs) for n, runs in found.items()], {"runs": rows})


def _prepared(seed: int) -> Prepared:
    constants = {"eta": 1e-5, "lambda0": LAMBDA0}
    return prepare(Experiment(data="fashion16", preset="authors", constants=constants, seed=seed))


def _optimizer(name: str, network: Network, settings: Settings) -> KFAC:
    if name == TRIDIAGONAL:
        return KFAC(network, replace(settings, inverse="block-tridiagonal"))
    settings = replace(settings, inverse="block-diagonal")
    if name == EMPIRICAL:
        return EmpiricalKFAC(network, settings)
    if name == DIAGONAL:
        return KFAC(network, settings)
    return EigenbasisKFAC(network, settings, rescaled=name == EKFAC)


def _run(work: Work, name: str, p: Prepared, at: Sequence[int]) -> Arrays:
    assert isinstance(p.optimizer, KFAC)
    optimizer = _optimizer(name, p.network, p.optimizer.settings)
    seed, file = p.experiment.seed, f"variants {name} {p.experiment.seed}{' quick' if work.quick else ''}"
    described = p.experiment.asdict() | {"constants": asdict(optimizer.settings)}
    return work.kept(
        file.replace(",", "").replace(" ", "-"),
        {"experiment": described, "data": p.dataset.crc32(), "at": list(at)},
        lambda: course(optimizer, p.first_state(), p.data, at, f"{name}, seed {seed}"),
    )


def _median(runs: Sequence[Arrays]) -> Arrays:
    """Of the seeds, for as many evaluations as all of them have."""
    shortest = min(len(run["k"]) for run in runs)
    return {key: np.median([run[key][:shortest] for run in runs], axis=0) for key in runs[0]}


def _row(name: str, runs: Sequence[Arrays]) -> dict[str, Any]:
    """The medians over the seeds."""
    run = _median(runs)
    row: dict[str, Any] = {
        "method": name,
        "ms an iteration": 1000 * run["seconds"][-1] / run["k"][-1],
        "last error": run["error"][-1],
        "last α": run["alpha"][-1],
    }
    for level in LEVELS:
        k, seconds = (first_below(run, x, "error", level) for x in ("k", "seconds"))
        row |= {f"iterations to {level:g}": k and int(k), f"seconds to {level:g}": seconds}
    return row


def _figure(found: Mapping[str, Sequence[Arrays]], network: str) -> Figure:
    figure, axes = panels(2, network)
    for name, runs in found.items():
        for ax, x in zip(axes, ("k", "seconds"), strict=True):
            if len(runs) > 1:
                for run in runs:
                    ax.plot(run[x], run["error"], color=COLOURS[name], lw=0.5, alpha=0.6)
            median = _median(runs)
            ax.plot(median[x], median["error"], color=COLOURS[name], lw=1.6, label=name)
    axes[0].set_ylabel("squared error a case, training")
    axes[0].legend(fontsize=8, frameon=False)
    return figure
