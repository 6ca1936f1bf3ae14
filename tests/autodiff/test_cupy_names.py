"""Every name of CuPy that the code uses is there and takes the arguments it is given: for this, no device is needed.

The names are collected from the source: what is looked up in CuPy itself, and what is looked up in the namespace of the
arrays at hand, which is array-api-compat's for CuPy. Skipped where CuPy is not installed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autodiff import arrays
from tests.autodiff.test_arrays import FUSED

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("autodiff", "kfac_ref", "validation") for path in (ROOT / package).rglob("*.py"))

NAMESPACE = "array_api_compat.cupy"
LIBRARIES = ("cupy", "cupyx")


@dataclass(frozen=True)
class Use:
    """A name of CuPy, and how it is called."""

    name: str
    """With its module, as "cupy.random.Generator" or "array_api_compat.cupy.linalg.cholesky"."""
    positional: int = 0
    keywords: tuple[str, ...] = ()
    called: bool = False


class Collector(ast.NodeVisitor):
    """Finds the uses in a module."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        """What a local name stands for."""
        self.uses: set[Use] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.known = self.known, dict(self.known)
        # a parameter hides what an outer name stands for, except a namespace, which is handed on as `xp`
        for argument in (*node.args.args, *node.args.kwonlyargs):
            self.known.pop(argument.arg, None)
            if argument.arg == "xp":
                self.known["xp"] = NAMESPACE
        self.generic_visit(node)
        self.known = outer

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in LIBRARIES:
                self.uses.add(Use(alias.name))
                target = alias.asname or alias.name.split(".")[0]
                self.known[target] = alias.name if alias.asname else target

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and node.module.split(".")[0] in LIBRARIES:
            for alias in node.names:
                self.known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self.uses.add(Use(f"{node.module}.{alias.name}"))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for left, right in pairs:
                meaning = self.meaning(right)
                if isinstance(left, ast.Name):
                    self.known.pop(left.id, None)
                    if meaning is not None:
                        self.known[left.id] = meaning

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = self.meaning(node.func)
        if name is not None and name != NAMESPACE:
            starred = any(isinstance(a, ast.Starred) for a in node.args)
            keywords = tuple(k.arg for k in node.keywords if k.arg is not None)
            self.uses.add(Use(name, 0 if starred else len(node.args), keywords, called=not starred))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        name = self.meaning(node)
        if name is not None:
            self.uses.add(Use(name))

    def meaning(self, node: ast.AST) -> str | None:
        """The dotted name of CuPy that an expression stands for, if it does."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute):
            before = self.meaning(node.value)
            return None if before is None else f"{before}.{node.attr}"
        if isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            return NAMESPACE if function == "namespace" else None
        return None


def collect(source: str) -> set[Use]:
    collector = Collector()
    collector.visit(ast.parse(source))
    return collector.uses


def all_uses() -> dict[Use, list[str]]:
    """Each use, with the files in which it is."""
    found: dict[Use, list[str]] = {}
    for path in SOURCES:
        for use in collect(path.read_text(encoding="utf-8")):
            found.setdefault(use, []).append(str(path.relative_to(ROOT)))
    return found


USES = all_uses()


def resolve(name: str) -> Any:
    """The object of a dotted name; ImportError or AttributeError if there is none."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def signature(function: Any) -> inspect.Signature | None:
    """As Python knows it, or as the first line of the documentation has it; None if neither tells."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        pass
    if isinstance(getattr(function, "nin", None), int):  # a ufunc
        parameters = ", ".join(f"x{i}" for i in range(function.nin)) + ", /, out=None, *, casting=None, dtype=None"
    else:
        match = re.match(r"[\w.]+\((.*?)\)(?: ->.*)?$", (function.__doc__ or "").strip().split("\n")[0])
        if match is None:
            return None
        # Cython writes types before names
        parameters = re.sub(r"\b\w+ (\w+)", r"\1", match[1])
    scope: dict[str, Callable[..., None]] = {}
    exec(f"def function({parameters}): ...", scope)
    return inspect.signature(scope["function"])


def refused(use: Use) -> str | None:
    """Why the function does not take these arguments; None if it does, or if nobody can tell."""
    function = resolve(use.name)
    described = signature(function)
    if described is None:
        return None
    named = {n for n, p in described.parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    unnamed = [k for k in use.keywords if k not in named]
    try:
        described.bind(*[None] * use.positional, **dict.fromkeys(use.keywords))
    except TypeError as error:
        return str(error)
    if unnamed and use.name.startswith(f"{NAMESPACE}."):  # **kwargs are handed on to CuPy's own function
        return refused(Use(use.name.removeprefix("array_api_compat."), use.positional, use.keywords, True))
    return None


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy")


# --- with CuPy, with or without a device ----------------------------------------------------------------------------


def test_every_name_exists(cupy):
    missing = []
    for use, files in USES.items():
        try:
            resolve(use.name)
        except (ImportError, AttributeError) as error:
            missing.append(f"{use.name} in {', '.join(files)}: {error}")
    assert missing == []


def test_every_call_fits(cupy):
    misfits = [f"{use.name} in {', '.join(files)}: {refused(use)}" for use, files in USES.items() if use.called]
    assert [text for text in misfits if not text.endswith(": None")] == []


def test_every_conversion_to_the_host_goes_by_get(cupy, monkeypatch):
    """So that counting `get` counts all transfers, as tests/kfac_ref/test_transfers.py does. The array is a fiction."""
    memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(4096, 8, None, 0), 0)
    x, calls = cupy.ndarray((), dtype=np.float64, memptr=memory), []
    monkeypatch.setattr(cupy.ndarray, "get", lambda self, *args, **kwargs: calls.append(1) or np.array(1.5))
    doors = (float, int, bool, complex, repr, str, cupy.asnumpy, *map(methodcaller, ("item", "tolist", "tobytes")))
    for number, door in enumerate(doors, start=1):
        door(x)
        assert len(calls) == number
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)


@pytest.mark.parametrize("number", ["float", "double"])
@pytest.mark.parametrize("name", FUSED)
def test_every_fused_kernel_compiles(cupy, name, number):
    nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
    try:
        nvrtc.getVersion()
    except Exception as error:  # CuPy tells in several ways that it does not find the compiler
        pytest.skip(f"no NVRTC: {error}")
    operands = [operand.strip() for operand in FUSED[name].operands.split(",")]
    parameters = ", ".join(f"{number} {operand}" for operand in operands)
    code = f"typedef {number} T; __device__ T f({parameters}) {{ T out; {FUSED[name].operation}; return out; }}"
    # a function that nothing calls is compiled, too
    nvrtc.compileProgram(nvrtc.createProgram(code, "fused.cu", (), ()), ("--gpu-architecture=compute_80",))


def test_numbers_among_the_operands_of_a_kernel_take_the_dtype_of_its_arrays(cupy):
    """So that float32 stays float32: by the function with which CuPy's kernels decide it."""
    from cupy._core._kernel import _decide_params_type

    kernel = cupy.ElementwiseKernel("T alpha, T x, T beta, T y", "T out", arrays.combination.operation)
    for dtype in map(np.dtype, ("float32", "float64")):
        types = _decide_params_type(kernel.in_params, kernel.out_params, (None, dtype, None, dtype), ())
        assert types[:2] == ((dtype,) * 4, (dtype,))


# --- the collection itself -------------------------------------------------------------------------------------------


def test_the_collection_finds_what_the_code_uses():
    names = {use.name for use in USES}
    assert {"cupy.random.Philox4x3210", "cupy.cuda.runtime.getDeviceCount", "cupyx.scipy.special.expit"} <= names
    assert {f"{NAMESPACE}.{name}" for name in ("linalg.cholesky", "linalg.eigh", "take", "tanh", "concat")} <= names
    assert Use(f"{NAMESPACE}.take", 2, ("axis",), True) in USES


def test_the_collection_follows_names():
    source = """
def f(x):
    xp, n = namespace(x), 3
    concat = arrays.namespace(x, x).concat
    def g(concat):
        return concat(x)
    import cupyx.scipy.special
    from cupy.linalg import norm as length
    cupyx.scipy.special.expit(x, out=x)
    concat([x], axis=1)
    np.linalg.norm(x)
    return xp.linalg.inv(*x) + length(x)
"""
    called = {use for use in collect(source) if use.called}
    assert called == {
        Use("cupyx.scipy.special.expit", 1, ("out",), True),
        Use(f"{NAMESPACE}.concat", 1, ("axis",), True),
        Use("cupy.linalg.norm", 1, (), True),
    }
    assert Use(f"{NAMESPACE}.linalg.inv", 0, (), False) in collect(source)


def test_a_call_that_does_not_fit_is_found(cupy):
    assert refused(Use(f"{NAMESPACE}.exp", 1, ("axis",), True)) is not None
    assert refused(Use(f"{NAMESPACE}.matmul", 2, ("where",), True)) is not None
    assert refused(Use(f"{NAMESPACE}.matmul", 2, ("out",), True)) is None
    with pytest.raises(AttributeError):
        refused(Use("cupy.no_such_function", 1, (), True))
