"""Windows over an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autodiff.arrays import to_numpy
from autodiff.layers.windows import Windows, patches
from tests import naive_layers
from tests.conftest import make_like, to

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def some_windows(image, size, stride, dilation) -> Windows:
    assume(all(d * (k - 1) < n for n, k, d in zip(image, size, dilation, strict=True)))
    return Windows(image, size, stride, dilation)


@given(st.tuples(st.integers(1, 7), st.integers(1, 7)), PAIRS, PAIRS, PAIRS, st.integers(1, 3), st.booleans())
def test_against_one_window_at_a_time(image, size, stride, dilation, channels, ones):
    windows = some_windows(image, size, stride, dilation)
    x = np.arange(2.0 * channels * image[0] * image[1]).reshape(2, channels, *image)
    for library in ("numpy-float64", "strict-float64"):
        a = to_numpy(patches(to(make_like(library), np.moveaxis(x, 1, -1)), windows, ones))
        for case, seen in zip(x, a, strict=True):
            expected, number = naive_layers.patches(case, size, stride, 0, dilation)
            assert windows.number == number == seen.shape[:2]
            rows = [np.append(np.moveaxis(patch, 0, -1).reshape(-1), [1.0] * ones) for patch in expected]
            np.testing.assert_array_equal(seen.reshape(len(rows), -1), rows)


@given(st.tuples(st.integers(1, 7), st.integers(1, 7)), PAIRS, PAIRS, PAIRS)
def test_places_are_inside(image, size, stride, dilation):
    windows = some_windows(image, size, stride, dilation)
    pixels = np.arange(image[0] * image[1]).reshape(image)
    places = list(windows.places())
    assert len(places) == size[0] * size[1]
    for v, h in places:
        assert pixels[v, h].shape == windows.number
        assert v.stop <= image[0] and h.stop <= image[1]


@pytest.mark.parametrize(("image", "number"), [((2, 5), (0, 3)), ((1, 2), (-1, 0))])
def test_none_fits(image, number):
    assert Windows(image, (3, 3), (1, 1)).number == number
