"""kfac_ref.data.image_files: IDX folders and PGM pictures, whole and damaged."""

import gzip
import struct

import numpy as np
import pytest

from kfac_ref.data.image_files import IDX_FILES, parse_idx, parse_pgm, read_idx_folder

IMAGES = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2) * 8
LABELS = np.array([0, 2, 1, 2, 0], np.uint8)
RAW = {"X": IMAGES, "Y": LABELS, "X_test": IMAGES[:2], "Y_test": LABELS[:2]}


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def write(tmp_path):
    def to_folder(compressed=False, **content):
        for key, value in content.items():
            data = value if isinstance(value, bytes) else idx(value)
            name = IDX_FILES[key] + (".gz" if compressed else "")
            (tmp_path / name).write_bytes(gzip.compress(data) if compressed else data)
        return tmp_path

    return to_folder


@pytest.mark.parametrize("compressed", [False, True])
def test_folder(write, compressed):
    arrays, image_shape = read_idx_folder(write(compressed, **RAW))
    assert image_shape == (3, 2)
    np.testing.assert_allclose(arrays["X"], IMAGES.reshape(5, 6) / 255, rtol=1e-6)
    np.testing.assert_array_equal(arrays["Y"].argmax(1), LABELS)
    np.testing.assert_array_equal(arrays["Y"].sum(1), 1)
    assert arrays["Y_test"].shape == (2, 3)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_folder_without_labels_or_test_set(write):
    assert sorted(read_idx_folder(write(X=IMAGES))[0]) == ["X"]


BAD = {
    "labels as images": ({"X": LABELS}, "train-images.*starts with bytes 00000801, expected 00000803"),
    "images as labels": ({"X": IMAGES, "Y": IMAGES}, "train-labels.*starts with bytes 00000803, expected 00000801"),
    "floats": ({"X": b"\0\0\x0d\3" + idx(IMAGES)[4:]}, "starts with bytes 00000d03"),
    "empty file": ({"X": b""}, r"starts with bytes \(none\)"),
    "short header": ({"X": idx(IMAGES)[:10]}, "header cut short, 10 bytes, expected 16"),
    "truncated": ({"X": idx(IMAGES)[:-1]}, r"45 bytes, expected 46 for shape \(5, 3, 2\)"),
    "too long": ({"X": idx(IMAGES) + b"\0"}, "47 bytes, expected 46"),
    "no case": ({"X": IMAGES[:0]}, r"shape \(0, 3, 2\), expected at least one case"),
    "no pixel": ({"X": IMAGES[:, :0]}, r"shape \(5, 0, 2\), expected"),
    "labels missing": (
        {"X": IMAGES, "Y": LABELS[:4]},
        "train-labels-idx1-ubyte has 4 rows, expected 5 as in train-images",
    ),
    "other size": ({"X": IMAGES, "X_test": IMAGES[:, :2]}, r"t10k.*images are \(2, 2\), expected \(3, 2\)"),
    "test labels missing": (
        {"X": IMAGES, "Y": LABELS, "X_test": IMAGES},
        "without t10k-labels-idx1-ubyte, expected both",
    ),
    "test labels alone": ({"X": IMAGES, "Y": LABELS, "Y_test": LABELS}, "t10k-labels-idx1-ubyte without t10k-images"),
    "no training images": ({"X_test": IMAGES}, "no train-images-idx3-ubyte or .*found 't10k-images-idx3-ubyte'"),
    "empty folder": ({}, "found nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folder(write, case):
    content, message = BAD[case]
    folder = write(**content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx_folder(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_gz(write, tmp_path):
    path = write(True, X=IMAGES) / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    for damaged in (content[:-9], content[:15], idx(IMAGES), content[:-6] + b"\0" + content[-5:], b"\x1f\x8b"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: "):
            read_idx_folder(tmp_path)


def test_large_shape_in_a_small_file_is_refused_at_once():
    content = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    with pytest.raises(ValueError, match="16 bytes, expected"):
        parse_idx(content, 3, "f")


def test_pgm():
    first, second = b"P5\n2 3\n255\n" + b"\n23456", b"P5\r\n2 3\r\n255\r\n" + b"abcdef"
    pictures = parse_pgm(first + second, "f")
    assert pictures.shape == (2, 3, 2)
    assert pictures[0].tobytes() == b"\n23456" and pictures[1].tobytes() == b"abcdef"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P2\n2 3\n255\n1 2", "no PGM header at byte 0"),
        (b"P5\n2 3\n255\n12345", "image 0 is cut short, expected 3 x 2 bytes"),
        (b"P5\n2 3\n255\n1234567", "no PGM header at byte 17"),
        (b"", "no image"),
    ],
)
def test_bad_pgm(content, message):
    with pytest.raises(ValueError, match=message):
        parse_pgm(content, "f")
