"""Influence scores beside what leaving each training case out and training again does, on a convex problem.

Softmax regression with an ℓ₂ term on small images has one minimum, which Newton's method finds to rounding, with the
case and without it. Its Fisher is its Hessian, so that only first order, and the approximation of F, can be wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from autodiff import Network
from autodiff.network import Parameters
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass, forward
from kfac_ref.curvature import fisher, kronecker
from kfac_ref.data import datasets
from kfac_ref.influence import Influence
from validation.figures.drawn import as_text

ETA = 1e-2
"""η, which makes the minimum unique."""
NEWTON = 30
"""Iterations at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation influence`: prints a table."""
    parser = argparse.ArgumentParser(prog="python -m validation influence", description=__doc__)
    parser.add_argument("--cases", type=int, default=150, metavar="N", help="training cases (default: 150)")
    parser.add_argument("--queries", type=int, default=50, metavar="N", help="test cases (default: 50)")
    options = parser.parse_args(arguments)
    rows = table(*problem(options.cases, options.queries))
    print(f"softmax regression, {options.cases} cases of fashion16 as 4 x 4 pixels, η = {ETA:g}: the loss of each of")
    print(f"{options.queries} test cases without each training case, and what scores say of it\n\n{as_text(rows)}")
    return 0


def problem(cases: int, queries: int) -> tuple[Network, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The network, and X, Y of the training cases and of the queries."""
    data = datasets.load("fashion16")
    assert data.Y is not None and data.X_test is not None and data.Y_test is not None

    def small(X: np.ndarray) -> np.ndarray:
        return X.astype(np.float64).reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)

    network = Network([16, data.Y.shape[1]], "identity", "categorical")
    Y, Y_test = data.Y.astype(np.float64), data.Y_test.astype(np.float64)
    return network, small(data.X[:cases]), Y[:cases], small(data.X_test[:queries]), Y_test[:queries]


def minimum(
    network: Network, X: np.ndarray, Y: np.ndarray, start: Parameters, without: int | None = None
) -> Parameters:
    """The parameters at which ∇h is 0 but for rounding; ArithmeticError if Newton's method does not come there.

    A case that is left out has the weight 0 in a sum over cases that is divided by N as before, so that η keeps its
    share: it is the minimum with the mean over the others and ηN/(N−1).
    """
    theta, weights, eta = [W.copy() for W in start], np.ones(len(X)), ETA
    if without is not None:
        weights[without], eta = 0.0, ETA * len(X) / (len(X) - 1)
    for _ in range(NEWTON):
        forward_pass = ForwardPass(network, theta, X, weights=weights)
        _, gradient = loss_and_gradient(forward_pass, Y, eta)
        H = fisher.dense(forward_pass)
        step = np.linalg.solve(H + eta * np.eye(len(H)), kronecker.flatten(gradient))
        theta = [W - d for W, d in zip(theta, kronecker.unflatten(step, network.shapes), strict=True)]
        if np.abs(step).max() < 1e-12:
            return theta
    raise ArithmeticError(f"Newton's method has not come to the minimum in {NEWTON} iterations")


def left_out(
    network: Network, X: np.ndarray, Y: np.ndarray, theta: Parameters, Xq: np.ndarray, Yq: np.ndarray
) -> np.ndarray:
    """What leaving out each training case adds to the queries' losses, (Q, N), by training again."""
    N, nll = len(X), network.likelihood.nll
    before = nll(forward(network, theta, Xq).z, Yq)
    changes = np.empty((len(Xq), N))
    for n in range(N):
        changes[:, n] = nll(forward(network, minimum(network, X, Y, theta, n), Xq).z, Yq) - before
    return changes


def table(
    network: Network, X: np.ndarray, Y: np.ndarray, Xq: np.ndarray, Yq: np.ndarray
) -> list[dict[str, float | str]]:
    """For each matrix in the place of the Hessian, how its scores agree with `left_out`."""
    N, start = len(X), [np.zeros(shape) for shape in network.shapes]
    theta = minimum(network, X, Y, start)
    truth = left_out(network, X, Y, theta, Xq, Yq)
    scores = {
        "EKFAC": Influence(network, theta, X, Y, ETA).on(Xq, Yq)[0],
        "K-FAC": Influence(network, theta, X, Y, ETA, diagonal="kfac").on(Xq, Yq)[0],
        "EKFAC, empirical Fisher": Influence(network, theta, X, Y, ETA, "empirical").on(Xq, Yq)[0],
    }
    dense, forward_pass = np.eye(sum(a * b for a, b in network.shapes)), ForwardPass(network, theta, X)
    derivatives = [_derivatives(network, theta, x, y) for x, y in ((Xq, Yq), (X, Y))]
    exact = np.linalg.solve(fisher.dense(forward_pass) + ETA * dense, derivatives[1].T)
    scores = {"F itself": derivatives[0] @ exact} | scores | {"I, gradients alone": derivatives[0] @ derivatives[1].T}
    rows: list[dict[str, float | str]] = []
    for name, found in scores.items():
        ranks = [float(spearmanr(a, b).statistic) for a, b in zip(found, truth, strict=True)]
        slope = float(np.sum(found / N * truth) / np.sum(truth**2))
        quartiles = np.percentile(ranks, [25, 50, 75])
        keys = ("rank correlation, 25 %", "median", "75 %")
        rows.append({"matrix": name} | dict(zip(keys, map(float, quartiles), strict=True)) | {"size of s/N": slope})
    return rows


def _derivatives(network: Network, theta: Parameters, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """∇L of each case, (N, P), of a network of one layer."""
    forward_pass = ForwardPass(network, theta, X)
    ((_, activities),) = forward_pass.chunks()
    g = forward_pass.backward(activities, network.likelihood.derivative(activities.z, Y))
    return forward_pass.case_gradients(activities, g, 1)
