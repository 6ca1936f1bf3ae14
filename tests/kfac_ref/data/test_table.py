"""Tables: what becomes of each column, and what may be wrong with one."""

from __future__ import annotations

import json

import numpy as np
import pandas
import polars
import pytest

from kfac_ref.data.dataset import Reading
from kfac_ref.data.datasets import load
from kfac_ref.data.table import Recipe, columns_of, recipe
from kfac_ref.data.table_file import read_table

TABLE = {
    "size": np.array([1.0, 2.0, 3.0, 4.0]),
    "colour": np.array(["red", "blue", "red", "green"], dtype=object),
    "grade": np.array([1, 2, 2, 1]),
    "id": np.array(["a", "b", "c", "d"], dtype=object),
    "kind": np.array(["cat", "dog", "dog", "cat"], dtype=object),
}
ALL = np.arange(4)
TEXT = "size,colour,price\n1,red,10\n2,blue,\n,red,30\n4,,40\n"


def test_numbers_words_and_classes():
    found = recipe(TABLE, ALL, "t", target="kind", drop=["id"], categorical=["grade"])
    assert found.inputs == ["size", "colour=blue", "colour=green", "colour=red", "grade=1", "grade=2"]
    assert found.classes == ("cat", "dog") and found.dropped == ("id",)
    expected = [[1, 0, 0, 1, 1, 0], [2, 1, 0, 0, 0, 1], [3, 0, 0, 1, 0, 1], [4, 0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(found.encode(TABLE), expected)
    np.testing.assert_array_equal(found.targets(TABLE), [[1, 0], [0, 1], [0, 1], [1, 0]])
    assert "3 categories, one-hot: blue, green, red" in str(found) and "target, 2 classes: cat, dog" in str(found)


def test_whole_numbers_are_numbers_unless_classes_are_asked_for():
    assert recipe(TABLE, ALL, "t", target="grade").classes is None
    assert recipe(TABLE, ALL, "t", target="grade", classify=True).classes == ("1", "2")


@pytest.mark.parametrize("frame", [pandas.DataFrame, polars.DataFrame, dict])
def test_frames_of_all_kinds_are_taken(frame):
    found, columns = recipe(TABLE, ALL, "t", target="kind"), columns_of(frame(TABLE))
    np.testing.assert_array_equal(found.encode(columns), found.encode(TABLE))
    np.testing.assert_array_equal(found.targets(columns), found.targets(TABLE))


def test_arrays_have_no_columns():
    assert columns_of(np.ones((2, 2))) is None and columns_of([[1.0]]) is None


def test_a_recipe_survives_json():
    found = recipe(TABLE, ALL, "t", target="kind", impute="median")
    assert Recipe.fromdict(json.loads(json.dumps(found.asdict()))) == found


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_missing_is_filled_from_the_training_cases(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    path.write_text(TEXT)
    if suffix == ".parquet":
        (tmp_path / "t.csv").write_text(TEXT)
        polars.read_csv(tmp_path / "t.csv").write_parquet(path)
    table = read_table(path)
    found = recipe(table, np.array([0, 1, 2]), "t", impute="median")
    # medians of 1 and 2, and of 10 and 30; red is commoner than blue
    expected = [[1, 0, 1, 10], [2, 1, 0, 20], [1.5, 0, 1, 30], [4, 0, 1, 40]]
    np.testing.assert_array_equal(found.encode(table), expected)


def test_values_of_another_type_in_another_file():
    """Whole numbers where training had fractions, or where it had words for categories."""
    found = recipe({"x": np.array([0.5, 1.5]), "k": np.array([1, 2])}, np.arange(2), "t", categorical=["k"])
    np.testing.assert_array_equal(found.encode({"x": np.array([3]), "k": np.array([2.0])}), [[3, 0, 1]])
    np.testing.assert_array_equal(found.encode({"x": np.array(["3"], dtype=object), "k": ["2"]}), [[3, 0, 1]])


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (
            {},
            {"target": "knd"},
            't has no column "knd" \\(--target\\), but "size", "colour", .*"kind"; did you mean "kind"\\?$',
        ),
        ({}, {"drop": ["idd"]}, 't has no column "idd" \\(--drop\\)'),
        ({"kind": ["cat", None, "dog", "cat"]}, {"target": "kind"}, 't: row 2, column "kind", the target, is missing'),
        ({"kind": ["cat"] * 4}, {"target": "kind"}, 'column "kind", the target, has one class, "cat", in all rows'),
        ({"size": [1, 2, np.inf, 3]}, {}, 't: row 3, column "size" is inf, expected finite numbers'),
        ({"size": [None] * 4}, {}, 't: column "size" is empty; give --drop "size"'),
        (
            {"size": ["1", None, "2.5", "big"]},
            {},
            't: row 4, column "size" is "big", expected a number as in most rows; give --categorical "size" if',
        ),
        (
            {"kind": ["1", "2", "many", "3"]},
            {"target": "kind"},
            'row 3, column "kind" is "many", expected a number .* give --likelihood categorical if',
        ),
    ],
)
def test_no_recipe(change, options, said):
    with pytest.raises(ValueError, match=said):
        recipe(TABLE | {k: np.array(v) for k, v in change.items()}, ALL, "t", **options)


def test_numbers_among_words_are_names():
    """Where most are words, or where it is said so."""
    found = recipe({"x": ["1", "a", "b"], "y": ["1", "2", "b"]}, np.arange(3), "t", categorical=["y"])
    assert [column.categories for column in found.columns] == [("1", "a", "b"), ("1", "2", "b")]
    assert recipe({"x": [1, 2, 3], "y": ["1", "2", "b"]}, np.arange(3), "t", target="y", classify=True).classes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": [1.0, np.nan]}, 'new.csv: row 2, column "size" is missing; give --impute median, or --drop "size"'),
        ({"size": ["1", "big"]}, 'new.csv: row 2, column "size" is "big", expected a number as in the training cases'),
        ({"colour": ["red", "blu"]}, 'row 2, column "colour" is "blu", which was not among .* did you mean "blue"'),
        ({"colour": None}, 'new.csv has no column "colour"'),
    ],
)
def test_new_cases_that_do_not_fit(change, said):
    found = recipe(TABLE, ALL, "t", target="kind", drop=["id"])
    new = {"size": np.array([1.0, 2.0]), "colour": np.array(["red", "red"]), "grade": np.array([1, 1])}
    new = {k: np.array(v, dtype=object) for k, v in (new | change).items() if v is not None}
    with pytest.raises(ValueError, match=said):
        found.encode(new, "new.csv")


def test_too_many_categories():
    with pytest.raises(ValueError, match='column "id" has 1500 different values, too many for categories'):
        recipe({"id": np.array([f"n{i}" for i in range(1500)])}, np.arange(1500), "t")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3,4\n", 'its first line has the number "1", expected a header'),
        ("a,b,a\n1,2,3\n", 'the header has "a" more than once'),
        ("a,b\n", "has no rows below the header"),
        ("a,b\n1,2\n3,4,5\n", "cannot be read as a table"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=said) as found:
        read_table(tmp_path / "t.csv")
    assert "\n" not in str(found.value)


def test_a_damaged_parquet_file(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_table(tmp_path / "t.parquet")


# --- as data sets --------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, rng):
    """A table of 40 rows."""
    path = tmp_path / "t.csv"
    columns = {"a": rng.standard_normal(40), "b": 100 + 5 * rng.standard_normal(40), "y": rng.choice(["u", "v"], 40)}
    polars.DataFrame(columns).write_csv(path)
    return path, columns


def test_training_cases_are_standardised_and_the_held_out_ones_with_them(written):
    path, columns = written
    found = load(path, Reading(target="y", validation=0.25, seed=3))
    assert found.X.shape == (30, 2) and found.X_test.shape == (10, 2) and found.Y_test.shape == (10, 2)
    np.testing.assert_allclose(found.X.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(found.X.std(0), 1)
    p = found.preparation
    everything = np.vstack([p.inputs.undo(found.X), p.inputs.undo(found.X_test)])
    np.testing.assert_allclose(np.sort(everything[:, 1]), np.sort(columns["b"]))
    assert p.classes == ("u", "v") and found.targets_given
    again = load(path, Reading(target="y", validation=0.25, seed=3))
    np.testing.assert_array_equal(again.X_test, found.X_test)
    assert np.any(load(path, Reading(target="y", validation=0.25, seed=4)).X_test != found.X_test)


def test_numbers_to_be_predicted_are_standardised(written):
    path, columns = written
    found = load(path, Reading(target="b", drop=("y",)))
    np.testing.assert_allclose(found.preparation.outcomes.undo(found.Y)[:, 0], columns["b"])
    assert abs(found.Y.mean()) < 1e-12


def test_options_for_tables_are_refused_elsewhere(tmp_path):
    np.savez(tmp_path / "x.npz", X=np.ones((4, 2)))
    for name in ("fashion16", tmp_path / "x.npz"):
        with pytest.raises(ValueError, match="--target is for tables"):
            load(name, Reading(target="y"))
    with pytest.raises(ValueError, match="validation must be between 0 and 1"):
        Reading(validation=10.0)
    with pytest.raises(ValueError, match='impute must be "median"; got "mean"'):
        Reading(impute="mean")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_that_are_not_there(tmp_path, suffix):
    with pytest.raises(ValueError, match=f"none{suffix}: cannot be read: No such file"):
        read_table(tmp_path / f"none{suffix}")


def test_an_empty_file(tmp_path):
    (tmp_path / "t.csv").touch()
    with pytest.raises(ValueError, match=r"t\.csv: is empty, expected a header"):
        read_table(tmp_path / "t.csv")
