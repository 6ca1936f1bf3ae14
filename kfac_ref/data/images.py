"""Images in, images out: area averaging, curves like those of CURVES, and patches of faces like those of FACES.

Pure functions of their arguments; whatever is random takes a `numpy.random.Generator`. Pixel (i, j) has its centre at
row i and column j.
"""

import math

import numpy as np

# Half the width of a pen stroke, in pixels.
PEN_RADIUS = 0.75
# Points at which a curve is drawn: at most about half a pixel apart, so that the stroke has no gaps.
CURVE_POINTS = 200
# The least radius, in pixels, of a curve's sharpest turn: parabolas through random points are often hairpins.
SHARPEST_TURN = 2.0


def averaging_matrix(fine: int, coarse: int) -> np.ndarray:
    """The matrix that averages `fine` pixels in a row into `coarse` ones by the area that they share.

    Parameters
    ----------
    fine, coarse : int
        Numbers of pixels across the same length; neither need divide the other.

    Returns
    -------
    P : ndarray, (coarse, fine), float64
        Every row sums to one.
    """
    edges = np.arange(coarse + 1) * (fine / coarse)
    left, right = edges[:-1, None], edges[1:, None]
    j = np.arange(fine)
    # P_ij = |[left_i, right_i] ∩ [j, j+1]| / (right_i - left_i)
    return np.clip(np.minimum(right, j + 1) - np.maximum(left, j), 0, None) * (coarse / fine)


def area_average(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Images of another size, each new pixel the average of the area that it covers.

    Parameters
    ----------
    images : ndarray, (N, r, c), real
    rows, columns : int
        Size of the images returned.

    Returns
    -------
    ndarray, (N, rows, columns)
        In the units of `images`: float32, or float64 for types that float32 cannot hold.

    Raises
    ------
    ValueError
        If `images` is not three-dimensional or a size is not positive.
    """
    if images.ndim != 3 or 0 in images.shape[1:]:
        raise ValueError(f"images have shape {images.shape}, expected (N, rows, columns)")
    if rows < 1 or columns < 1:
        raise ValueError(f"size {rows} x {columns} of an averaged image, expected at least 1 x 1")
    dtype = np.result_type(images, np.float32)
    P = averaging_matrix(images.shape[1], rows).astype(dtype)
    Q = averaging_matrix(images.shape[2], columns).astype(dtype)
    return P @ images.astype(dtype, copy=False) @ Q.T


def through_three_points(points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The parabola in t that passes the three points at t = 0, 1/2 and 1.

    Parameters
    ----------
    points : ndarray, (N, 3, 2)
        Row and column of each point, in pixels.
    t : ndarray, (S,)

    Returns
    -------
    ndarray, (N, S, 2)
    """
    # Lagrange's basis: (1-t)(1-2t), 4t(1-t), t(2t-1)
    basis = np.stack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)], axis=1)
    return basis @ points


def random_points(count: int, rng: np.random.Generator, size: int = 28) -> np.ndarray:
    """Three random points for each of `count` curves that a pen would draw.

    Points are uniform on the image less a margin, and drawn again if their curve would leave the image, turn more
    sharply than a circle of `SHARPEST_TURN` pixels' radius, or be shorter than a quarter of the image.

    Parameters
    ----------
    count : int
    rng : numpy.random.Generator
    size : int
        Rows and columns of the image.

    Returns
    -------
    ndarray, (count, 3, 2), float64
        Row and column of each point, in pixels.
    """
    margin = size / 14
    t = np.linspace(0, 1, 65)
    kept = [np.empty((0, 3, 2))]
    found = 0
    while found < count:
        points = rng.uniform(margin, size - 1 - margin, (2 * count + 16, 3, 2))
        curve = through_three_points(points, t)
        inside = (curve.min((1, 2)) >= margin) & (curve.max((1, 2)) <= size - 1 - margin)
        step = np.diff(curve, axis=1)
        length = np.linalg.norm(step, axis=2)
        before, after = length[:, :-1], length[:, 1:]
        cross = np.abs(step[:, :-1, 0] * step[:, 1:, 1] - step[:, :-1, 1] * step[:, 1:, 0])
        # |s × s'| = |s| |s'| sin(angle turned), and angle turned / length of a step = curvature
        smooth = (cross * SHARPEST_TURN <= before * after * np.minimum(before, after)).all(1)
        good = points[inside & smooth & (length.sum(1) >= size / 4)]
        kept.append(good)
        found += len(good)
    return np.concatenate(kept)[:count]


def draw_curves(points: np.ndarray, size: int = 28) -> np.ndarray:
    """Antialiased pen strokes along the curves through three points each (§13).

    Parameters
    ----------
    points : ndarray, (N, 3, 2)
        Row and column of each point, in pixels. What lies outside the image is not drawn.
    size : int
        Rows and columns of an image.

    Returns
    -------
    ndarray, (N, size, size), float32
        Ink from 0 to 1.
    """
    images = np.empty((len(points), size, size), np.float32)
    block = 512  # bounds the memory used
    for start in range(0, len(points), block):
        images[start : start + block] = _draw_block(points[start : start + block], size)
    return images


def _draw_block(points: np.ndarray, size: int) -> np.ndarray:
    curve = through_three_points(points, np.linspace(0, 1, CURVE_POINTS)).astype(np.float32)
    corner = np.floor(curve).astype(np.int64)
    offset = curve - corner
    # One pixel of border takes what falls outside.
    framed = size + 2
    canvas = np.zeros((len(points), framed, framed), np.float32)
    base = np.arange(len(points))[:, None] * framed**2
    # The pen reaches PEN_RADIUS + 1/2 < 2 pixels, so only 4 x 4 pixels around a point of the curve can get ink.
    for i in range(-1, 3):
        row = np.clip(corner[..., 0] + i, -1, size) + 1
        for j in range(-1, 3):
            column = np.clip(corner[..., 1] + j, -1, size) + 1
            distance = np.hypot(offset[..., 0] - i, offset[..., 1] - j)
            ink = np.clip(PEN_RADIUS + 0.5 - distance, 0, 1)
            np.maximum.at(canvas.reshape(-1), (base + row * framed + column).ravel(), ink.ravel())
    return canvas[:, 1:-1, 1:-1]


def face_patches(faces: np.ndarray, copies: int, rng: np.random.Generator, size: int = 25) -> np.ndarray:
    """Small square patches of faces at random angles, scales and places, with random contrast (§13).

    As Hinton and Salakhutdinov (2006) did to make FACES: rotate by -90° to 90°, scale, crop, and subsample. A patch
    covers a half to two thirds of the face's width and lies wholly within the picture.

    Parameters
    ----------
    faces : ndarray, (M, r, c), uint8
    copies : int
        Patches of each face.
    rng : numpy.random.Generator
    size : int
        Rows and columns of a patch.

    Returns
    -------
    ndarray, (M * copies, size, size), uint8
        Patches of one face follow each other.
    """
    # takes long to import, and most runs need none of it
    from scipy import ndimage

    count, rows, columns = faces.shape
    patches = np.empty((count, copies, size, size), np.uint8)
    grid = (np.arange(size) + 0.5) / size - 0.5
    down, across = grid[:, None], grid[None, :]
    for n, face in enumerate(faces):
        side = min(rows, columns) * rng.uniform(0.5, 0.69, (copies, 1, 1))
        angle = rng.uniform(-math.pi / 2, math.pi / 2, (copies, 1, 1))
        contrast = rng.uniform(0.8, 1.25, (copies, 1, 1))
        cos, sin = np.cos(angle), np.sin(angle)
        # A square of side s turned by θ is s (|cos θ| + |sin θ|) high and wide: the rest is room to move in.
        extent = side * (np.abs(cos) + np.abs(sin))
        row = (rows - 1) / 2 + rng.uniform(-0.5, 0.5, (copies, 1, 1)) * (rows - 1 - extent)
        column = (columns - 1) / 2 + rng.uniform(-0.5, 0.5, (copies, 1, 1)) * (columns - 1 - extent)
        at = np.stack([row + side * (down * cos - across * sin), column + side * (down * sin + across * cos)])
        # Two or so pixels of the face go into one of the patch: smooth by about that much first, against aliasing.
        smooth = ndimage.gaussian_filter(face.astype(np.float32), 0.4 * 0.6 * min(rows, columns) / size)
        patch = ndimage.map_coordinates(smooth, at, order=1, mode="nearest")
        mean = patch.mean((1, 2), keepdims=True)
        patches[n] = np.rint(np.clip(mean + contrast * (patch - mean), 0, 255))
    return patches.reshape(-1, size, size)
