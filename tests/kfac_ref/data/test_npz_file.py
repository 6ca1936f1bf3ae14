"""kfac_ref.data.npz_file: what is read from an .npz, and what is said of one that is wrong."""

import ast
import math
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from kfac_ref.data import npz_file
from kfac_ref.data.npz_file import one_hot, read_npz, write_archive

X = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return path

    return write


def test_all_four_keys(save):
    Y = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    read = read_npz(save(X=X, Y=Y, X_test=X[:2].astype(np.float16), Y_test=Y[:2], other=np.array("note")))
    assert sorted(read) == ["X", "X_test", "Y", "Y_test"]
    assert {array.dtype for array in read.values()} <= {np.dtype(np.float32), np.dtype(np.float64)}
    np.testing.assert_array_equal(read["X"], X)
    np.testing.assert_array_equal(read["Y_test"], Y[:2])


def test_labels_become_one_hot_with_the_classes_of_both_sets(save):
    read = read_npz(save(X=X, Y=np.array([0, 2, 1, 0]), X_test=X[:1], Y_test=np.array([3], np.uint64)))
    np.testing.assert_array_equal(read["Y"], [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(read["Y_test"], [[0, 0, 0, 1]])
    np.testing.assert_array_equal(read_npz(save(X=X, Y=np.array([True, False, True, True])))["Y"][:, 1], [1, 0, 1, 1])


def test_real_numbers_become_a_column(save):
    read = read_npz(save(X=X, Y=np.array([0.5, 1, 2, 3])))
    np.testing.assert_array_equal(read["Y"], [[0.5], [1], [2], [3]])


def test_sequences_and_images(save, rng):
    given = {"X": rng.random((5, 2, 3, 4)), "Y": rng.random((5, 6, 2)), "X_test": rng.random((1, 2, 3, 4))}
    read = read_npz(save(**given, Y_test=rng.random((1, 6, 2))))
    for key, x in given.items():
        np.testing.assert_array_equal(read[key], x)


def with_value(value, row=1, column=2):
    array = X.copy()
    array[row, column] = value
    return array


LABELS = np.array([0, 1, 1, 0])
BAD = {
    "missing": ({"Z": X}, "key 'X' is missing, found 'Z'$"),
    "lower case": ({"x": X, "Y": X}, "key 'X' is missing, found 'x', 'Y'; 'x' is near"),
    "no underscore": ({"Xtest": X}, "'Xtest' is near, but names must be exactly X, Y, X_test, Y_test"),
    "empty archive": ({}, "key 'X' is missing, found nothing"),
    "1-D": ({"X": X[0]}, r"key 'X' has shape \(3,\), expected two dimensions"),
    "5-D": ({"X": X[None, None, None]}, r"key 'X' has shape \(1, 1, 1, 4, 3\), expected two dimensions .* or images"),
    "another 3-D": (
        {"X": X[:, None], "X_test": X[:, :, None]},
        r"has cases of shape \(3, 1\), expected \(1, 3\) as in",
    ),
    "another dimension": (
        {"X": X[:, None], "X_test": X},
        r"has cases of shape \(3,\), expected \(1, 3\) as in key 'X'",
    ),
    "NaN in 3-D": ({"X": with_value(np.nan)[:, None]}, r"key 'X' is nan at \[1, 0, 2\], expected finite"),
    "no case": ({"X": X[:0]}, r"key 'X' has shape \(0, 3\), expected at least one case"),
    "no column": ({"X": X[:, :0]}, r"key 'X' has shape \(4, 0\), expected at least"),
    "text": ({"X": X.astype(str)}, "key 'X' has dtype <U.*, expected real numbers"),
    "complex": ({"X": X + 1j}, "key 'X' has dtype complex128, expected real numbers"),
    "complex Y": ({"X": X, "Y": X * 1j}, "key 'Y' has dtype complex128"),
    "dates": ({"X": X.astype("datetime64[s]")}, "expected real numbers"),
    "records": ({"X": np.zeros((2, 2), "f4,f4")}, "expected real numbers"),
    "objects": ({"X": X.astype(object)}, "key 'X' holds pickled objects; pickles are not read"),
    "pickled Y": ({"X": X, "Y": np.array([{}, []], object)}, "key 'Y' holds pickled objects"),
    "NaN": ({"X": with_value(np.nan)}, "key 'X' is nan at row 1, column 2, expected finite"),
    "Inf": ({"X": X, "X_test": with_value(-np.inf, 3, 0)}, "key 'X_test' is -inf at row 3, column 0"),
    "large": (
        {"X": with_value(1e39).astype(np.longdouble)},
        r"key 'X' is 1e\+39 at row 1, column 2, too large for float32",
    ),
    "NaN in Y": ({"X": X, "Y": np.array([1, 2, np.nan, np.nan])}, "key 'Y' is nan at row 2, expected finite"),
    "rows": ({"X": X, "Y": X[:3]}, "key 'Y' has 3 rows, expected 4 as in key 'X'"),
    "test rows": (
        {"X": X, "Y": X, "X_test": X, "Y_test": X[:1]},
        "key 'Y_test' has 1 rows, expected 4 as in key 'X_test'",
    ),
    "width": ({"X": X, "X_test": X[:, :2]}, "key 'X_test' has 2 columns, expected 3 as in key 'X'"),
    "target width": ({"X": X, "Y": X, "X_test": X, "Y_test": X[:, :2]}, "key 'Y_test' has 2 columns, expected 3"),
    "Y_test alone": ({"X": X, "Y": X, "Y_test": X}, "key 'Y_test' without key 'X_test'"),
    "no Y_test": ({"X": X, "Y": X, "X_test": X}, "key 'Y' without key 'Y_test', expected both"),
    "no Y": ({"X": X, "Y_test": X, "X_test": X}, "key 'Y_test' without key 'Y', expected both"),
    "negative label": ({"X": X, "Y": np.array([0, 1, -2, 1])}, "key 'Y' is -2 at row 2, expected labels from 0 up"),
    "huge label": ({"X": X, "Y": np.array([0, 10**9, 0, 1])}, "key 'Y' is 1000000000 at row 1, expected labels below"),
    "kinds": ({"X": X, "Y": LABELS, "X_test": X, "Y_test": X}, "key 'Y' has integer labels but 'Y_test' has shape"),
    "other kinds": (
        {"X": X, "Y": X, "X_test": X, "Y_test": LABELS},
        "key 'Y_test' has integer labels but 'Y' has shape",
    ),
    "4-D Y": ({"X": X, "Y": X[:, :, None, None]}, r"key 'Y' has shape \(4, 3, 1, 1\), expected \(cases, targets\)"),
    "0-D Y": ({"X": X, "Y": np.array(3)}, r"key 'Y' has shape \(\), expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(save, case):
    arrays, message = BAD[case]
    path = save(**arrays)
    with pytest.raises(ValueError, match=message) as caught:
        read_npz(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_cut_short_anywhere(save, tmp_path):
    content = save(X=X, Y=X).read_bytes()
    cut = tmp_path / "cut.npz"
    for length in range(0, len(content), 7):
        cut.write_bytes(content[:length])
        with pytest.raises(ValueError, match=re.escape(f"{cut}: is not a whole .npz archive")):
            read_npz(cut)


def test_changed_byte_is_never_anything_but_a_value_error(save, tmp_path):
    content = save(X=X).read_bytes()
    original = read_npz(save(X=X))["X"]
    changed = tmp_path / "changed.npz"
    for at in range(0, len(content), 3):
        changed.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            read = read_npz(changed)
        except ValueError as error:
            assert str(changed) in str(error) and "\n" not in str(error)
        else:  # bytes such as dates, that do not matter
            np.testing.assert_array_equal(read["X"], original)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"X": 1}), "is a pickle; pickles are not read"),
        (b"", "is not a whole"),
        (b"X,Y\n1,2\n", "is not a whole"),
    ],
)
def test_not_an_archive(tmp_path, content, message):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_npz(path)


def test_members_that_are_no_arrays(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X", "hello")
    with pytest.raises(ValueError, match="key 'X'"):
        read_npz(path)


def test_array_file_with_the_wrong_suffix(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match="is not a whole"):
        read_npz(tmp_path / "a.npz")


def test_unreadable(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_npz(tmp_path / "missing.npz")


def test_one_hot_of_nothing():
    assert one_hot("f", {}) == {}


def test_written_arrays_are_in_c_order_and_the_same_bytes_each_time(tmp_path):
    arrays = {"X": X.T, "n": np.asarray(3.0), "settings": np.asarray("{}")}
    for name in ("a", "b"):
        write_archive(tmp_path / name, arrays)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as archive:
        assert archive["X"].flags.c_contiguous and archive["n"].shape == ()
        np.testing.assert_array_equal(archive["X"], X.T)
        assert str(archive["settings"]) == "{}"


def read_simply(content):
    """The arrays of an `.npz` by a reader that knows no more than local headers without extras, stored members, and
    version 1.0 of `.npy`, in C order."""
    arrays, at = {}, 0
    while content[at : at + 4] == b"PK\3\4":
        _, flags, method, _, _, _, stored, size, name_length, extra = struct.unpack(
            "<5H3I2H", content[at + 4 : at + 30]
        )
        assert (flags, method, extra) == (0, 0, 0) and stored == size
        name = content[at + 30 : at + 30 + name_length].decode("ascii").removesuffix(".npy")
        start = at + 30 + name_length
        member = content[start : start + size]
        assert member[:8] == b"\x93NUMPY\x01\x00"
        header_length = struct.unpack("<H", member[8:10])[0]
        header = ast.literal_eval(member[10 : 10 + header_length].decode("ascii"))
        assert header["fortran_order"] is False
        values = member[10 + header_length :]
        if header["descr"] == "<f8":
            numbers = struct.unpack(f"<{math.prod(header['shape'])}d", values)
            arrays[name] = np.asarray(numbers).reshape(header["shape"])
        else:
            assert header["descr"].startswith("<U") and header["shape"] == ()
            arrays[name] = values.decode("utf-32-le")
        at = start + size
    assert content[at : at + 4] == b"PK\1\2"
    return arrays


def test_a_simple_reader_takes_what_is_written(tmp_path):
    write_archive(tmp_path / "a", {"X": X.T, "n": np.asarray(3.0), "settings": np.asarray("{½}"), "y": X[0]})
    read = read_simply((tmp_path / "a").read_bytes())
    assert list(read) == ["X", "n", "settings", "y"] and read["n"].shape == () and read["n"] == 3
    np.testing.assert_array_equal(read["X"], X.T)
    np.testing.assert_array_equal(read["y"], X[0])
    assert read["settings"] == "{½}"


def test_large_members_get_zip64_fields(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "LARGE", X.nbytes)
    write_archive(tmp_path / "a", {"X": X, "y": X[0]})
    content = (tmp_path / "a").read_bytes()
    assert struct.unpack("<2I", content[18:26]) == (0xFFFFFFFF, 0xFFFFFFFF)
    with np.load(tmp_path / "a", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["X"], X)
        np.testing.assert_array_equal(archive["y"], X[0])


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        write_archive(tmp_path / "a", {"X": X, "y": np.asarray([{}], object)})
    assert list(tmp_path.iterdir()) == []
