"""kfac_ref.data.files: whole files or none."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from kfac_ref.data.files import write_text, write_whole


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_text_is_utf8_and_the_folder_is_made(tmp_path):
    path = tmp_path / "a" / "b" / "text"
    write_text(path, "γ ≤ 1\n")
    assert path.read_bytes() == b"\xce\xb3 \xe2\x89\xa4 1\n"
    write_text(path, "")
    assert path.read_bytes() == b"" and names(path.parent) == ["text"]


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("shared", [False, True])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, error, shared):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"ne")
        raise error

    with pytest.raises(error):
        write_whole(path, write, shared)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]
    path.unlink()
    with pytest.raises(error):
        write_whole(path, write, shared)
    assert names(tmp_path) == []


def test_a_failing_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def replace(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="no"):
        write_text(path, "new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_the_name_has_the_old_content_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old" and len(names(tmp_path)) == 2

    write_whole(path, write)
    assert path.read_bytes() == b"new" and names(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    path = tmp_path / "file"
    left = []

    def write(file):
        left.extend(names(tmp_path))
        file.write(b"whole")

    write_whole(path, write)
    (tmp_path / left[0]).write_bytes(b"half of something much longer")
    write_whole(path, write)
    assert path.read_bytes() == b"whole" and names(tmp_path) == ["file"]


def test_several_writers_of_one_file(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 50_000 for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_whole(path, lambda file: file.write(content), shared=True), contents))
    assert path.read_bytes() in contents and names(tmp_path) == ["file"]
