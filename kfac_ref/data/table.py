"""Tables: columns of numbers and of words become the inputs and targets of a network, by a recipe that is kept.

A recipe is made from the training cases and is applied as it is to all others: which columns there are, what fills a
missing value, which words a column may hold, and what the classes are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autodiff.names import nearest

MOST_CATEGORIES = 1000
"""A column of more different words is taken for a mistake, such as names or identifiers."""

Columns = Mapping[str, Any]
"""Columns by name, each with one value for each case: a dictionary of arrays, or what `columns_of` makes of another."""


def columns_of(data: Any) -> Columns | None:
    """The columns of a dictionary, or of a DataFrame of pandas, Polars and others; None of what has no names."""
    if isinstance(data, Mapping):
        return data
    names = getattr(data, "columns", None)
    return None if names is None else {str(name): data[name] for name in names}


@dataclass(frozen=True)
class Column:
    """A column, and what is done to it."""

    name: str
    categories: tuple[str, ...] | None = None
    """The words that it may hold, each of which becomes an input of 0 or 1; None for a column of numbers."""
    fill: float | str | None = None
    """What takes the place of a missing value; None: that is an error."""

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs that it becomes."""
        if self.categories is None:
            return [self.name]
        return [f"{self.name}={category}" for category in self.categories]

    def encode(self, values: Any, where: str) -> np.ndarray:
        """(N, inputs) from N values; ValueError naming row and column of one that cannot be."""
        words, missing = _read(values)
        if self.fill is None and missing.any():
            row = int(np.argmax(missing))
            raise ValueError(
                f'{where}: row {row + 1}, column "{self.name}" is missing; give --impute median, or --drop '
                f'"{self.name}"'
            )
        if self.categories is None:
            numbers = _numbers(words, missing, self.name, where)
            return np.where(missing, np.float64(self.fill or 0.0), numbers)[:, None]
        words = np.where(missing, np.asarray(self.fill, dtype=object), _as_text(words))
        known = np.asarray(self.categories, dtype=object)
        encoded = words[:, None] == known[None, :]
        if not encoded.any(1).all():
            row = int(np.argmin(encoded.any(1)))
            raise ValueError(
                f'{where}: row {row + 1}, column "{self.name}" is "{words[row]}", which was not among the training '
                f"cases' {len(known)} categories{nearest(str(words[row]), self.categories)}"
            )
        return encoded.astype(np.float64)

    def __str__(self) -> str:
        filled = "" if self.fill is None else f"; missing: {self.fill if self.categories else f'{self.fill:g}'}"
        if self.categories is None:
            return f"number{filled}"
        shown = ", ".join(self.categories[:6]) + (" …" if len(self.categories) > 6 else "")
        return f"{len(self.categories)} categories, one-hot: {shown}{filled}"


@dataclass(frozen=True)
class Recipe:
    """What is done to each column of a table."""

    columns: tuple[Column, ...]
    target: str | None
    classes: tuple[str, ...] | None
    """What the classes are called, in the order of the network's outputs; None where numbers are predicted."""
    dropped: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[str]:
        """The names of the network's inputs."""
        return [name for column in self.columns for name in column.inputs]

    def encode(self, table: Columns, where: str = "the table") -> np.ndarray:
        """The network's inputs X (N, d_0), before standardisation; other columns than the recipe's are ignored.

        ValueError naming a column that is missing, or row and column of a value that cannot be taken.
        """
        present = list(table)
        for column in self.columns:
            if column.name not in present:
                raise ValueError(f'{where} has no column "{column.name}"{nearest(column.name, present)}')
        return np.concatenate([column.encode(table[column.name], where) for column in self.columns], axis=1)

    def targets(self, table: Columns, where: str = "the table") -> np.ndarray | None:
        """Y (N, K), one-hot, or (N, 1), numbers; None if the table has no such column or there is no target."""
        if self.target is None or self.target not in table:
            return None
        return Column(self.target, self.classes).encode(table[self.target], where)

    def asdict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def fromdict(cls, values: Mapping[str, Any]) -> Recipe:
        """The reverse of `asdict`."""

        def words(x: Sequence[str] | None) -> tuple[str, ...] | None:
            return None if x is None else tuple(x)

        columns = tuple(Column(c["name"], words(c["categories"]), c["fill"]) for c in values["columns"])
        return cls(columns, values["target"], words(values["classes"]), tuple(values["dropped"]))

    def __str__(self) -> str:
        """A line for each column."""
        width = max(len(x) for x in [*(c.name for c in self.columns), self.target or "", *self.dropped])
        lines = [f"{column.name:<{width}}  {column}" for column in self.columns]
        lines += [f"{name:<{width}}  dropped" for name in self.dropped]
        if self.target is not None:
            kind = "number" if self.classes is None else f"{len(self.classes)} classes: {', '.join(self.classes[:10])}"
            lines.append(f"{self.target:<{width}}  target, {kind}")
        return "\n".join(lines)


def recipe(
    table: Columns,
    rows: np.ndarray,
    where: str,
    *,
    target: str | None = None,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    impute: str | None = None,
    classify: bool | None = None,
) -> Recipe:
    """The recipe for a table, from its training cases.

    Parameters
    ----------
    table : columns by name
    rows : ndarray of int, (N,)
        The training cases; medians are theirs. Categories and classes are those of all cases.
    where : str
        The file's name, for messages.
    target : str, optional
        The column to be predicted; without one, all are inputs.
    drop, categorical : sequence of str
        Columns that are left out; columns of numbers that are names of categories. Those of words are so anyway.
    impute : {"median"}, optional
        Fill what is missing: numbers by the median of the training cases, categories by the commonest.
    classify : bool, optional
        Whether the target's values are classes; unless it is said, they are if they are not numbers.

    Raises
    ------
    ValueError
        Naming the column that is not there or cannot be used.
    """
    names = list(table)
    if not names:
        raise ValueError(f"{where} has no columns")
    for what, given in (
        ("--target", [] if target is None else [target]),
        ("--drop", drop),
        ("--categorical", categorical),
    ):
        for name in given:
            if name not in names:
                raise ValueError(f'{where} has no column "{name}" ({what}), but {_listed(names)}{nearest(name, names)}')
    columns = []
    for name in names:
        if name == target or name in drop:
            continue
        words, missing = _read(table[name])
        if missing.all():
            raise ValueError(f'{where}: column "{name}" is empty; give --drop "{name}"')
        there = ~missing
        if name not in categorical:
            _require_no_strays(words, missing, name, where, f'--categorical "{name}"')
        if name in categorical or not _is_numeric(words):
            categories = _categories(words[there], name, where)
            found, counts = np.unique(_as_text(words[rows][there[rows]]), return_counts=True)
            columns.append(Column(name, categories, None if impute is None else str(found[np.argmax(counts)])))
        else:
            of_training = _numbers(words, missing, name, where)[rows][there[rows]]
            columns.append(Column(name, None, None if impute is None else float(np.median(of_training))))
    if not columns:
        raise ValueError(f"{where} has no column that is an input")
    classes = None
    if target is not None:
        words, missing = _read(table[target])
        if missing.any():
            row = int(np.argmax(missing))
            raise ValueError(f'{where}: row {row + 1}, column "{target}", the target, is missing')
        if classify is None:
            _require_no_strays(words, missing, target, where, "--likelihood categorical")
        if classify or (classify is None and not _is_numeric(words)):
            classes = _categories(words, target, where)
            if len(classes) < 2:
                raise ValueError(f'{where}: column "{target}", the target, has one class, "{classes[0]}", in all rows')
    return Recipe(tuple(columns), target, classes, tuple(name for name in names if name in drop))


def _require_no_strays(words: np.ndarray, missing: np.ndarray, name: str, where: str, instead: str) -> None:
    """ValueError naming the first word of a column of which most values are numbers: it is hardly one of categories."""
    if _is_numeric(words):
        return
    strays = [row for row, word in enumerate(words.tolist()) if not (missing[row] or _is_number(word))]
    if 2 * len(strays) < np.sum(~missing) and strays:
        raise ValueError(
            f'{where}: row {strays[0] + 1}, column "{name}" is "{words[strays[0]]}", expected a number as in most '
            f"rows; give {instead} if all of them are names"
        )


def _is_number(word: Any) -> bool:
    try:
        float(word)
    except (TypeError, ValueError):
        return False
    return True


def _categories(words: np.ndarray, name: str, where: str) -> tuple[str, ...]:
    found = np.unique(words) if _is_numeric(words) else np.unique(_as_text(words))
    if len(found) > MOST_CATEGORIES:
        raise ValueError(
            f'{where}: column "{name}" has {len(found)} different values, too many for categories '
            f'(at most {MOST_CATEGORIES}); give --drop "{name}"'
        )
    return tuple(_as_text(found).tolist())


def _read(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values as an array, and which of them are missing: None, NaN, or an empty text."""
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        return array, np.zeros(len(array), dtype=bool)
    if array.dtype.kind == "f":
        return array, np.isnan(array)
    if array.dtype.kind not in "OUT":
        return array.astype(str).astype(object), np.zeros(len(array), dtype=bool)
    array = array.astype(object)
    # NaN alone is not equal to itself
    missing = np.asarray([x is None or x == "" or x != x for x in array], dtype=bool)
    if all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in array[~missing]):
        return np.where(missing, np.nan, array).astype(np.float64), missing
    return array, missing


def _is_numeric(words: np.ndarray) -> bool:
    return words.dtype.kind in "iuf"


def _as_text(words: np.ndarray) -> np.ndarray:
    """Values as texts, whole numbers without a point."""
    if words.dtype.kind == "f":
        return np.asarray([str(x) if x % 1 or abs(x) > 1e15 else str(int(x)) for x in words.tolist()], dtype=object)
    return np.asarray([str(x) for x in words.tolist()], dtype=object)


def _numbers(words: np.ndarray, missing: np.ndarray, name: str, where: str) -> np.ndarray:
    """As float64; ValueError naming the first that is no finite number."""
    if words.dtype.kind == "O":
        for row, word in enumerate(words):
            try:
                float(word if not missing[row] else 0)
            except (TypeError, ValueError):
                raise ValueError(
                    f'{where}: row {row + 1}, column "{name}" is "{word}", expected a number as in the training cases'
                ) from None
        words = np.asarray([np.nan if gone else float(x) for x, gone in zip(words, missing, strict=True)])
    numbers = words.astype(np.float64)
    bad = np.isinf(numbers)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f'{where}: row {row + 1}, column "{name}" is {numbers[row]}, expected finite numbers')
    return numbers


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
