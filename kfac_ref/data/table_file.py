"""Tables from CSV and Parquet files, read by Polars.

Polars rather than pandas: one package reads both formats, a missing value is one and not a number that is none, and the
type of a column is decided by all of its rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kfac_ref.data.npz_file import one_line

SUFFIXES = (".csv", ".parquet")
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "?")
"""What stands in a CSV file for a missing value."""


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file with a header, or of a Parquet file, by name, (N,) each.

    ValueError if it cannot be read, has no rows, or its header does not name its columns.
    """
    try:
        import polars
    except ImportError as error:
        raise ValueError(f'{path}: tables need Polars: pip install "kfac-ref[tables]"') from error
    try:
        frame: Any
        if path.suffix.lower() == ".csv":
            _check_header(path)
            frame = polars.read_csv(path, infer_schema_length=None, null_values=list(MISSING))
        else:
            frame = polars.read_parquet(path)
    except ValueError:
        raise
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a table: {one_line(error)}") from None
    if frame.height == 0:
        raise ValueError(f"{path}: has no rows below the header")
    return {name: frame[name].to_numpy() for name in frame.columns}


def _check_header(path: Path) -> None:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    if not header:
        raise ValueError(f"{path}: is empty, expected a header with the names of the columns, and rows")
    header = header.rstrip("\r\n")
    names = [name.strip().strip('"') for name in header.split(",")]
    if numbers := [name for name in names if _is_number(name)]:
        raise ValueError(
            f'{path}: its first line has the number "{numbers[0]}", expected a header with the names of the columns'
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice and '"' not in header:  # a quoted name may hold a comma
        raise ValueError(f'{path}: the header has "{twice[0]}" more than once')


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")
