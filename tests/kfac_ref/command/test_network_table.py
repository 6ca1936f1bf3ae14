"""kfac_ref.command.network_table: what a table says of each layer."""

from __future__ import annotations

import re

from autodiff import text
from autodiff.network import described
from kfac_ref.command import network_table


def test_the_table_of_a_network():
    network = described(
        text.read("2x6x6: conv 4 3x3, residual [layer-norm relu, conv 4 3x3 padding=1], flatten, dense 3; gaussian")
    )
    rows = [re.split(r" {2,}", line.strip()) for line in network_table.lines(network)]
    assert rows == [
        ["layer", "output", "weights", "locations", "parameters"],
        ["input", "2x6x6"],
        ["1", "conv 4 3x3", "4x4x4", "4x19", "16", "76"],
        ["residual ["],
        ["2", "layer-norm relu", "4x4x4", "4x2", "16", "8"],
        ["3", "conv 4 3x3 padding=1x1", "4x4x4", "4x37", "16", "148"],
        ["]", "4x4x4"],
        ["flatten", "64"],
        ["4", "dense 3", "3", "3x65", "1", "195"],
        ["total", "427"],
    ]
    assert sum(d * p for d, p in network.shapes) == 427
