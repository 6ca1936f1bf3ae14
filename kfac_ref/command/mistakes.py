"""The picture `mistakes.png`: images that a classifier takes for another class than theirs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from autodiff.arrays import Array, to_numpy
from autodiff.network import Network, Parameters
from autodiff.objective import EVALUATED
from autodiff.passes import forward

SHOWN = 16
COLUMNS = 8


def first(network: Network, parameters: Parameters, X: Array, Y: Array) -> tuple[np.ndarray, np.ndarray]:
    """The first cases that are misclassified, at most SHOWN (n, d), and (n, 2) their class and the likeliest one."""
    mistakes = network.likelihood.mistakes
    assert mistakes is not None
    images, classes = [np.zeros((0, X.shape[1]))], [np.zeros((0, 2), dtype=int)]
    left = SHOWN
    for start in range(0, X.shape[0], EVALUATED):
        x, y = X[start : start + EVALUATED, :], Y[start : start + EVALUATED, :]
        z = forward(network, parameters, x).z
        wrong = np.flatnonzero(to_numpy(mistakes(z, y)))[:left]
        images.append(to_numpy(x)[wrong])
        classes.append(np.stack([to_numpy(scores)[wrong].argmax(1) for scores in (y, z)], axis=1))
        left -= len(wrong)
        if not left:
            break
    return np.concatenate(images), np.concatenate(classes)


def picture(images: np.ndarray, classes: np.ndarray, shape: tuple[int, int], title: str) -> Figure:
    """Images (n, d) of `shape`, each under its class and the one that it is taken for."""
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(8, 0.5 + rows * (0.3 + shape[0] / shape[1])), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for ax in grid.ravel():
        ax.set_axis_off()
    for ax, image, (own, taken) in zip(grid.ravel(), images, classes, strict=False):
        ax.imshow(image.reshape(shape), cmap="gray", interpolation="nearest")
        ax.set_title(f"{own} → {taken}", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure
