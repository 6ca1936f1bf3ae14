"""What is broken on purpose, and which statements must notice: one function for each, which patches the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from autodiff.likelihoods import LIKELIHOODS

Apply = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutation:
    """One thing that is broken."""

    says: str
    apply: Apply
    caught_by: tuple[str, ...]
    """Statements that must fail; others may."""


MUTATIONS: dict[str, Mutation] = {}


def caught_by(*statements: str) -> Callable[[Apply], Apply]:
    """Registers a function that breaks something, its docstring says what."""

    def register(apply: Apply) -> Apply:
        name = apply.__name__
        assert name not in MUTATIONS, name
        MUTATIONS[name] = Mutation(str(apply.__doc__), apply, statements)
        return apply

    return register


def after(patch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """`owner.name` returns `change(what it returned, its arguments …)`."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **named: change(original(*args, **named), *args, **named))


def likelihood(patch: pytest.MonkeyPatch, name: str, **changed: Any) -> None:
    """Other functions in a row of the table of likelihoods."""
    patch.setitem(LIKELIHOODS, name, replace(LIKELIHOODS[name], **changed))


def transposed(M: np.ndarray) -> np.ndarray:
    """Mᵀ where that has M's shape, so that what is wrong does not raise; M elsewhere."""
    return M.T if M.shape[0] == M.shape[1] else M


from tests.validation.theorems.mutations import (  # noqa: E402
    fisher,  # noqa: F401
    invariance,  # noqa: F401
    inverses,  # noqa: F401
    networks,  # noqa: F401
    recurrent,  # noqa: F401
    shared_weights,  # noqa: F401
    steps,  # noqa: F401
)
