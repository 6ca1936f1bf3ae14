"""Pages that have their source elsewhere: PAPER.md with links, results, and the reference.

They are written to `generated/` before Sphinx reads its sources. Links of the other pages lead to files of the
repository, so that they work in a clone too; on the site those to results, examples and PAPER.md lead to their pages.
"""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "generated"

RESULTS = {
    "report": "The report",
    "speed": "Benchmark and race",
    "estimators": "Estimators beside scikit-learn's",
    "fashion16": "The first run",
    "influence": "Influence",
    "kfc": "Convolutional networks",
    "peers": "What the check finds of other libraries",
    "policy": "Policies",
    "posterior": "Posteriors",
    "presets": "Presets",
    "processes": "Many processes",
    "recurrent": "Recurrent networks",
}
"""Folder of validation/results: title of its page."""

PAGES = {"PAPER.md": "/generated/paper.md", "docs/examples/README.rst": "/generated/gallery/index.rst"}
"""Other files that have pages."""


def written(path: Path, text: str) -> None:
    """A file is only written if it changes, so that Sphinx need not read it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


# --- links -----------------------------------------------------------------------------------------------------------


def relinked(text: str, page: Path) -> str:
    """Links from a page to files outside of `docs` and to examples, as links to the site's pages, or as text alone."""

    def link(found: re.Match[str]) -> str:
        label, target = found.groups()
        if "://" in target or target.startswith(("#", "/")):
            return found[0]
        path = os.path.relpath(page.parent / target, ROOT)
        if example := re.fullmatch(r"docs/examples/(\w+)\.py", path):
            return f"[{label}](/generated/gallery/{example[1]}.rst)"
        if (result := re.match(r"validation/results/(\w+)/", path)) and result[1] in RESULTS:
            return f"[{label}](/generated/results/{result[1]}.md)"
        if path.startswith("validation/results/reference-run"):
            return f"[{label}](/generated/results/reference.md)"
        if path in PAGES:
            return f"[{label}]({PAGES[path]})"
        return found[0] if path.startswith("docs/") else label

    return re.sub(r"(?<!!)\[((?:[^\[\]`]|`[^`]*`)*)\]\(([^)\s]+)\)", link, text)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """What Sphinx is given of a page that was not generated."""
    path = Path(app.srcdir) / f"{name}.md"
    if path.is_file() and OUT not in path.parents:
        source[0] = relinked(source[0], path)


# --- PAPER.md --------------------------------------------------------------------------------------------------------


def targets() -> set[str]:
    """What automodule documents: module.name and module.Class.member, by the sources."""
    names = set()
    for page in (OUT / "api").glob("*.rst"):
        if page.stem == "index":
            continue
        module = importlib.import_module(page.stem)
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
            said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if said and isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                names.add(f"{page.stem}.{ast.unparse(target)}")
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
                names.add(f"{page.stem}.{node.name}")
                for inner in getattr(node, "body", []):
                    if (
                        isinstance(node, ast.ClassDef)
                        and isinstance(inner, ast.FunctionDef)
                        and ast.get_docstring(inner)
                    ):
                        names.add(f"{page.stem}.{node.name}.{inner.name}")
    return names


def statements() -> dict[str, tuple[str, str]]:
    """Names of the paper's statements, as regular expressions: the file and the function that check them."""
    found = {}
    for path in (ROOT / "validation" / "theorems").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Statement":
                name, check = node.args[0], node.args[5]
                parts = name.values if isinstance(name, ast.JoinedStr) else [name]
                pattern = "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)
                function = check.args[0] if isinstance(check, ast.Call) else check  # of a partial
                found[pattern] = f"validation/theorems/{path.stem}", ast.unparse(function)
    return found


def paper() -> None:
    """Names of code become links to the reference, those of tests, statements and `validation` to their text."""
    text = (ROOT / "PAPER.md").read_text(encoding="utf-8")
    known, checks, shown = targets(), statements(), {}

    def to_text(file: str, thing: str, label: str) -> str:
        shown.setdefault(file, []).append(thing)
        return f"[`{label}`](/generated/{file}.md#{re.sub(r'[^a-z0-9]+', '-', thing.lower()).strip('-')})"

    def link(found: re.Match[str]) -> str:
        name = found[1]
        if test := re.fullmatch(r"(tests/[\w/]+)\.py::(\w+)", name):
            return to_text(test[1], test[2], f"{test[1].rsplit('/', 1)[1]}::{test[2]}")
        for pattern, place in checks.items():
            if re.fullmatch(pattern, name):
                return to_text(*place, name)
        module, _, last = name.rpartition(".")
        imported = getattr(sys.modules.get(module), last, None)
        short = ".".join(name.split(".")[-2:])
        for home in (name, f"{getattr(imported, '__module__', '')}.{last}", module):
            if home in known:
                return f"{{py:obj}}`{short} <{home}>`"
        if name.startswith("validation."):
            parts = name.split(".")
            for n in range(len(parts) - 1, 0, -1):
                if (ROOT / Path(*parts[:n])).with_suffix(".py").is_file():
                    return to_text("/".join(parts[:n]), ".".join(parts[n:]), short)
        return found[0]

    text = re.sub(r"`([^`\n]+)`", link, text)
    written(OUT / "paper.md", text)
    for file, names in shown.items():
        page = OUT / f"{file}.md"
        source = os.path.relpath(ROOT / f"{file}.py", page.parent)
        body = [f"---\norphan: true\n---\n\n# {file}.py\n"]
        for name in dict.fromkeys(names):
            body.append(f"## {name}\n\n```{{literalinclude}} {source}\n:pyobject: {name}\n:lineno-match:\n```\n")
        written(page, "\n".join(body))


# --- results ---------------------------------------------------------------------------------------------------------


def results() -> None:
    for name, title in RESULTS.items():
        folder, page = ROOT / "validation" / "results" / name, OUT / "results" / f"{name}.md"
        up = os.path.relpath(folder, page.parent)
        body = [f"# {title}\n"]
        mds = sorted(folder.glob("*.md"))
        if mds:
            text = mds[0].read_text(encoding="utf-8").split("\n", 1)
            rest = text[1] if text[0].startswith("# ") else "\n".join(text)
            least = min((len(level) for level in re.findall(r"^(#+) ", rest, re.M)), default=2)
            rest = re.sub(r"^#+(?= )", lambda m, least=least: "#" * (len(m[0]) - least + 2), rest, flags=re.M)
            rest = re.sub(
                r"(!?)\[([^\]]*)\]\(([^):]+)\)", lambda m, up=up: f"{m[1]}[{m[2]}]({up}/{m[3]})" if m[1] else m[2], rest
            )
            body.append(rest)
        else:
            body += [f"![{file.stem}]({up}/{file.name})\n" for file in sorted(folder.glob("*.png"))]
        for file in sorted(folder.glob("*.txt")):
            body.append(f"## {file.name}\n\n```{{literalinclude}} {up}/{file.name}\n:language: text\n```\n")
        written(page, "\n".join(body))
    pairs = []
    for kind in ("block-diagonal", "block-tridiagonal"):
        file = f"reference-run-mnist-{kind}"
        up = os.path.relpath(ROOT / "validation" / "results", OUT / "results")
        pairs.append(f"## {kind}\n\n![errors beside the authors']({up}/{file}.png)\n")
        pairs.append(f"```{{literalinclude}} {up}/{file}.txt\n:language: text\n```\n")
    head = "# MNIST beside the authors' program\n\n`python -m validation reference-run mnist` prints these.\n"
    written(OUT / "results" / "reference.md", "\n".join([head, *pairs]))


# --- reference -------------------------------------------------------------------------------------------------------


def modules() -> Iterator[ModuleType]:
    import autodiff
    import kfac_ref

    for package in (autodiff, kfac_ref):
        names = [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))]
        for name in names:
            if re.search(r"\.(_|command)|pytest_plugin|conformance$", name):
                continue
            try:
                yield importlib.import_module(name)
            except ImportError:  # what needs a package that is not there
                continue


def reference() -> None:
    pages = []
    for module in modules():
        name = module.__name__
        rule = "=" * len(name)
        public = getattr(module, "__all__", None)
        if public is not None and hasattr(module, "__path__"):
            lines = []
            for item in public:
                home = getattr(getattr(module, item), "__module__", None)
                lines.append(f"* :py:obj:`{item} <{home}.{item}>`" if home else f"* `{item}`")
            body = f".. automodule:: {name}\n   :no-members:\n\n" + "\n".join(lines)
        else:
            body = f".. automodule:: {name}\n   :members:"
        written(OUT / "api" / f"{name}.rst", f"{name}\n{rule}\n\n{body}\n")
        pages.append(name)
    tree = "\n".join(f"   {name}" for name in pages)
    text = "Reference\n=========\n\nEvery public name, by module, in the order of imports.\n\n"
    written(OUT / "api" / "index.rst", f"{text}.. toctree::\n   :maxdepth: 1\n\n{tree}\n")


def escaped(text: str) -> str:
    """A docstring as reStructuredText: between backticks it is code, and elsewhere *, | and a last _ are themselves."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", text)
    for n in range(0, len(parts), 2):
        part = re.sub(r"\*(?! )|(?<=\S)\*", r"\\*", parts[n])
        part = re.sub(r"\|", r"\\|", part)
        part = re.sub(r"_(?!\w)", r"\\_", part)
        parts[n] = re.sub(r"^(?=\w)", r"\\ ", part) if n else part
    return "".join(parts)


def docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Doctests stay as they are."""
    blocks = re.split(r"(^ *>>>.*?(?:\n\n|\Z))", "\n".join(lines), flags=re.M | re.S)
    lines[:] = "".join(b if n % 2 else escaped(b) for n, b in enumerate(blocks)).split("\n")


def skipped(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """What scikit-learn adds to estimators, and aliases of types."""
    if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) or typing.get_origin(thing) is not None:
        return True
    return None


def generate(app: Sphinx) -> None:
    """All of them."""
    reference()
    paper()
    results()


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", generate, priority=1)
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring, priority=1)
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True}
