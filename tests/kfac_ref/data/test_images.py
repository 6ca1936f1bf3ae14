"""kfac_ref.data.images against slower ways to compute the same."""

import math

import numpy as np
import pytest

from kfac_ref.data import images


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (7, 28), (28, 5), (1, 1), (32, 28)])
def test_area_average_is_block_mean_of_a_fine_grid(rows, columns):
    pictures = rng().integers(0, 256, (3, 28, 20), dtype=np.uint8)
    # On a grid that both sizes divide, every coarse pixel is a whole number of fine ones.
    fine = pictures.astype(float).repeat(rows, axis=1).repeat(columns, axis=2)
    expected = fine.reshape(3, rows, 28, columns, 20).mean((2, 4))
    averaged = images.area_average(pictures, rows, columns)
    assert averaged.dtype == np.float32
    np.testing.assert_allclose(averaged, expected, rtol=1e-5)


def test_area_average_preserves_mean_and_constants():
    pictures = rng().normal(size=(4, 28, 28))
    averaged = images.area_average(pictures, 16, 16)
    assert averaged.dtype == np.float64
    np.testing.assert_allclose(averaged.mean((1, 2)), pictures.mean((1, 2)), atol=1e-14)
    np.testing.assert_allclose(images.area_average(np.full((1, 9, 5), 3.0), 4, 2), np.full((1, 4, 2), 3.0))


@pytest.mark.parametrize(("shape", "size"), [((28, 28), (16, 16)), ((2, 0, 3), (1, 1)), ((2, 4, 4), (0, 2))])
def test_area_average_refuses(shape, size):
    with pytest.raises(ValueError, match="expected"):
        images.area_average(np.zeros(shape), *size)


def test_curve_passes_its_three_points():
    points = rng().normal(size=(5, 3, 2))
    np.testing.assert_allclose(images.through_three_points(points, np.array([0, 0.5, 1])), points, atol=1e-14)
    # And is a parabola: its third differences vanish.
    curve = images.through_three_points(points, np.linspace(0, 1, 9))
    np.testing.assert_allclose(np.diff(curve, 3, axis=1), 0, atol=1e-12)


def test_random_curves_are_smooth_and_within_the_image():
    points = images.random_points(500, rng())
    assert points.shape == (500, 3, 2)
    curve = images.through_three_points(points, np.linspace(0, 1, 1001))
    assert curve.min() > 0 and curve.max() < 27
    # Curvature |p' × p''| / |p'|³ from the parabola's own derivatives.
    second = 4 * (points[:, :1] - 2 * points[:, 1:2] + points[:, 2:])
    first = np.gradient(curve, 1 / 1000, axis=1, edge_order=2)
    cross = np.abs(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])
    curvature = cross / np.linalg.norm(first, axis=2) ** 3
    assert 1 / curvature.max() > 0.75 * images.SHARPEST_TURN


def test_drawn_curves_have_ink_at_the_points_and_as_far_as_the_pen_reaches():
    points = images.random_points(20, rng())
    drawn = images.draw_curves(points)
    assert drawn.shape == (20, 28, 28) and drawn.dtype == np.float32
    assert drawn.min() == 0 and drawn.max() == 1
    grid = np.stack(np.meshgrid(np.arange(28), np.arange(28), indexing="ij"), axis=-1)
    dense = images.through_three_points(points, np.linspace(0, 1, 5001))
    for picture, curve, three in zip(drawn, dense, points, strict=True):
        nearest = np.rint(three).astype(int)
        # A point is at most √½ from its pixel's centre.
        assert picture[nearest[:, 0], nearest[:, 1]].min() >= images.PEN_RADIUS + 0.5 - math.sqrt(0.5) - 0.05
        distance = np.linalg.norm(grid[:, :, None] - curve[None, None, ::5], axis=-1).min(-1)
        np.testing.assert_allclose(picture, np.clip(images.PEN_RADIUS + 0.5 - distance, 0, 1), atol=0.1)


def test_curves_are_deterministic_and_differ_by_seed():
    first, again = (images.draw_curves(images.random_points(6, np.random.default_rng(3))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = images.draw_curves(images.random_points(6, np.random.default_rng(4)))
    assert (first != other).any()


def test_curve_that_leaves_the_image_is_cut_off():
    points = np.array([[[5.0, -10.0], [5.0, 14.0], [5.0, 38.0]]])
    drawn = images.draw_curves(points)[0]
    np.testing.assert_allclose(drawn[5], 1, atol=0.05)
    assert drawn[:3].max() == 0 and drawn[8:].max() == 0


def test_more_curves_than_a_block():
    points = np.tile(images.random_points(1, rng()), (1030, 1, 1))
    drawn = images.draw_curves(points)
    assert (drawn == drawn[0]).all()


def test_face_patches_of_a_slope_are_slopes():
    # Brightness linear in the row: any patch is a plane, whose steepness tells the scale and direction the angle.
    face = np.tile(np.linspace(20, 235, 112)[:, None], (1, 92)).astype(np.uint8)
    patches = images.face_patches(face[None], 50, rng())
    assert patches.shape == (50, 25, 25) and patches.dtype == np.uint8
    i, j = np.meshgrid(np.arange(25), np.arange(25), indexing="ij")
    plane = np.stack([np.ones(625), i.ravel(), j.ravel()], axis=1)
    coefficients, residuals, _, _ = np.linalg.lstsq(plane, patches.reshape(50, -1).T.astype(float), rcond=None)
    assert np.sqrt(residuals.max() / 625) < 1.5
    angle = np.degrees(np.arctan2(-coefficients[2], coefficients[1]))
    assert -95 < angle.min() < -60 and 60 < angle.max() < 95
    per_pixel = np.hypot(coefficients[1], coefficients[2])
    slope = 215 / 111 * 92 / 25  # brightness per patch pixel if a patch were as wide as the face
    assert per_pixel.min() > 0.5 * 0.8 * slope * 0.95 and per_pixel.max() < 0.69 * 1.25 * slope * 1.05


def test_face_patches_stay_within_the_picture_and_follow_their_face():
    faces = np.stack([np.full((112, 92), 10, np.uint8), np.full((112, 92), 200, np.uint8)])
    patches = images.face_patches(faces, 7, rng())
    assert (patches[:7] == 10).all() and (patches[7:] == 200).all()
