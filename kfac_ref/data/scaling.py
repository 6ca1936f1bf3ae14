"""Standardisation: columns with mean 0 and variance 1."""

from __future__ import annotations

from dataclasses import dataclass

from autodiff.arrays import Array, device, namespace


@dataclass(frozen=True)
class Scaling:
    """x ↦ (x − mean)/scale, column by column."""

    mean: Array
    """(d,)."""
    scale: Array
    """(d,): the columns' standard deviations; 1 for a column that is constant but for rounding."""

    @classmethod
    def of(cls, X: Array, weights: Array | None = None) -> Scaling:
        """That which standardises the columns of X (N, d), cases weighted with `weights` (N,); in X's library and
        dtype."""
        return cls.from_moments(*moments(X, weights))

    @classmethod
    def from_moments(cls, mean: Array, variance: Array) -> Scaling:
        """That of columns with this `mean` (d,) and `variance` (d,)."""
        xp = namespace(mean)
        deviation = xp.sqrt(variance)
        constant = deviation <= 10 * xp.finfo(mean.dtype).eps * xp.abs(mean)
        return cls(mean, xp.where(constant | (deviation == 0), xp.ones_like(deviation), deviation))

    @classmethod
    def none(cls, d: int, like: Array) -> Scaling:
        """That which changes nothing, for d columns, with arrays like `like`."""
        xp = namespace(like)
        there = {"dtype": like.dtype, "device": device(like)}
        return cls(xp.zeros(d, **there), xp.ones(d, **there))

    def apply(self, X: Array) -> Array:
        """Standardised X (N, d), of its shape."""
        return (X - self.mean) / self.scale

    def undo(self, Z: Array) -> Array:
        """The reverse: X (N, d) of standardised Z (N, d)."""
        return Z * self.scale + self.mean


def moments(X: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and variance (d,) of each column of X (N, d), cases weighted with `weights` (N,)."""
    xp = namespace(X)
    if weights is None:
        mean = xp.mean(X, axis=0)
        return mean, xp.mean((X - mean) ** 2, axis=0)
    share = (weights / xp.sum(weights))[:, None]
    mean = xp.sum(share * X, axis=0)
    return mean, xp.sum(share * (X - mean) ** 2, axis=0)
