"""Arrays taken out of trees and put back."""

from __future__ import annotations

from typing import NamedTuple

from autodiff import trees
from autodiff.arrays import to_numpy
from autodiff.trees import Symmetric
from kfac_ref.curvature.factors import Factors
from tests.conftest import assert_close, assert_home, positive_definite, to


class Pair(NamedTuple):
    left: object
    right: object


def test_apart_and_together(like, rng):
    S, x, y = to(like, positive_definite(rng, 4), rng.standard_normal((2, 3)), rng.standard_normal(5))
    tree = [Pair(x, None), {"name": "text", (1, 2): (3.5, y)}, Factors({(0, 0): Symmetric(S)}, {(1, 1): x})]
    emptied, found = trees.apart(tree)
    assert [tuple(a.shape) for a in found] == [(2, 3), (5,), (10,), (2, 3)]
    for a in found:
        assert_home(a, like)
    back = trees.together(emptied, [2 * a for a in found])
    assert isinstance(back[0], Pair) and back[0].right is None and back[1]["name"] == "text"
    assert back[1][1, 2][0] == 3.5
    assert_close(back[0].left, 2 * to_numpy(x), like)
    assert_close(back[1][1, 2][1], 2 * to_numpy(y), like)
    assert_close(back[2].A[0, 0].matrix, 2 * to_numpy(S), like)
    assert_close(back[2].G[1, 1], 2 * to_numpy(x), like)
