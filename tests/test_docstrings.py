"""Docstrings: what they show runs as it stands, and they say shapes, errors, scale and source.

A name is public if the site's reference lists it: a function or class of a module of autodiff and kfac_ref (but for the
command's), or a method of such a class, without an underscore in front. What an `__all__` names is among them. The
rules, each of which is a function below, with a test of the rule itself:

* shapes: of every argument and field that is an array, after its name, and of a result that is one;
* errors: each that is raised in its body, and that there is one where it calls a check;
* scale: of h, gradients, factors and errors, whether they are means or sums over cases;
* source: for whatever PAPER.md says that it computes, one of the sections or papers that PAPER.md names there.

`Parameters`, `Factors`, `Blocks` and other types with docstrings of their own have their shapes there.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import autodiff
import kfac_ref
from tests.test_paper import COMPUTED, MODULES, PAPER, quoted, rows

# --- what they show --------------------------------------------------------------------------------------------------


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


# --- public names ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Public:
    name: str
    node: ast.FunctionDef | ast.ClassDef
    text: str
    """Its docstring, or that of the method that it overrides."""
    around: str = ""
    """Of a method its class's docstring."""


def in_source(module: str, source: str) -> Iterator[Public]:
    """The public names of a module, in the order of its source."""
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        name, text = f"{module}.{node.name}", ast.get_docstring(node) or ""
        yield Public(name, node, text)
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                own = ast.get_docstring(inner) or inherited(module, node.name, inner.name)
                yield Public(f"{name}.{inner.name}", inner, own, text)


def fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr, str]]:
    """Name, type and docstring of each field without an underscore in front."""
    for field, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and not field.target.id.startswith("_"):
            yield field.target.id, field.annotation, below.value.value if isinstance(below, ast.Expr) else ""


def inherited(module: str, cls: str, method: str) -> str:
    bases = getattr(sys.modules.get(module), cls, object).__mro__
    return next((vars(c)[method].__doc__ for c in bases if method in vars(c) and vars(c)[method].__doc__), "")


@cache
def reference() -> tuple[str, ...]:
    """The modules that the site's reference lists."""
    path = Path(__file__).parent.parent / "docs" / "_ext" / "from_sources.py"
    spec = importlib.util.spec_from_file_location("from_sources", path)
    from_sources = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(from_sources)
    return tuple(module.__name__ for module in from_sources.modules())


@cache
def public() -> tuple[Public, ...]:
    found = []
    for name in reference():
        found += in_source(name, source_of(name))
    return tuple(found)


def source_of(module: str) -> str:
    return Path(sys.modules[module].__file__).read_text(encoding="utf-8")


def test_what_packages_offer_is_public():
    names = set(reference()) | {found.name for found in public()}
    for name in reference():
        for item in getattr(sys.modules[name], "__all__", ()):
            thing = getattr(sys.modules[name], item)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert f"{thing.__module__}.{thing.__qualname__}" in names, f"{name}.{item}"


def test_each_has_a_docstring():
    assert [found.name for found in public() if not found.text] == []


# --- shapes ----------------------------------------------------------------------------------------------------------

ARRAY = re.compile(r"\b(Array|ndarray)\b")
WORDS = {
    *("cases", "classes", "code", "columns", "copies", "count", "fan", "features", "fine", "coarse", "here", "inputs"),
    *("input", "labels", "matrices", "number", "of", "out", "outputs", "positions", "rows", "samples", "shape", "size"),
    *("targets", "width"),
}
"""Words that stand for a size; others are letters with indices."""
IN_WORDS = re.compile(
    r"\b0-d\b|\bany shapes?\b|\bshapes? (of|that|as)\b|\b(its|the same|same|their|of|that) shapes?\b|`shapes`|as of `"
)
AS_OF = re.compile(r"As of `|[^\n]*; arguments and errors as of `")
"""How a docstring begins that leaves everything to another."""


def is_size(text: str) -> bool:
    """Whether this may be one of the sizes in a shape, as in (m, d_{i−1}+1, *input)."""
    words = re.findall(r"[a-zA-Z]{2,}", text)
    return bool(text) and not re.search(r"[§&=:`]|\d{3}", text) and all(w in WORDS or len(w) < 3 for w in words)


def shapes_in(text: str) -> int:
    """How many shapes are stated in a text."""
    found = len(IN_WORDS.findall(text))
    for start in (m.start() for m in re.finditer(r"\(", text)):
        depth, sizes = 0, [""]
        for sign in text[start:]:
            depth += (sign in "([{") - (sign in ")]}")
            if depth == 0:
                break
            if depth == 1 and sign in ",;":
                sizes.append("")
            else:
                sizes[-1] += sign
        first, *others = (size.strip() for size in sizes)
        # (d,) has nothing behind its comma; what follows the first two, as in (r, m, d; None: 0), is of no matter
        found += is_size(first[1:]) and any(is_size(size) or not size for size in others[:1])
    return found


def sentences(text: str) -> list[str]:
    """Sentences, and the entries of lists of parameters, each with what it says."""
    parts = re.split(r"\n\n|\n(?=\S[^\n]* :)|\n(?=\S+\n)", text)
    return [" ".join(s.split()) for part in parts for s in re.split(r"(?<=[.;])\s+(?=[A-ZΣ`])", part)]


def without_shapes(found: Public) -> list[str]:
    """The arguments, the result and the fields whose shapes it does not state."""
    if AS_OF.match(found.text):
        return []
    said, missing = sentences(found.text), []
    if isinstance(found.node, ast.ClassDef):
        arrays = [field for field in fields(found.node) if of_arrays(field[1])]
        return [name for name, _, own in arrays if not shapes_in(own) and not shapes_in(found.text)]
    node = found.node.args
    arguments = [a.arg for a in (*node.args, *node.kwonlyargs) if a.arg != "like" and of_arrays(a.annotation)]
    for name in arguments:
        behind = [re.split(rf"(?<!\w)`?{name}`?(?!\w)", s, maxsplit=1)[1:] for s in said]
        if not any(shapes_in(rest) for rests in behind for rest in rests):
            missing.append(name)
    # one more than that of an argument; what is for any shape is so for the result
    least = 1 if not arguments or re.search(r"\bany shapes?\b", found.text) else 2
    if of_arrays(found.node.returns) and shapes_in(found.text) < least:
        missing.append("the result")
    return missing


def of_arrays(annotation: ast.expr | None) -> bool:
    """Whether it is of arrays, and no function of arrays. What is like another array has any shape."""
    text = "" if annotation is None else ast.unparse(annotation)
    return bool(ARRAY.search(text)) and "Callable" not in text


def test_shapes():
    assert [f"{found.name}: {name}" for found in public() for name in without_shapes(found)] == []


# --- errors ----------------------------------------------------------------------------------------------------------

OF_NO_CALLER = {"NotImplementedError", "AssertionError"}
"""What a method raises that subclasses are to override, and what cannot happen."""
CHECKS = re.compile(r"closest|require(_\w*[a-z])?|check_\w+")
"""Names of functions that raise if something is wrong with what they are given."""


def raised(node: ast.AST, caught: tuple[type, ...] = ()) -> set[str]:
    """The errors that a body raises itself and does not catch."""
    if isinstance(node, ast.Try):
        handled = [h.type for h in node.handlers if h.type is not None]
        names = {n.id for t in handled for n in ast.walk(t) if isinstance(n, ast.Name)}
        here = tuple(t for name in names if isinstance(t := getattr(builtins, name, None), type))
        rest = (*node.handlers, *node.orelse, *node.finalbody)
        return set().union(*(raised(n, caught + here) for n in node.body), *(raised(n, caught) for n in rest))
    if isinstance(node, ast.Raise) and node.exc is not None:
        name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc).rpartition(".")[2]
        kind = getattr(builtins, name, None)
        is_caught = isinstance(kind, type) and issubclass(kind, caught)
        return set() if is_caught or name in OF_NO_CALLER or not name[0].isupper() else {name}
    return set().union(*(raised(n, caught) for n in ast.iter_child_nodes(node)))


def checks(node: ast.AST) -> set[str]:
    """The checks that a body calls."""
    calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    names = [f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls]
    return {name for name in names if CHECKS.fullmatch(name)}


def without_errors(found: Public) -> list[str]:
    """The errors that are raised, or the checks that are called, of which it says nothing."""
    bodies = [found.node]
    if isinstance(found.node, ast.ClassDef):
        made_by = ("__init__", "__post_init__")
        bodies = [n for n in found.node.body if isinstance(n, ast.FunctionDef) and n.name in made_by]
    errors = set().union(*map(raised, bodies))
    if errors:
        return sorted(e for e in errors if e not in found.text)
    if re.search(r"Error\b|Diverged|rrors as of|[Aa]s of `", found.text):
        return []
    return sorted(set().union(*map(checks, bodies)))


def test_errors():
    assert [f"{found.name}: {name}" for found in public() for name in without_errors(found)] == []


# --- scale -----------------------------------------------------------------------------------------------------------

OF_CASES = re.compile(r"\b(Factors|ImplicitFactors|Loss|Evaluation|Estimate)\b")
"""Types whose numbers are means, or sums, over cases. What makes factors of factors leaves their scale as it is."""
GRADIENTS = re.compile(r"gradient|log_likelihood|log_evidence|pull_back")
FIELDS = ("h", "error", "gradient", "A", "G", "a", "g")
SCALE = re.compile(r"\b(means?|sums?|summed|average|each case|every case)\b|Σ|E\[|\bas (of )?`", re.I)


def without_scale(found: Public) -> list[str]:
    """What is a mean or a sum over cases, and is not said to be either."""
    if isinstance(found.node, ast.ClassDef):
        if not re.fullmatch(r"(Factors|Lagged|Rows|Loss|Evaluation|\w*Record)", found.node.name):
            return []
        scaled = [field for field in fields(found.node) if field[0] in FIELDS]
        return [name for name, _, own in scaled if not SCALE.search(own) and not SCALE.search(found.text)]
    arguments = [ast.unparse(a.annotation) for a in found.node.args.args if a.annotation is not None]
    if any(re.search(r"\b(Factors|ImplicitFactors)\b", a) for a in arguments) or ".Factors." in found.name:
        return []
    result = "" if found.node.returns is None else ast.unparse(found.node.returns)
    numbers = of_arrays(found.node.returns) or re.search(r"\b(Parameters|float)\b", result)
    scaled = OF_CASES.search(result) or (GRADIENTS.search(found.node.name) and numbers)
    return ["the result"] if scaled and not SCALE.search(found.text) else []


def test_scale():
    assert [f"{found.name}: {name}" for found in public() for name in without_scale(found)] == []


# --- source ----------------------------------------------------------------------------------------------------------

NOT_OF_A_PAPER = "Around the mathematics"
"""PAPER.md's section of functions that choose by name, check, and report."""
NO_SOURCE = {"Beyond", "Layers", "Normalisation", "Residual", "all of it"}
"""What stands where PAPER.md has no section or paper to name."""
WITHOUT_EQUATIONS = {
    "autodiff.arrays": "what an array library does",
    "autodiff.names": "choosing by name",
    "autodiff.share": "which cases are in a process",
    "autodiff.text": "networks as text",
    "autodiff.threads": "work side by side",
    "autodiff.trees": "arrays taken out of what holds them",
    "kfac_ref.batch": "what an optimizer is given",
    "kfac_ref.data": "files and data sets",
    "kfac_ref.estimators": "scikit-learn's interface",
    "kfac_ref.machine": "threads, memory, processes",
    "kfac_ref.oracle": "comparisons with what the other modules compute",
    "kfac_ref.training": "runs, files and networks by name",
}
"""Modules, with those below them, of which PAPER.md need not name every function, and what they are for."""


@cache
def named_in_the_paper() -> dict[str, set[str]]:
    """By name of code, the sections and papers at which PAPER.md has it."""
    found: dict[str, set[str]] = {}
    for _, header, cells in rows(PAPER.partition(f"## {NOT_OF_A_PAPER}")[0]):
        if header == COMPUTED:
            sources = {s for s in re.split(r", (?=§|\(|MacKay|Immer)|, .*", cells[0]) if s} - NO_SOURCE
            for name in quoted(cells[2]):
                found.setdefault(name, set()).update(sources)
    return found


def without_source(found: Public, sources: set[str]) -> list[str]:
    """The sources, of which it is to name one, if it names none of them; a method's class may do so."""
    text = " ".join(f"{found.text} {found.around}".replace("Algorithm", "Alg.").split())
    named = any(re.search(rf"{re.escape(source)}(?![.\d]*\d)", text) for source in sources)
    return [] if named else [" or ".join(sorted(sources))]


def test_source():
    wanted = named_in_the_paper()
    named = [found for found in public() if wanted.get(found.name)]
    assert len(named) > 150
    assert [f"{x.name}: {source}" for x in named for source in without_source(x, wanted[x.name])] == []


def test_modules_are_in_the_paper_or_have_no_equations():
    for name in reference():
        module = sys.modules[name]
        offers = hasattr(module, "__path__") and hasattr(module, "__all__")
        below = any(name == other or name.startswith(f"{other}.") for other in WITHOUT_EQUATIONS)
        empty = not any(found.name.startswith(f"{name}.") for found in in_source(name, source_of(name)))
        assert name in MODULES or below or offers or empty, name


# --- the rules themselves --------------------------------------------------------------------------------------------


def of(source: str) -> Public:
    """The last public name of a module with this source."""
    return [*in_source("somewhere", source)][-1]


SHAPES = ["(m, d)", "(…, m·T, d_i)", "(d_i (d_{i−1}+1), *input)", "(N,)", "0-d", "of any shape", "of the shape of X"]
SHAPES += ["(⌈τ₁m⌉, d_ℓ)", "(N, rows, columns)", "(out, d + out [+1])", "(r, m, d; None: 0)"]
OTHERS = ["", "(see autodiff.arrays)", "(§2, §3)", "(so, it seems)", "(d)", "f(x)", "(RNN §3, option 1)", "X, Y"]
OTHERS += ["(Ritter, 2018)", "a matrix (as it is, or not)"]


@pytest.mark.parametrize(("text", "stated"), [*((t, 1) for t in SHAPES), *((t, 0) for t in OTHERS)])
def test_what_states_a_shape(text, stated):
    assert shapes_in(text) == stated


@pytest.mark.parametrize(
    ("docstring", "missing"),
    [
        ("A, of X (m, d) and Y (m, k): (d, k).", []),
        ("The product of X and Y.", ["X", "Y", "the result"]),
        ("A (d, k) of X (m, d).\n\n    Y is of the same shape.", []),
        ("A of X (m, d) and Y.", ["Y", "the result"]),
        ("(d, k).\n\n    Parameters\n    ----------\n    X, Y : (m, d)", []),
        ("0-d.\n\n    Parameters\n    ----------\n    X : (m, d)\n    Y : array", ["Y"]),
        ("As of `other`.", []),
    ],
)
def test_arguments_and_results_have_shapes(docstring, missing):
    signature = "X: Array, Y: Array | None, g: Callable[[Array], Array], like: Array"
    source = f'def f({signature}) -> Array:\n    """{docstring}"""'
    assert without_shapes(of(source)) == missing


@pytest.mark.parametrize(
    ("docstring", "below", "missing"),
    [("A.", "", ["x"]), ("A (n, n).", "", []), ("A.", "(n,).", []), ("A.", "Of A.", ["x"])],
)
def test_fields_have_shapes(docstring, below, missing):
    source = f'class A:\n    """{docstring}"""\n    x: Array\n    """{below}"""\n    n: int\n    _y: Array'
    assert without_shapes(of(source)) == missing


@pytest.mark.parametrize(
    ("docstring", "body", "missing"),
    [
        ("A.", "raise ValueError", ["ValueError"]),
        ("A. ValueError if not.", "raise ValueError('no')", []),
        ("A. ValueError if not.", "raise TypeError('no')", ["TypeError"]),
        ("A.", "try:\n        raise PermissionError\n    except OSError:\n        pass", []),
        ("A.", "try:\n        pass\n    except OSError as error:\n        raise ValueError from error", ["ValueError"]),
        ("A.", "def inner():\n        raise ValueError\n    return inner", ["ValueError"]),
        ("A.", "raise NotImplementedError", []),
        ("A.", "raise", []),
        ("A.", "closest(name, names, 'name')", ["closest"]),
        ("A.", "network.check_batch(X, Y)", ["check_batch"]),
        ("A. TypeError if not.", "network.check_batch(X, Y)", []),
        ("A.", "x.requires_grad_(True)", []),
    ],
)
def test_errors_are_said(docstring, body, missing):
    assert without_errors(of(f'def f():\n    """{docstring}"""\n    {body}')) == missing


def test_errors_of_making_an_object_are_its_class_s():
    source = 'class A:\n    """A."""\n    def __post_init__(self):\n        raise ValueError'
    assert without_errors(of(source)) == ["ValueError"]


@pytest.mark.parametrize(
    ("docstring", "signature", "missing"),
    [
        ("The factors.", "() -> Factors", ["the result"]),
        ("The factors, means over cases.", "() -> Factors", []),
        ("The factors, transposed.", "(factors: Factors) -> Factors", []),
        ("∇h.", "() -> Parameters", ["the result"]),
        ("The sum of 𝒟θ over cases.", "() -> Parameters", []),
        ("Whether there is one.", "() -> bool", []),
    ],
)
def test_scale_is_said(docstring, signature, missing):
    assert without_scale(of(f'def gradient{signature}:\n    """{docstring}"""')) == missing


@pytest.mark.parametrize(
    ("docstring", "missing"),
    [("A (§6.3).", []), ("A (§6).", ["App. B or §6.3"]), ("A (§6.35).", ["App. B or §6.3"]), ("A, App. B.", [])],
)
def test_a_source_is_named(docstring, missing):
    assert without_source(of(f'def f():\n    """{docstring}"""'), {"§6.3", "App. B"}) == missing


def test_a_class_names_the_source_of_its_methods():
    source = 'class A:\n    """Of Algorithm 2."""\n    def b(self):\n        """B."""'
    assert without_source(of(source), {"Alg. 2"}) == []
