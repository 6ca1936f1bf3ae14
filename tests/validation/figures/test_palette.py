"""Colours of the methods."""

from __future__ import annotations

from validation.figures import autoencoders, figure_09, kfc, natural_gradient, recurrent, variants
from validation.figures.palette import (
    ADAM,
    COLOURS,
    CONSTANT_M,
    DIAGONAL,
    NATURAL_GRADIENT,
    PRESET_QUICK,
    SGD,
    TRIDIAGONAL,
)


def test_no_figure_has_a_colour_twice():
    assert natural_gradient.COLOURS is COLOURS
    for names in (
        variants.METHODS,
        tuple(figure_09.METHODS),
        (*autoencoders.KFAC.values(), PRESET_QUICK, CONSTANT_M, SGD),
        (*kfc.KFAC, *kfc.NORMALISED, SGD),
        (*recurrent.KFAC_TIMES, ADAM, SGD),
        (NATURAL_GRADIENT, TRIDIAGONAL, DIAGONAL, SGD),
    ):
        assert len({COLOURS[name] for name in names}) == len(names)
