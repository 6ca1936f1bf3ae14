"""What is handed out: all packages, what the sdist needs, and a name that another distribution has too."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

import kfac_ref

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_module_is_in_a_package_that_is_handed_out(project):
    include = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = set(find_packages(str(ROOT), include=include))
    folders = {p.parent for top in ("autodiff", "kfac_ref") for p in (ROOT / top).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == packages


def test_files_that_are_no_modules_are_handed_out_too(project):
    data = project["tool"]["setuptools"]["package-data"]
    found = {
        p for package, patterns in data.items() for q in patterns for p in (ROOT / package.replace(".", "/")).glob(q)
    }
    others = {
        p
        for top in ("autodiff", "kfac_ref")
        for p in (ROOT / top).rglob("*")
        if p.is_file() and p.suffix not in (".py", ".pyc")
    }
    assert others <= found


def test_the_version_is_the_same_everywhere(project):
    (cited,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert project["project"]["version"] == kfac_ref.__version__ == cited


def test_what_the_manifest_names_is_there():
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        kind, *names = line.split()
        if kind in ("include", "graft"):
            assert all((ROOT / name).exists() for name in names), line


def test_another_package_called_autodiff(tmp_path):
    """As PyPI's autodiff-py leaves it when it is installed after this."""
    (tmp_path / "autodiff").mkdir()
    (tmp_path / "autodiff" / "__init__.py").write_text("from math import sin\n")
    (tmp_path / "kfac_ref").mkdir()
    (tmp_path / "kfac_ref" / "__init__.py").write_text((ROOT / "kfac_ref" / "__init__.py").read_text(encoding="utf-8"))
    run = subprocess.run([sys.executable, "-c", "import kfac_ref"], cwd=tmp_path, capture_output=True, text=True)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and "is not the package autodiff that kfac-ref brings" in last
    assert "pip uninstall autodiff-py" in last
