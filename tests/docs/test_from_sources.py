"""Pages of the site that have their source elsewhere: the paper's, with links from equations to code and tests."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.docs.examples import FOLDER
from tests.docs.pages import PAGES
from tests.test_paper import COMPUTED, rows


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("from_sources", FOLDER.parent / "_ext" / "from_sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.OUT = tmp_path_factory.mktemp("docs") / "generated"
    module.reference()
    module.paper()
    module.results()
    return module


def test_every_equation_has_links_to_its_code_and_its_tests(site):
    """One click to the reference, whose next leads to the code, or to the code; one to the text of the test."""
    linked = 0
    for _, header, cells in rows((site.OUT / "paper.md").read_text(encoding="utf-8")):
        if header != COMPUTED:
            continue
        _, what, computed, checked = cells
        for name in re.findall(r"(?<!})`((?:autodiff|kfac_ref)\.[\w.]+)`", computed):
            assert name.rpartition(".")[2].isupper(), f"{what}: {name} has no link"  # a constant without a docstring
        for page, thing in re.findall(
            r"\]\(/generated/((?:tests|validation)/[^)]*)\.md#([\w-]+)\)", computed + checked
        ):
            text = (site.OUT / f"{page}.md").read_text(encoding="utf-8")
            assert thing in [re.sub(r"[_.]+", "-", h.lower()).strip("-") for h in re.findall(r"^## (\S+)$", text, re.M)]
        assert "{py:obj}" in computed or "](/generated/validation/" in computed, f"{what}: no link to code"
        assert re.search(r"\]\(/generated/(tests|validation/theorems)/", checked), f"{what}: no link to a test"
        linked += 1
    assert linked > 200


def test_links_of_pages_lead_to_pages_of_the_site(site):
    linked = 0
    for page in PAGES[1:]:
        text = site.relinked(page.read_text(encoding="utf-8"), page)
        for target in re.findall(r"(?<!!)\[[^\]]*\]\((/generated/[^)\s#]+)\)", text):
            if target == "/generated/gallery/index.rst":
                pass  # made of docs/examples/README.rst
            elif target.startswith("/generated/gallery/"):
                assert (FOLDER / target.rsplit("/", 1)[1]).with_suffix(".py").is_file(), target
            else:
                assert (site.OUT / target.removeprefix("/generated/")).is_file(), target
            linked += 1
    assert linked > 10


def test_links_by_where_they_lead(site):
    page = FOLDER.parent / "how-to" / "a.md"
    text = (
        "[a](table.md), [b `x`](../examples/fisher.py), [c](../../PAPER.md), [d](https://e.f), ![g](../../h.png), "
        "[i](../../kfac_ref/settings.py), [j](../../validation/results/kfc/kfc.txt)"
    )
    assert site.relinked(text, page) == (
        "[a](table.md), [b `x`](/generated/gallery/fisher.rst), [c](/generated/paper.md), [d](https://e.f), "
        "![g](../../h.png), i, [j](/generated/results/kfc.md)"
    )


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        ("X (N, *input), |k| < T, W_", r"X (N, \*input), \|k\| < T, W\_"),
        ("`a*b|c`s and ``x_``", r"`a*b|c`\ s and ``x_``"),
        ("* a list\n* of two", "* a list\n* of two"),
    ],
)
def test_docstrings_are_text_and_not_markup(site, docstring, text):
    assert site.escaped(docstring) == text


def test_every_public_name_has_a_docstring(site):
    for page in (site.OUT / "api").glob("*.rst"):
        if page.stem == "index":
            continue
        module = importlib.import_module(page.stem)
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if callable(thing):
                assert thing.__doc__ and not thing.__doc__.startswith(f"{name}("), f"{page.stem}.{name}"
