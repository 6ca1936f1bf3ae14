"""Arrays in .npy files, folders of images, and cases that are held out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kfac_ref.data.dataset import Reading
from kfac_ref.data.datasets import load


@pytest.fixture
def pictures(tmp_path, rng):
    """Three images of cats and two of dogs, 4 x 5 pixels, grey."""
    pixels = rng.integers(256, size=(5, 4, 5), dtype=np.uint8)
    for i, (name, image) in enumerate(zip(["cat", "cat", "cat", "dog", "dog"], pixels, strict=True)):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    return tmp_path, pixels


def test_a_folder_for_each_class(pictures):
    folder, pixels = pictures
    found = load(folder)
    np.testing.assert_allclose(found.X, pixels.reshape(5, 20) / 255, atol=1e-7)
    np.testing.assert_array_equal(found.Y, np.eye(2)[[0, 0, 0, 1, 1]])
    assert found.preparation.classes == ("cat", "dog") and found.targets_given and found.image_shape == (4, 5)


def test_colour_has_channels_first(tmp_path, rng):
    pixels = rng.integers(256, size=(4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "b.png")  # grey beside it
    found = load(tmp_path)
    np.testing.assert_allclose(found.X[0], np.moveaxis(pixels, 2, 0).ravel() / 255, atol=1e-7)
    np.testing.assert_allclose(found.X[1], np.tile(pixels[:, :, 0].ravel(), 3) / 255, atol=1e-7)
    assert found.Y is None and found.image_shape is None


def test_jpeg_is_read(tmp_path):
    Image.fromarray(np.full((8, 8), 128, dtype=np.uint8)).save(tmp_path / "a.JPG", format="jpeg")
    np.testing.assert_allclose(load(tmp_path).X, 128 / 255, atol=0.01)


def test_images_that_do_not_fit(pictures, tmp_path):
    folder, _ = pictures
    wrong = folder / "dog" / "9.png"
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(wrong)
    with pytest.raises(ValueError, match=r"9.png: is 4 x 6 pixels, expected 4 x 5 as 0.png"):
        load(folder)
    wrong.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"9.png: cannot be read as an image"):
        load(folder)
    wrong.rename(folder / "beside.png")
    with pytest.raises(ValueError, match=r"beside.png is beside folders of images"):
        load(folder)


def test_npy_of_inputs_and_targets(tmp_path, rng):
    X, labels = rng.standard_normal((6, 3)), np.array([0, 2, 1, 0, 2, 1])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", labels)
    found = load(tmp_path / "X.npy", Reading(target=str(tmp_path / "Y.npy")))
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_array_equal(found.Y, np.eye(3)[labels])
    assert load(tmp_path / "X.npy").Y is None
    with pytest.raises(ValueError, match=r"is the .npy of its targets; got species"):
        load(tmp_path / "X.npy", Reading(target="species"))
    with pytest.raises(ValueError, match=r"--drop is for tables"):
        load(tmp_path / "X.npy", Reading(drop=("a",)))
    np.save(tmp_path / "Y.npy", labels[:5])
    with pytest.raises(ValueError, match="'Y' has 5 rows, expected 6"):
        load(tmp_path / "X.npy", Reading(target=str(tmp_path / "Y.npy")))
    (tmp_path / "X.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"X.npy: is not a whole .npy of plain numbers"):
        load(tmp_path / "X.npy")


def test_a_part_is_held_out(tmp_path, rng):
    X = rng.standard_normal((20, 2))
    np.savez(tmp_path / "a.npz", X=X, Y=X[:, :1])
    found = load(tmp_path / "a.npz", Reading(validation=0.2))
    assert found.X.shape == (16, 2) and found.X_test.shape == (4, 2)
    np.testing.assert_array_equal(np.sort(np.vstack([found.X, found.X_test]), axis=0), np.sort(X, axis=0))
    np.testing.assert_array_equal(found.Y_test, found.X_test[:, :1])
    np.savez(tmp_path / "b.npz", X=X, X_test=X)
    with pytest.raises(ValueError, match="has test cases already"):
        load(tmp_path / "b.npz", Reading(validation=0.2))
    with pytest.raises(ValueError, match="too few to hold out"):
        load(tmp_path / "a.npz", Reading(validation=0.99))
