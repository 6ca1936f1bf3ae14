"""Remake the conformance vectors, small cases and their truths: `python -m validation make-conformance [--out DIR]`.

Parameters and data are rounded to three decimals, so that the cases are the same bytes on every machine; their truths
are to rounding. What each case is for, SHA-256 and tolerances go to `manifest.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.network import Network
from autodiff.passes import forward
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, factors, kronecker, kronecker_fisher
from kfac_ref.data.files import write_text
from kfac_ref.data.npz_file import read_archive
from kfac_ref.oracle import CapturedCase, Case, Truth, truth
from kfac_ref.oracle.captured import AnyCase
from validation import conformance_layers

OUT = Path(__file__).parent.parent / "kfac_ref" / "oracle" / "conformance"
PASSES = 1e-11
"""Relative tolerance for what passes and products give."""
EPSILON = float(np.finfo(np.float64).eps)
MEANING = (
    "relative: the norm of the difference over the norm of the truth, of each array as a whole; the difference itself "
    "where the truth is 0; for float64"
)
WHY = {
    "h, z, gradient, A, G, Omega, Gamma and their kinds, pi, fisher, fisher_empirical, fisher_block, fisher_vector": (
        "passes and means of products in float64 lose a few hundred roundings of 1e-16 at most, and this leaves room "
        "for another order of summation"
    ),
    "block_diagonal, block_tridiagonal": (
        "100 roundings of 2e-16 times the condition number of what is inverted, rounded up to a power of ten, as it "
        "magnifies the roundings in the factors"
    ),
    "alpha, mu, model_change": (
        "the same, times the condition number of the 2 x 2 system; compare [alpha, mu] as one vector, for mu "
        "may be nearly 0"
    ),
}


@dataclass(frozen=True)
class Recipe:
    """A case to be made."""

    about: str
    """What is special about it."""
    sizes: Sequence[int]
    activations: str | list[str]
    likelihood: str
    cases: int
    soft: bool = False
    """Whether the targets of a categorical likelihood are probabilities; Bernoulli's are always intensities."""
    deficient: bool = False
    """Whether inputs are constant, twice the same, or sums of others."""
    direction: bool = True
    sampled: bool = False
    autoencoder: bool = False
    dead: bool = False
    """Whether the second unit of the first layer is never active."""
    constants: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "first": Recipe(
        "to begin with: two layers, tanh, classes, everything that a case may have",
        (4, 3, 2), "tanh", "categorical", 8, sampled=True, constants={"gamma": 0.1, "lam": 0.02, "eta": 0.01},
    ),
    "autoencoder": Recipe(
        "Bernoulli likelihood, intensities as targets, a linear code layer, logistic units; lambda alone, so gamma is "
        "sqrt(lambda + eta)",
        (6, 4, 2, 4, 6), ["logistic", "identity", "logistic"], "bernoulli", 10, autoencoder=True, sampled=True,
        constants={"lam": 0.05, "eta": 1e-5},
    ),
    "regression": Recipe(
        "Gaussian likelihood with relu units: L has its 1/2 and its constant; gamma alone, so lambda + eta is gamma^2",
        (4, 5, 3, 2), "relu", "gaussian", 12, sampled=True, constants={"gamma": 0.2},
    ),
    "softplus": Recipe(
        "softplus units, and gamma that is not sqrt(lambda + eta)",
        (3, 4, 3), "softplus", "bernoulli", 9, constants={"gamma": 0.5, "lam": 0.1, "eta": 0.001},
    ),
    "one-case": Recipe(
        "N = 1: every block of the Fisher is the Kronecker product of A and G, exactly",
        (4, 3, 3), "tanh", "categorical", 1, sampled=True, constants={"gamma": 0.3},
    ),
    "fewer-cases-than-width": Recipe(
        "N = 3 with 8 inputs: A_0_0 has rank 3, and only damping makes it invertible",
        (8, 6, 4), "tanh", "gaussian", 3, constants={"gamma": 0.1, "eta": 0.01},
    ),
    "deep-linear": Recipe(
        "a linear network with Gaussian likelihood: every block is the Kronecker product, exactly",
        (4, 3, 3, 2), "identity", "gaussian", 15, constants={"gamma": 0.1},
    ),
    "one-layer": Recipe(
        "linear regression: the Fisher is A_0_0 with an identity, and the empirical Fisher is not",
        (5, 3), "identity", "gaussian", 11, sampled=True, constants={"gamma": 0.1, "lam": 0.01},
    ),
    "softmax-regression": Recipe(
        "one layer with classes: one Kronecker product, not exact; G_1_1 is singular, as a constant added to all "
        "logits changes nothing",
        (5, 4), "identity", "categorical", 14, constants={"gamma": 0.1},
    ),
    "rank-deficient": Recipe(
        "inputs that are constant, twice the same and sums of others, as border pixels are",
        (7, 4, 3), "logistic", "bernoulli", 16, deficient=True, constants={"gamma": 0.2, "eta": 1e-4},
    ),
    "soft-targets": Recipe(
        "probabilities as targets of classes: the empirical Fisher is of the loss as it is with these targets",
        (4, 6, 5), "relu", "categorical", 10, soft=True, constants={"gamma": 0.1},
    ),
    "mixed-tridiagonal": Recipe(
        "four layers, each with another activation; alpha, mu and model_change are those of the block-tridiagonal "
        "inverse",
        (5, 6, 4, 5, 3), ["tanh", "softplus", "logistic"], "categorical", 20, sampled=True,
        constants={"gamma": 0.15, "lam": 0.03, "eta": 0.001, "inverse": "block-tridiagonal"},
    ),
    "dead-unit": Recipe(
        "a relu unit that is never active: a row and a column of G_1_1 are 0",
        (4, 4, 2), "relu", "bernoulli", 10, dead=True, constants={"gamma": 0.1},
    ),
    "undamped": Recipe(
        "gamma = 0 where nothing is singular: the plain inverses",
        (3, 2, 2), "tanh", "gaussian", 30, constants={"gamma": 0.0},
    ),
    "no-damping-given": Recipe(
        "neither gamma nor lambda: only what needs no damping",
        (3, 4, 2), "tanh", "bernoulli", 6, direction=False, sampled=True,
    ),
}  # fmt: skip


NAMES = [*RECIPES, *conformance_layers.RECIPES]


def make(name: str) -> AnyCase:
    """The case called so."""
    if name in conformance_layers.RECIPES:
        return conformance_layers.make(name)
    recipe = RECIPES[name]
    # a generator of its own for each, so that another recipe changes nothing for the rest
    rng = np.random.default_rng(list(name.encode()))
    network = Network(list(recipe.sizes), recipe.activations, recipe.likelihood)
    N, d = recipe.cases, recipe.sizes[-1]

    def numbers(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return np.round(scale * rng.standard_normal(shape), 3)

    W = [numbers(shape, 1.5 / math.sqrt(shape[1])) for shape in network.shapes]
    if recipe.dead:
        W[0][1, :] = [*[0.1] * (recipe.sizes[0]), -9.0]
    X = numbers((N, recipe.sizes[0]))
    if recipe.autoencoder:
        X = np.round(rng.random(X.shape), 3)
    if recipe.deficient:
        X[:, 1], X[:, 2], X[:, 3] = 0.0, 1.0, X[:, 0]
        X[:, 4] = X[:, 0] + X[:, 5]
    Y = X if recipe.autoencoder else _targets(rng, recipe, N, d)
    sampled = None
    if recipe.sampled:
        z = forward(network, W, X).z
        sampled = np.round(network.likelihood.sample(z, list(name.encode())), 3)
    V = [numbers(shape) for shape in network.shapes] if recipe.direction else None
    return Case(network, W, X, Y, V=V, sampled=sampled, **recipe.constants)


def _targets(rng: np.random.Generator, recipe: Recipe, N: int, d: int) -> np.ndarray:
    if recipe.likelihood == "gaussian":
        return np.round(rng.standard_normal((N, d)), 3)
    if recipe.likelihood == "bernoulli":
        return np.round(rng.random((N, d)), 3)
    if recipe.soft:
        # sixteenths, whose sums are 1 without rounding
        return rng.multinomial(16, np.full(d, 1 / d), size=N) / 16
    return np.eye(d)[rng.integers(d, size=N)]


def tolerances(case: AnyCase, found: Truth) -> dict[str, float]:
    """Relative tolerance of each quantity that is there, by its name without layers (see WHY)."""
    table = {re.sub(r"(_\d+)+$", "", name): PASSES for name in found}
    if case.gamma_used is None:
        return table
    for kind, tridiagonal in (("block_diagonal", False), ("block_tridiagonal", True)):
        if isinstance(case, CapturedCase) and tridiagonal:
            continue
        condition = float(np.linalg.cond(_approximation(case, tridiagonal)))
        table[kind] = power_of_ten(max(100 * EPSILON * condition, PASSES))
        if isinstance(case, CapturedCase):
            continue
        directions = [kronecker.flatten([found[f"{kind}_{i}"] for i in range(1, case.network.layers + 1)])]
        directions += [] if case.V is None else [kronecker.flatten(case.V)]
        S = np.stack([v / np.linalg.norm(v) for v in directions], axis=1)
        B = S.T @ (found["fisher"] @ S + case.damping_used * S)
        steps = power_of_ten(max(100 * EPSILON * condition * float(np.linalg.cond(B)), PASSES))
        for what in ("alpha", "mu", "model_change"):
            if kind == case.inverse.replace("-", "_"):
                table[what] = steps
            if kind == "block_tridiagonal":
                table[f"{what}_{kind}"] = steps
    return table


def _approximation(case: AnyCase, tridiagonal: bool) -> np.ndarray:
    """F̆ or F̂, damped, or its inverse, which has the same condition number."""
    if not case.network.fully_connected:
        return conformance_layers.inverse(case, tridiagonal)
    assert case.gamma_used is not None
    damped = damping.damp(factors.exact(case.forward_pass), case.gamma_used)
    return kronecker_fisher.dense((block_tridiagonal if tridiagonal else block_diagonal).approximate(damped))


def power_of_ten(x: float) -> float:
    """x rounded up to one."""
    return float(f"1e{math.ceil(math.log10(x) - 1e-9)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation make-conformance [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m validation make-conformance", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where to write (default: in the package)")
    out = parser.parse_args(arguments).out
    vectors: dict[str, Any] = {}
    for name in NAMES:
        recipe, case = (RECIPES | conformance_layers.RECIPES)[name], make(name)
        found = truth(case)
        files = {"case": out / f"{name}.case.npz", "truth": out / f"{name}.truth.npz"}
        case.save(files["case"])
        found.save(files["truth"])
        settings = json.loads(str(read_archive(files["case"])[0]["settings"]))
        vectors[name] = {"about": recipe.about, "settings": settings, "cases": case.cases}
        for what, path in files.items():
            vectors[name][what] = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        vectors[name] |= {"tolerance": tolerances(case, found), "left_out": found.left_out}
        print(f"{name:<24} {sum(path.stat().st_size for path in files.values()):>7} bytes  {case.network}")
    manifest = {"tolerance": MEANING, "why": WHY, "vectors": vectors}
    write_text(out / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir())} bytes in all")
    return 0
