"""kfac_ref.data.datasets: the named sets (from small stand-ins where they would be fetched), and paths."""

import hashlib
import struct
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from kfac_ref.data import datasets, fetching, sources
from kfac_ref.data.image_files import IDX_FILES
from validation import make_fashion16

USERS_CACHE = fetching.cache_directory()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KFAC_REF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(monkeypatch, cache, name, content):
    """Into the cache, as if it had been fetched."""
    (cache / name).mkdir(parents=True)
    for file, data in content.items():
        (cache / name / file).write_bytes(data)
    sha256 = {file: hashlib.sha256(data).hexdigest() for file, data in content.items()}
    monkeypatch.setitem(sources.COLLECTIONS, name, replace(sources.COLLECTIONS[name], sha256=sha256))


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_mnist():
    rng = np.random.default_rng(5)
    arrays = {}
    for test, count in (("", 30), ("_test", 20)):
        arrays["X" + test] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays["Y" + test] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


def check(dataset):
    """What holds of every data set."""
    for inputs, targets in ((dataset.X, dataset.Y), (dataset.X_test, dataset.Y_test)):
        assert inputs.dtype == np.float32 and inputs.ndim == 2 and inputs.flags.c_contiguous
        if targets is not None:
            assert targets.dtype == np.float32 and len(targets) == len(inputs)
    assert dataset.image_shape == datasets.IMAGES[dataset.name]
    assert np.prod(dataset.image_shape) == dataset.X.shape[1] == dataset.X_test.shape[1]
    assert not dataset.targets_given and "\n" not in dataset.source


def test_the_images_of_all_names_are_known():
    assert set(datasets.IMAGES) == set(datasets.NAMES)


def test_fashion16_is_the_default_and_balanced():
    dataset = datasets.load()
    check(dataset)
    assert dataset.name == "fashion16" and dataset.likelihood == "bernoulli"
    assert dataset.X.shape == (4000, 256) and dataset.X_test.shape == (1000, 256)
    assert dataset.X.min() == 0 and dataset.X.max() <= 1
    np.testing.assert_array_equal(dataset.Y.sum(0), np.full(10, 400))
    np.testing.assert_array_equal(dataset.Y_test.sum(0), np.full(10, 100))
    np.testing.assert_array_equal(dataset.Y.sum(1), 1)
    # Mixed: the classes of neighbours differ as often as chance has it.
    assert 0.85 < (dataset.Y[1:] != dataset.Y[:-1]).any(1).mean() < 0.95
    assert len(np.unique(dataset.X, axis=0)) > 3990


def test_packaged_file_is_small_and_has_its_licence():
    folder = files("kfac_ref.data")
    assert len((folder / "fashion16.npz").read_bytes()) <= 1_500_000
    assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE-fashion-mnist").read_text()


@pytest.mark.skipif(not (USERS_CACHE / "fashion").is_dir(), reason="Fashion-MNIST is not in the user's cache")
def test_packaged_file_is_what_its_script_makes(monkeypatch):
    monkeypatch.setenv("KFAC_REF_CACHE", str(USERS_CACHE))
    made = make_fashion16.make()
    with np.load(files("kfac_ref.data") / "fashion16.npz") as packaged:
        assert sorted(packaged.files) == sorted(made)
        for key in made:
            np.testing.assert_array_equal(packaged[key], made[key])
            assert packaged[key].dtype == np.uint8


def test_make_fashion16_on_a_small_set(monkeypatch, cache, tmp_path, capsys):
    raw = small_mnist()
    put(monkeypatch, cache, "fashion", {file: idx(raw[key]) for key, file in IDX_FILES.items()})
    monkeypatch.setattr(make_fashion16, "PER_CLASS", {"X": 3, "X_test": 2})
    out = tmp_path / "out.npz"
    assert make_fashion16.main(["--out", str(out)]) == 0
    assert str(out.stat().st_size) in capsys.readouterr().out
    with np.load(out) as made:
        # All of the small set is chosen, so that the chosen ones' sum is that of all.
        expected = raw["X"].astype(float).repeat(16, 1).repeat(16, 2).reshape(30, 16, 28, 16, 28).mean((2, 4))
        np.testing.assert_allclose(made["X"].astype(float).sum(0), expected.sum(0), atol=15)
        np.testing.assert_array_equal(np.bincount(made["labels_test"]), np.full(10, 2))
        order = np.argsort(np.abs(made["X"][:, None].astype(float) - expected).max((2, 3)), axis=1)[:, 0]
        np.testing.assert_array_equal(made["labels"], raw["Y"][order])


@pytest.mark.parametrize("name", ["mnist", "fashion", "mnist16"])
def test_fetched_sets(name, monkeypatch, cache):
    raw = small_mnist()
    put(monkeypatch, cache, name.removesuffix("16"), {file: idx(raw[key]) for key, file in IDX_FILES.items()})
    dataset = datasets.load(name)
    check(dataset)
    assert dataset.name == name and dataset.likelihood == "bernoulli"
    np.testing.assert_array_equal(dataset.Y.argmax(1), raw["Y"])
    np.testing.assert_array_equal(dataset.Y_test.argmax(1), raw["Y_test"])
    if name == "mnist16":
        fine = raw["X_test"].astype(float).repeat(16, 1).repeat(16, 2)
        expected = fine.reshape(20, 16, 28, 16, 28).mean((2, 4)).reshape(20, -1) / 255
        np.testing.assert_allclose(dataset.X_test, expected, atol=0.5001 / 255)
        assert dataset.image_shape == (16, 16)
    else:
        np.testing.assert_allclose(dataset.X, raw["X"].reshape(30, -1) / 255, rtol=1e-6)


def test_curves(monkeypatch, cache):
    monkeypatch.setattr(datasets, "CURVES_CASES", (40, 20))
    dataset = datasets.load("curves")
    check(dataset)
    assert dataset.X.shape == (40, 784) and dataset.X_test.shape == (20, 784) and dataset.Y is None
    assert dataset.X.min() == 0 and dataset.X.max() == 1 and dataset.likelihood == "bernoulli"
    assert "like the paper's CURVES" in dataset.source
    again = datasets.load("curves")
    for path in cache.iterdir():
        path.unlink()
    made_again = datasets.load("curves")
    for other in (again, made_again):
        np.testing.assert_array_equal(other.X, dataset.X)
        np.testing.assert_array_equal(other.X_test, dataset.X_test)


def test_faces(monkeypatch, cache):
    # The brightness of a picture says whose it is.
    pictures = np.repeat(np.arange(400) // 10, 112 * 92).astype(np.uint8).reshape(400, -1) * 6
    content = b"".join(b"P5\n92 112\n255\n" + picture.tobytes() for picture in pictures)
    put(monkeypatch, cache, "orl", {"orl-faces.pgm": content})
    monkeypatch.setattr(datasets, "FACES_COPIES", (3, 2))
    dataset = datasets.load("faces")
    check(dataset)
    assert dataset.X.shape == (900, 625) and dataset.X_test.shape == (200, 625)
    assert dataset.likelihood == "gaussian" and dataset.Y is None and "like the paper's FACES" in dataset.source
    assert abs(dataset.X.mean(dtype=float)) < 1e-6 and abs(dataset.X.std(dtype=float) - 1) < 1e-6
    brightness = (np.arange(40) * 6 - 87) / (6 * np.sqrt((30**2 - 1) / 12))
    np.testing.assert_allclose(np.unique(dataset.X), brightness[:30], rtol=1e-5)
    np.testing.assert_allclose(np.unique(dataset.X_test), brightness[30:], rtol=1e-5)
    assert (np.diff(dataset.X[:, 0]) != 0).mean() > 0.9
    np.testing.assert_array_equal(datasets.load("faces").X, dataset.X)


def test_npz_by_path(tmp_path):
    path = tmp_path / "mine.NPZ"
    with open(path, "wb") as file:
        np.savez(file, X=np.linspace(0, 1, 12).reshape(4, 3), Y=np.array([0, 1, 1, 0]))
    dataset = datasets.load(path)
    assert (dataset.name, dataset.likelihood, dataset.targets_given) == ("mine", "bernoulli", True)
    assert dataset.Y.shape == (4, 2) and dataset.X_test is None and dataset.image_shape is None
    assert str(path) in dataset.source


def test_npz_with_images_and_with_sequences(tmp_path, rng):
    """Cases are rows all the same; what shape each has is kept beside them."""
    X, Y = rng.random((4, 1, 5, 6)), rng.random((4, 3, 2))
    np.savez(tmp_path / "a.npz", X=X, X_test=X[:2])
    images = datasets.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(images.X, X.reshape(4, 30))
    assert images.X_test.shape == (2, 30)
    assert (images.case_shape, images.image_shape, images.target_shape) == ((1, 5, 6), (5, 6), None)
    np.savez(tmp_path / "b.npz", X=X[:, 0], Y=Y)
    sequences = datasets.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(sequences.Y, Y.reshape(4, 6))
    assert (sequences.case_shape, sequences.image_shape, sequences.target_shape) == ((5, 6), None, (3, 2))


@pytest.mark.parametrize(("key", "value"), [("X", 1.01), ("X", -0.01), ("X_test", 2)])
def test_inputs_outside_the_unit_interval_are_gaussian(tmp_path, key, value):
    arrays = {"X": np.zeros((2, 2)), "X_test": np.ones((2, 2))}
    arrays[key][1, 1] = value
    np.savez(tmp_path / "a.npz", **arrays)
    dataset = datasets.load(str(tmp_path / "a.npz"))
    assert dataset.likelihood == "gaussian" and not dataset.targets_given


def test_folder_by_path(tmp_path):
    raw = small_mnist()
    for key, file in IDX_FILES.items():
        (tmp_path / file).write_bytes(idx(raw[key]))
    dataset = datasets.load(tmp_path)
    assert dataset.image_shape == (28, 28) and not dataset.targets_given and dataset.likelihood == "bernoulli"
    np.testing.assert_allclose(dataset.X_test, raw["X_test"].reshape(20, -1) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "minst",
            r'"minst"; did you mean "mnist"\? \(expected one of fashion16, fashion, mnist, mnist16, curves, faces',
        ),
        ("Fashion", r'did you mean "fashion"\?'),
        ("zzz", r'no data set or path "zzz" \(expected one of'),
        ("no/such/file.npz", 'no data set or path "no/such/file.npz"'),
        (__file__, "test_datasets.py: expected an .npz, .npy, .csv or .parquet file"),
    ],
)
def test_neither_name_nor_path(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(given)
    assert "\n" not in str(caught.value)
