"""The picture of an evaluation: a confusion matrix, or predictions against what they should have been."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from kfac_ref.command.plots import GRID, TRAIN
from kfac_ref.training.measures import ClassMeasures, Measures, NumberMeasures

SHOWN = 5000
"""Points in a picture: more would hide each other."""
WRITTEN = 20
"""Up to as many classes have their numbers of cases written in the matrix."""


def picture(found: Measures, title: str) -> Figure:
    """The picture of `found`."""
    return _matrix(found, title) if isinstance(found, ClassMeasures) else _scatter(found, title)


def _matrix(found: ClassMeasures, title: str) -> Figure:
    K = len(found.classes)
    side = float(np.clip(2.5 + 0.45 * K, 4, 14))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    ax = figure.subplots()
    with np.errstate(invalid="ignore"):
        share = np.nan_to_num(found.confusion / found.confusion.sum(1, keepdims=True))
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=ax, label="fraction of the cases of the true class", shrink=0.8)
    ax.set_xticks(range(K), found.classes, rotation=45 if K > 5 else 0, ha="right" if K > 5 else "center")
    ax.set_yticks(range(K), found.classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    if K <= WRITTEN:
        for i in range(K):
            for j in range(K):
                ax.text(j, i, found.confusion[i, j], ha="center", va="center", color="w" if share[i, j] > 0.5 else "k")
    figure.suptitle(f"{title}\naccuracy {found.accuracy:.4f}, log-loss {found.log_loss:.4f}", fontsize=9)
    return figure


def _scatter(found: NumberMeasures, title: str) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    ax = figure.subplots()
    truth, predicted = found.truth.ravel(), found.predicted.ravel()
    if len(truth) > SHOWN:
        chosen = np.random.default_rng(0).choice(len(truth), SHOWN, replace=False)
        truth, predicted = truth[chosen], predicted[chosen]
    ax.grid(True, color=GRID, lw=0.6)
    ax.axline((float(truth.mean()), float(truth.mean())), slope=1, color="#555555", lw=0.8)
    ax.plot(truth, predicted, ".", color=TRAIN, ms=3, alpha=0.6)
    ax.set_xlabel("true")
    ax.set_ylabel("predicted")
    ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}\nR² {found.r2:.4f}, RMSE {found.rmse:.4g}", fontsize=9)
    return figure
