"""What the site's build says of links that lead nowhere."""

from __future__ import annotations

import importlib.util

import pytest

from tests.docs.examples import FOLDER


@pytest.fixture(scope="module")
def local_links():
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("local_links", FOLDER.parent / "_ext" / "local_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_to_nowhere_are_named(local_links, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "there.html").write_text('<p id="here"><a href="#here">x</a><a href="../index.html">x</a></p>')
    links = ["a/there.html", "a/there.html#here", "https://e.f/g#h", "a/there.html#gone", "b.html", "#top"]
    body = "".join(f'<a href="{link}">x</a>' for link in links) + '<img src="a/no.png">'
    (tmp_path / "index.html").write_text(body)
    named = [f"index.html: {link}" for link in ("a/there.html#gone", "b.html", "#top", "a/no.png")]
    assert local_links.broken(tmp_path) == named
