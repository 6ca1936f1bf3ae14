"""The site: `python -m sphinx -W -b html docs docs/_build/html`. Nothing is fetched."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

import kfac_ref  # noqa: E402

project = "kfac-ref"
author = "The kfac-ref developers"
copyright = author
release = version = kfac_ref.__version__

extensions = [
    "from_sources",
    "local_links",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.katex",
]
exclude_patterns = ["_build", "examples", "generated/**/*.ipynb", "sg_execution_times.rst", "**/sg_execution_times.rst"]
default_role = "code"
nitpicky = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_mock_imports = [name for name in ("mpi4py",) if importlib.util.find_spec(name) is None]
numpydoc_show_class_members = False

# an example is run where what it needs is installed, and else shown without what it prints
_NEEDS = {"check_your_kfac": "torch", "policy": "gymnasium"}
_absent = [name for name, package in _NEEDS.items() if importlib.util.find_spec(package) is None]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": "/(?!(?:" + "|".join(_absent or ["-"]) + r")\.py)[^/]*\.py$",
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "plot_gallery": True,
    "abort_on_example_error": True,
    "min_reported_time": 1e9,
}

html_theme = "pydata_sphinx_theme"
html_title = "kfac-ref"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "conventions": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {page: [] for page in ("index", "explanation", "conventions", "generated/paper", "generated/gallery/*")}
html_show_sourcelink = False

# the same version of KaTeX as the scripts in sphinxcontrib-katex
katex_css_path = "katex/katex.min.css"
