"""What the methods are called in legends, and their colours: the same in all figures."""

from __future__ import annotations

TRIDIAGONAL = "K-FAC, block-tridiagonal"
DIAGONAL = "K-FAC, block-diagonal"
CONSTANT_M = "K-FAC, block-diagonal, m = 1000 throughout"
PRESET_AUTHORS = "K-FAC, preset authors"
PRESET_QUICK = "K-FAC, preset quick"
NO_MOMENTUM = "K-FAC, block-tridiagonal, no momentum"
EXACT_DAMPING = "exact damping"
EMPIRICAL = "empirical Fisher"
EKFAC = "EKFAC"
NATURAL_GRADIENT = "exact natural gradient"
EXPAND = "K-FAC, expand"
REDUCE = "K-FAC, reduce"
FULL_BLOCKS = "K-FAC, expand, full blocks"
DIAGONAL_BLOCKS = "K-FAC, expand, diagonal blocks"
INDEPENDENT = "K-FAC, steps independent"
SYMMETRIC = "K-FAC, symmetric chain"
STATIONARY = "K-FAC, stationary chain"
ADAM = "Adam"
SGD = "SGD with Nesterov momentum"

COLOURS = {
    TRIDIAGONAL: "#1f5fa8",
    DIAGONAL: "#d1601f",
    CONSTANT_M: "#8250a8",
    PRESET_AUTHORS: "#1f5fa8",
    PRESET_QUICK: "#b5457a",
    NO_MOMENTUM: "#b5457a",
    EXACT_DAMPING: "#8a8a8a",
    EMPIRICAL: "#7a5c3e",
    EKFAC: "#222222",
    NATURAL_GRADIENT: "#222222",
    EXPAND: "#d1601f",
    REDUCE: "#1f5fa8",
    FULL_BLOCKS: "#222222",
    DIAGONAL_BLOCKS: "#b5457a",
    INDEPENDENT: "#8a8a8a",
    SYMMETRIC: "#d1601f",
    STATIONARY: "#1f5fa8",
    ADAM: "#8250a8",
    SGD: "#5a8f3c",
}
"""A colour may serve several methods that no figure has together."""
