"""How well targets are predicted: accuracy, log-loss and confusion of classes; R² and RMSE of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 1e-15
"""A probability below this counts as this much in the log-loss, which would be infinite at 0."""


@dataclass(frozen=True)
class ClassMeasures:
    """Of a classifier, on N cases."""

    cases: int
    accuracy: float
    log_loss: float
    """−log of the probability that the true class was given, mean over cases."""
    confusion: np.ndarray
    """(K, K): how many cases of the class of the row were predicted to be of that of the column."""
    classes: list[str]

    @property
    def recall(self) -> np.ndarray:
        """Of the cases of each class, the fraction that was found, (K,); NaN where there were none."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusion) / self.confusion.sum(1)

    @property
    def precision(self) -> np.ndarray:
        """Of the cases said to be of each class, the fraction that is, (K,); NaN where there were none."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusion) / self.confusion.sum(0)

    def __str__(self) -> str:
        width = max(len(name) for name in [*self.classes, "true \\ said"])
        cells = max(len(str(self.confusion.max())), *(len(name) for name in self.classes))
        header = "true \\ said".ljust(width)
        lines = [
            f"cases      {self.cases}",
            f"accuracy   {self.accuracy:.4f}",
            f"log-loss   {self.log_loss:.4f}",
            "",
            "  ".join([header, *(name.rjust(cells) for name in self.classes), "recall"]),
        ]
        for name, row, recall in zip(self.classes, self.confusion, self.recall, strict=True):
            lines.append("  ".join([name.ljust(width), *(str(x).rjust(cells) for x in row), f"{recall:6.3f}"]))
        lines.append("  ".join(["precision".ljust(width), *(f"{x:.3f}".rjust(cells) for x in self.precision)]))
        return "\n".join(lines)


@dataclass(frozen=True)
class NumberMeasures:
    """Of what predicts numbers, on N cases."""

    cases: int
    r2: float
    """1 − Σ(y − ŷ)²/Σ(y − ȳ)², mean over columns; NaN if a column is constant."""
    rmse: float
    """sqrt of the mean of (y − ŷ)² over cases and columns."""
    mae: float
    """Mean of |y − ŷ| over cases and columns."""
    truth: np.ndarray
    """(N, d)."""
    predicted: np.ndarray
    """(N, d)."""

    def __str__(self) -> str:
        return f"cases  {self.cases}\nR²     {self.r2:.4f}\nRMSE   {self.rmse:.6g}\nMAE    {self.mae:.6g}"


Measures = ClassMeasures | NumberMeasures


def of_classes(truth: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> ClassMeasures:
    """Of one-hot `truth` (N, K) and `probabilities` (N, K)."""
    true, said = truth.argmax(1), probabilities.argmax(1)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (true, said), 1)
    given = np.clip(probabilities[np.arange(len(true)), true], LEAST, 1)
    return ClassMeasures(len(true), float((true == said).mean()), float(-np.log(given).mean()), confusion, classes)


def of_numbers(truth: np.ndarray, predicted: np.ndarray) -> NumberMeasures:
    """Of `truth` and `predicted`, (N, d) each."""
    off = predicted - truth
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = float(np.mean(1 - (off**2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)))
    rmse, mae = float(np.sqrt((off**2).mean())), float(np.abs(off).mean())
    return NumberMeasures(len(truth), r2 if np.isfinite(r2) else float("nan"), rmse, mae, truth, predicted)
