"""A network as a table: its layers, what each gives, its weights, where they are applied, and how many they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from autodiff import text
from autodiff.layers import Closing, Opening
from autodiff.network import Network

INDENT = 10
"""Of the lines, as of all below a heading."""


def lines(network: Network) -> Iterator[str]:
    """The table's, its headings first and the number of parameters last; layers with weights are numbered from 1."""
    rows: list[Sequence[str]] = [("", "layer", "output", "weights", "locations", "parameters")]
    rows.append(("", "input", _shape(network.input), "", "", ""))
    depth, number, total = 0, 0, 0
    for stage in network.stages:
        if isinstance(stage, Opening):
            rows.append(("", f"{'  ' * depth}{stage.kind} [", "", "", "", ""))
            depth += 1
            continue
        ends = isinstance(stage, Closing)
        depth -= ends
        name, weights, locations, parameters = "", "", "", ""
        if stage.shape:
            number += 1
            total += math.prod(stage.shape)
            name, weights = str(number), _shape(stage.shape)
            locations, parameters = str(stage.locations), f"{math.prod(stage.shape):,}"
        layer = "  " * depth + ("]" if ends else text.of_layer(stage))
        rows.append((name, layer, _shape(stage.output), weights, locations, parameters))
    rows.append(("", "total", "", "", "", f"{total:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        number_, layer, *middle, locations, parameters = row
        left = [cell.ljust(width) for cell, width in zip((layer, *middle), widths[1:4], strict=True)]
        right = [cell.rjust(width) for cell, width in zip((locations, parameters), widths[4:], strict=True)]
        yield " " * INDENT + "  ".join([number_.rjust(widths[0]), *left, *right]).rstrip()


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
