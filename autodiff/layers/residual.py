"""A residual block, y = x + f(x): where it opens and where it closes; between these lie the layers of f.

The passes keep x (or, backwards, 𝒟y) of the blocks that are open, and add it where a block ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autodiff.layers.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Opening(Layer):
    """x is kept, and goes on to f."""

    kind: ClassVar[str] = "residual"


@dataclass(frozen=True, kw_only=True)
class Closing(Layer):
    """What was kept is added to f(x)."""

    kind: ClassVar[str] = "residual"
