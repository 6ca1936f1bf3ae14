"""The partly trained classifier of 16×16 MNIST that Figures 2, 3, 5 and 6 look into (§3, §4), and its middle layers.

The paper gives the network, "batch mode", and 5 % error after 7 iterations and 0 after 22; the rest is chosen here so
that these are reached. That takes fewer than all 60 000 cases, which so few units do not learn in 22 iterations.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from autodiff.initialisation import glorot_initialisation
from autodiff.network import Network, Parameters
from autodiff.objective import evaluate
from autodiff.passes import ForwardPass
from kfac_ref.curvature import factors, fisher, kronecker
from kfac_ref.curvature.factors import Factors
from kfac_ref.optimizer import KFAC, Batch
from kfac_ref.settings import Settings, preset
from validation.figures.matrices import relative_error
from validation.work import Arrays, Work, first_to_be_had

SIZES = (256, 20, 20, 20, 20, 20, 10)
CASES = 5000
"""The first of the training cases."""
ITERATIONS = 22
LOOKED_AT = 7
"""The iteration after which the figures look at the network."""
CONSTANTS = {"lambda0": 3e-3, "T1": 1, "T2": 1, "T3": 1, "tau1": 1.0, "tau2": 1.0, "epsilon_max": 0.0}
"""Besides the preset `authors`. With all cases in each iteration nothing needs saving, and the factors no averaging."""
MIDDLE = (2, 3, 4, 5)
"""The middle four of the six layers: 420 parameters each."""


Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""F̃, F̆ and F̂, or their inverses."""


@dataclass(frozen=True)
class PartlyTrained:
    """The network after 7 iterations, with the cases it was trained on."""

    data: str
    forward_pass: ForwardPass
    gamma: float
    misclassified: np.ndarray
    """Of the training cases after 0, 1, … iterations: a count each."""

    @property
    def about(self) -> str:
        """For captions: what it is and how it was trained."""
        cases, wrong = self.forward_pass.cases, self.misclassified[LOOKED_AT]
        return (
            f"The network is a {'-'.join(map(str, SIZES))} tanh classifier of {self.data} after {LOOKED_AT} iterations "
            f"of K-FAC on the first {cases} training cases at once, {wrong / cases:.2%} of which it misclassifies "
            f"({share(self.misclassified[-1], cases)} after {len(self.misclassified) - 1}). Preset authors, "
            f"block-tridiagonal, λ₀ = {CONSTANTS['lambda0']:g}, T₁ = T₂ = T₃ = 1, τ₁ = τ₂ = 1, factors not averaged "
            f"over iterations (ε_max = 0), Glorot initialisation, seed 0, float64. What is drawn is of its middle four "
            f"layers, exact expectations over these cases and the model's targets."
        )


def share(count: float, cases: int) -> str:
    """A count of cases in per cent; 0 % only if it is 0."""
    return f"{count / cases:.2%}" if count else "0 %"


def partly_trained(work: Work) -> PartlyTrained:
    """The network of seed 0."""
    name, X, Y = training_cases()
    kept = _run(work, name, X, Y, seed=0)
    parameters = [kept[f"W_{i}"] for i in range(1, len(SIZES))]
    return PartlyTrained(name, ForwardPass(_network(), parameters, X), float(kept["gamma"]), kept["misclassified"])


def misclassified_by_seed(work: Work, seeds: int) -> np.ndarray:
    """Misclassified training cases after 0, 1, … iterations, from several seeds: (seeds, iterations + 1)."""
    name, X, Y = training_cases()
    runs = tqdm(range(seeds), unit="seed", disable=None, leave=False)
    return np.stack([_run(work, name, X, Y, seed)["misclassified"] for seed in runs])


def training_cases() -> tuple[str, np.ndarray, np.ndarray]:
    """What the data are, X (N, 256) and Y (N, 10): of MNIST, or of Fashion-MNIST where that cannot be fetched."""
    data = first_to_be_had("mnist16", "fashion16")
    assert data.Y is not None
    name = "16×16 MNIST" if data.name == "mnist16" else "16×16 Fashion-MNIST (MNIST could not be fetched)"
    return name, data.X[:CASES].astype(np.float64), data.Y[:CASES].astype(np.float64)


def middle(all_layers: Factors) -> Factors:
    """The factors of the middle layers, as of a network that consists of them."""
    shift = MIDDLE[0] - 1
    G = {(i - shift, j - shift): all_layers.G[i, j] for i in MIDDLE for j in MIDDLE}
    return Factors({(i - 1, j - 1): all_layers.A[i - 1 + shift, j - 1 + shift] for i, j in G}, G)


def middle_factors(forward_pass: ForwardPass) -> Factors:
    """The exact factors of the middle layers."""
    return middle(factors.exact(forward_pass))


def middle_fisher(forward_pass: ForwardPass) -> np.ndarray:
    """The rows and columns of F that belong to the middle layers, dense."""
    blocks = {(i, j): fisher.block(forward_pass, i, j) for i in MIDDLE for j in MIDDLE if i <= j}
    return np.block([[blocks[i, j] if i <= j else blocks[j, i].T for j in MIDDLE] for i in MIDDLE])


def compared(
    network: PartlyTrained, dense: Callable[[Factors, float], Triple], signs: Sequence[str], quick: bool
) -> tuple[list[Triple], list[dict[str, Any]]]:
    """Figures 5 and 6: `dense` of the middle layers' factors, for γ = 0 and the run's γ, and a row for each.

    A row has the relative errors of the second and the third matrix beside the first, called by `signs`; unless
    `quick`, there is one of all layers too.
    """
    all_layers = factors.exact(network.forward_pass)
    found = [(gamma, dense(middle(all_layers), gamma)) for gamma in (0.0, network.gamma)]
    described = [("middle four", gamma, triple) for gamma, triple in found]
    if not quick:
        described.append(("all six", network.gamma, dense(all_layers, network.gamma)))
    rows = [
        {"layers": layers, "γ": gamma}
        | {
            f"‖{sign} − {signs[0]}‖ / ‖{signs[0]}‖": relative_error(other, first)
            for sign, other in zip(signs[1:], others, strict=True)
        }
        for layers, gamma, (first, *others) in described
    ]
    return [triple for _, triple in found], rows


def dense_inverse(apply: Callable[[Parameters], Parameters], shapes: list[tuple[int, int]]) -> np.ndarray:
    """The matrix that `apply` multiplies by, as K-FAC does by F̆⁻¹ or F̂⁻¹: applied to each column of I."""
    identity = np.eye(sum(p * q for p, q in shapes))
    return np.stack([kronecker.flatten(apply(kronecker.unflatten(e, shapes))) for e in identity], axis=1)


def _network() -> Network:
    return Network(SIZES, "tanh", "categorical")


def _settings() -> Settings:
    return preset("authors", **CONSTANTS)


def _run(work: Work, name: str, X: np.ndarray, Y: np.ndarray, seed: int) -> Arrays:
    """Kept: `misclassified`, and γ and W_1 … after 7 iterations."""
    crc = [zlib.crc32(x.tobytes()) for x in (X, Y)]
    settings = {"data": name, "crc32": crc, "sizes": SIZES, "iterations": (LOOKED_AT, ITERATIONS), "seed": seed}
    return work.kept(f"mnist16-seed-{seed}", settings | asdict(_settings()), lambda: _train(X, Y, seed))


def _train(X: np.ndarray, Y: np.ndarray, seed: int) -> Arrays:
    network = _network()
    kfac = KFAC(network, _settings())
    state = kfac.init(glorot_initialisation(network, seed), seed)
    wrong, kept = [], {}
    # layers this narrow gain nothing from threads, and lose much to them where other programs run
    with threadpool_limits(1):
        for k in range(ITERATIONS + 1):
            if k > 0:
                state, _ = kfac.step(state, Batch(X, Y))
            if k == LOOKED_AT:
                kept = {f"W_{i}": W for i, W in enumerate(state.parameters, 1)} | {"gamma": np.asarray(state.gamma)}
            part = evaluate(network, state.parameters, X, Y).misclassified
            assert part is not None
            wrong.append(round(part * len(X)))
    return kept | {"misclassified": np.asarray(wrong)}
