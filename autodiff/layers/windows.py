"""Windows that move over an image: how many there are, and which pixels each place in a window sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from autodiff.arrays import Array, device, image_rows, namespace

Pair = tuple[int, int]
"""Vertical and horizontal."""


@dataclass(frozen=True)
class Windows:
    """Windows of `size` over an image of (H, W) pixels, moving by `stride`, their places `dilation` apart."""

    image: Pair
    size: Pair
    stride: Pair
    dilation: Pair = (1, 1)

    @property
    def number(self) -> Pair:
        """(H′, W′), the windows that fit."""
        sides = zip(self.image, self.size, self.stride, self.dilation, strict=True)
        v, h = ((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sides)
        return v, h

    def along(self, axis: int) -> list[slice]:
        """For each row (axis 0) or column (axis 1) of the window, the pixels there, of all windows."""
        n, s, d = self.number[axis], self.stride[axis], self.dilation[axis]
        return [slice(k * d, k * d + (n - 1) * s + 1, s) for k in range(self.size[axis])]

    def places(self) -> Iterator[tuple[slice, slice]]:
        """For each place in the window, row by row, the pixels there, of all windows."""
        return product(self.along(0), self.along(1))


def patches(x: Array, windows: Windows, ones: bool) -> Array:
    """What each window sees of images x (m, H, W, c): (m, H′, W′, kh·kw·c), with `ones` a last column of 1 (KFC §2).

    Of images of one channel it lies in memory place after place, which is several times faster to write.
    """
    xp, (kh, kw), (H, W), (m, *_, c) = namespace(x), windows.size, windows.number, x.shape
    columns = kh * kw * c + ones
    if c == 1:
        a = xp.permute_dims(xp.empty((columns, m, H, W), dtype=x.dtype, device=device(x)), (1, 2, 3, 0))
    else:
        a = xp.empty((m, H, W, columns), dtype=x.dtype, device=device(x))
    if c > 1 and windows.dilation[1] == 1 and (rows := image_rows(x, windows.stride[1], W, kw)) is not None:
        # a row of a window lies together in memory, and is copied as a whole
        for i in range(kh):
            start = i * windows.dilation[0]
            seen = rows[:, start : start + (H - 1) * windows.stride[0] + 1 : windows.stride[0], :, :]
            a[..., i * kw * c : (i + 1) * kw * c] = seen
    else:
        for place, (v, h) in enumerate(windows.places()):
            a[..., place * c : (place + 1) * c] = x[:, v, h, :]
    if ones:
        a[..., -1] = 1.0
    return a


def put_back(parts: Iterable[Array], windows: Windows) -> Array:
    """Images (…, H, W, c) in which each pixel is the sum of what the windows that see it have there: `parts` has for
    each of `places` one of shape (…, H′, W′, c). It is the adjoint of looking through the windows (KFC §2)."""
    disjoint = all(s >= d * (k - 1) + 1 for k, s, d in zip(windows.size, windows.stride, windows.dilation, strict=True))
    images = None
    for part, (v, h) in zip(parts, windows.places(), strict=True):
        if images is None:
            shape = (*part.shape[:-3], *windows.image, part.shape[-1])
            images = namespace(part).zeros(shape, dtype=part.dtype, device=device(part))
        if disjoint:  # nothing is there yet, and writing takes half the time of adding
            images[..., v, h, :] = part
        else:
            images[..., v, h, :] += part
    return images
