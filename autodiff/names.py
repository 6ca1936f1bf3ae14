"""Choosing by name, with an error that helps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, names: Iterable[str], what: str) -> str:
    """`name` if it is one of `names`; otherwise a ValueError that says which name is nearest to it."""
    names = list(names)
    if name in names:
        return name
    raise ValueError(f'unknown {what} "{name}"{nearest(name, names)} (known: {", ".join(names)})')


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: which of `names` is near to it, or nothing if none is."""
    lower = {n.lower(): n for n in names}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    return f'; did you mean "{lower[near[0]]}"?' if near else ""
