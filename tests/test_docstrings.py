"""What docstrings show runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import autodiff
import kfac_ref


def modules():
    for package in (autodiff, kfac_ref):
        yield package.__name__
        yield from (m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def with_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in modules():
        try:
            module = importlib.import_module(name)
        except ImportError:  # what needs a package that is not there
            continue
        yield from (test for test in finder.find(module) if test.examples)


@pytest.mark.parametrize("example", list(with_examples()), ids=lambda test: test.name)
def test_examples(example):
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example).failed == 0
