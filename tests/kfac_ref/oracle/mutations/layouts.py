"""Layouts that other implementations have, as orders of the entries of θ and of ā."""

from __future__ import annotations

import re

import numpy as np

from autodiff import Network


def arranged(M: np.ndarray, bias: str | None, both: bool = False) -> np.ndarray:
    """M, whose last column belongs to the bias, with the bias first or left out; the rows too if `both`."""
    columns = list(range(M.shape[1]))
    if bias == "first":
        columns = [columns[-1], *columns[:-1]]
    elif bias in ("absent", "separate"):
        columns = columns[:-1]
    return M[np.ix_(columns, columns)] if both else M[:, columns]


def orders(rows: int, columns: int) -> dict[tuple[str, str], list[np.ndarray]]:
    """Where W's entries, read in another order, are in vec(W); by (row- or column-major, place of the bias)."""
    at = np.arange(rows * columns).reshape((rows, columns), order="F")
    weights, bias = at[:, :-1], at[:, -1]
    first = arranged(at, "first")
    by_rows, by_columns = weights.flatten(), weights.flatten(order="F")
    return {
        ("column", "last"): [at.flatten(order="F")],
        ("column", "first"): [first.flatten(order="F")],
        ("column", "absent"): [by_columns],
        ("row", "last"): [at.flatten(), np.concatenate([by_rows, bias])],
        ("row", "first"): [first.flatten(), np.concatenate([bias, by_rows])],
        ("row", "absent"): [by_rows],
    }


def theta_order(network: Network, layers: list[int], key: tuple[str, str], which: int, reverse: bool = False):
    """Where the entries of θ (of these layers alone) are, all layers in the order `key`."""
    offset, parts = 0, []
    for i in layers:
        order = orders(*network.shapes[i - 1])[key]
        parts.append(offset + order[which])
        offset += int(np.prod(network.shapes[i - 1]))
    return np.concatenate(parts[::-1] if reverse else parts)


def candidates(network: Network, layers: list[int], text: str, bias: str | None):
    """The orders that a claim's words and place of the bias may mean."""
    major = "row" if "row-major" in text or "row major" in text else "column"
    places = {"absent": ["absent"], "first": ["first"], "separate": ["last", "first", "absent"]}.get(
        bias or "", ["last"]
    )
    for place in places:
        for which in range(len(orders(1, 2)[major, place])):
            yield theta_order(network, layers, (major, place), which, bool(re.search("revers|last layer first", text)))
