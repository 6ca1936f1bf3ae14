"""Arrays in lists, dictionaries and dataclasses: taken out, to go as one message, and put back in their places."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from autodiff.arrays import Array, from_upper_triangle, upper_triangle


@dataclass(frozen=True)
class Symmetric:
    """A symmetric matrix (n, n), of which only a triangle is taken out."""

    matrix: Array


@dataclass(frozen=True)
class Place:
    """Where an array was, in a tree from which all were taken."""

    number: int
    size: int | None = None
    """n of a `Symmetric` (n, n)."""


def apart(tree: Any) -> tuple[Any, list[Array]]:
    """The tree with `Place`s where it has arrays, and these, of any shapes. What is no array and holds none stays."""
    found: list[Array] = []
    return _apart(tree, found), found


def _apart(tree: Any, found: list[Array]) -> Any:
    if isinstance(tree, Symmetric):
        found.append(upper_triangle(tree.matrix))
        return Place(len(found) - 1, tree.matrix.shape[0])
    if hasattr(tree, "shape"):
        found.append(tree)
        return Place(len(found) - 1)
    if isinstance(tree, dict):
        return {key: _apart(x, found) for key, x in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [_apart(x, found) for x in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(**{f.name: _apart(getattr(tree, f.name), found) for f in fields(tree)})
    return tree


def together(tree: Any, arrays: list[Array]) -> Any:
    """The reverse of `apart`, from `arrays` of the shapes that it took out."""
    if isinstance(tree, Place):
        x = arrays[tree.number]
        return x if tree.size is None else Symmetric(from_upper_triangle(x, tree.size))
    if isinstance(tree, dict):
        return {key: together(x, arrays) for key, x in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [together(x, arrays) for x in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(**{f.name: together(getattr(tree, f.name), arrays) for f in fields(tree)})
    return tree
