"""kfac_ref.machine: how many threads the BLAS has and when, and what is said of its kernel."""

from __future__ import annotations

import os
import sys

import pytest
from threadpoolctl import threadpool_info

from kfac_ref.machine import NARROW, at_full_speed, blas, blas_warning, cores
from tests.kfac_ref.machine.test_cores import Taking


class Library:
    def __init__(self, threads):
        self.num_threads = threads


class Pool:
    """In the place of a threadpoolctl controller of one library with so many threads at first."""

    def __init__(self, threads):
        self.lib_controllers = [] if threads is None else [Library(threads)]

    def limit(self, limits):
        return Limit(self, limits)

    @property
    def threads(self):
        return self.lib_controllers[0].num_threads


class Limit:
    def __init__(self, pool, limits):
        self.pool, self.limits = pool, limits

    def __enter__(self):
        self.before = [x.num_threads for x in self.pool.lib_controllers]
        for x in self.pool.lib_controllers:
            x.num_threads = self.limits

    def __exit__(self, *error):
        for x, threads in zip(self.pool.lib_controllers, self.before, strict=True):
            x.num_threads = threads


@pytest.fixture
def pools(monkeypatch, tmp_path):
    """NumPy's and SciPy's BLAS with four threads each, on four cores."""
    both = Pool(4), Pool(4)
    monkeypatch.setattr(blas, "libraries", lambda: both)
    monkeypatch.setattr(cores, "usable", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(cores, "slots_folder", lambda: tmp_path)
    return both


@pytest.mark.parametrize(
    ("widest", "threads", "expected"),
    [(1000, None, 4), (NARROW + 1, None, 4), (NARROW, None, 1), (1, None, 1), (1000, 3, 3), (1, 2, 2), (1000, 9, 9)],
)
def test_threads(pools, widest, threads, expected):
    with at_full_speed(widest, threads) as count:
        assert count == expected == pools[0].threads
        assert pools[1].threads == 1
    assert (pools[0].threads, pools[1].threads) == (4, 4)


def test_never_more_than_the_blas_has_or_the_process_may_use(pools, monkeypatch):
    pools[0].lib_controllers[0].num_threads = 2
    with at_full_speed(1000) as count:
        assert count == 2
    pools[0].lib_controllers[0].num_threads = 64
    with at_full_speed(1000) as count:
        assert count == 4
    monkeypatch.setattr(cores, "usable", lambda: [0])
    with at_full_speed(1000) as count:
        assert count == 1


@pytest.mark.parametrize(("others", "expected"), [(0, 4), (1, 3), (3, 1), (4, 1)])
def test_what_other_runs_have_taken_is_left_to_them(pools, others, expected):
    with Taking(cores.slots_folder(), others, of=4):
        with at_full_speed(1000) as count:
            assert count == pools[0].threads == expected
        with at_full_speed(1000, 4) as count:
            assert count == 4


def test_within_another(pools):
    """As `Run.train` is within the command, or a run within a benchmark."""
    with at_full_speed(1000, 3) as outer:
        for widest, expected in ((1000, 3), (10, 1)):
            with at_full_speed(widest) as inner:
                assert (outer, inner, pools[0].threads) == (3, expected, expected)
            assert pools[0].threads == 3
    with at_full_speed(1000) as count:
        assert count == 4


def test_all_is_as_before_after_an_error(pools, monkeypatch):
    events = []
    monkeypatch.setattr(blas, "kept_memory", lambda: Told(events))
    for _ in range(2):
        with pytest.raises(KeyError), at_full_speed(1000), at_full_speed(1000):
            raise KeyError
    assert events == ["begins", "ends"] * 2  # once for both, one within the other
    assert (pools[0].threads, pools[1].threads) == (4, 4)


class Told:
    def __init__(self, events):
        self.events = events

    def __enter__(self):
        self.events.append("begins")

    def __exit__(self, *error):
        self.events.append("ends")


def test_a_blas_whose_threads_cannot_be_set(pools, monkeypatch):
    monkeypatch.setattr(blas, "libraries", lambda: (Pool(None), Pool(None)))
    with at_full_speed(1000) as count:
        assert count is None


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(threads):
    with pytest.raises(ValueError, match=f"threads must be ≥ 1; got {threads}"), at_full_speed(1000, threads):
        pass


def test_the_pools_of_this_process():
    """As threadpoolctl sees them from outside."""

    def found():
        return {x["filepath"]: x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}

    before = found()
    with at_full_speed(1000, 2) as count:
        within = found()
        assert count in (2, None)
        for path, threads in within.items():
            assert threads == (1 if blas._is_scipys(path) else 2), path
    assert found() == before


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/venv/lib/python3.11/site-packages/scipy.libs/libscipy_openblas-6cdc3b4a.so", True),
        ("/venv/lib/python3.11/site-packages/numpy.libs/libscipy_openblas64_-32a4b2a6.so", False),
        ("/venv/lib/python3.11/site-packages/scipy/.dylibs/libscipy_openblas.dylib", True),
        ("/venv/lib/python3.11/site-packages/numpy/.dylibs/libscipy_openblas64_.dylib", False),
        ("/opt/scipy/lib/libopenblasp-r0.3.30.so", False),
    ],
)
def test_which_blas_is_scipys(path, expected):
    assert blas._is_scipys(path) is expected


# --- the kernel ----------------------------------------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch):
    """Have this kernel found on this processor, and OPENBLAS_CORETYPE be this."""

    def set_(kernel, processor, chosen=None):
        monkeypatch.setattr(blas, "_kernels", lambda: [kernel] if kernel is not None else [])
        monkeypatch.setattr(blas, "_processor", lambda: processor)
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        if chosen:
            monkeypatch.setenv("OPENBLAS_CORETYPE", chosen)

    return set_


@pytest.mark.parametrize(
    ("kernel", "processor"),
    [
        ("Haswell", "AVX-512"),
        ("Zen", "AVX-512"),
        ("Sandybridge", "AVX-512"),
        ("Sandybridge", "AVX2"),
        ("Nehalem", "AVX2"),
        ("Prescott", "AVX-512"),
        ("Prescott", "AVX"),
    ],
)
def test_an_old_kernel_is_warned_of(found, kernel, processor):
    found(kernel, processor)
    said = blas_warning()
    assert f'"{kernel}"' in said and processor in said and "OPENBLAS_CORETYPE" not in said
    found(kernel, processor, chosen=kernel)
    assert f"OPENBLAS_CORETYPE is set to {kernel}" in blas_warning()
    assert "\n" not in blas_warning()


@pytest.mark.parametrize(
    ("kernel", "processor"),
    [
        ("SkylakeX", "AVX-512"),
        ("Cooperlake", "AVX-512"),
        ("SapphireRapids", "AVX-512"),
        ("Haswell", "AVX2"),
        ("Zen", "AVX2"),
        ("Nehalem", "SSE"),
        ("armv8", None),
        ("neoversen1", None),
        ("a kernel of tomorrow", "AVX-512"),
        ("", "AVX-512"),
        ("Haswell", None),
        (None, "AVX-512"),
    ],
)
def test_otherwise_nothing_is_said(found, kernel, processor):
    found(kernel, processor, chosen="whatever")
    assert blas_warning() is None


def test_only_openblas_is_judged(monkeypatch):
    class Controller:
        def info(self):
            return [
                {"internal_api": "mkl", "architecture": "x"},
                {"internal_api": "blis", "architecture": "haswell"},
                {"internal_api": "openblas", "architecture": "Zen"},
                {"internal_api": "openblas"},
            ]

    monkeypatch.setattr(blas, "libraries", lambda: (Controller(), None))
    assert blas._kernels() == ["Zen", ""]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"SSE": True, "AVX": True, "AVX2": True, "FMA3": True, "AVX512F": True, "AVX512_SKX": True}, "AVX-512"),
        ({"SSE": True, "AVX": True, "AVX2": True, "FMA3": True, "X86_V4": True}, "AVX-512"),
        ({"SSE": True, "AVX": True, "AVX2": True, "FMA3": True, "AVX512F": True, "AVX512_SKX": False}, "AVX2"),
        ({"SSE": True, "AVX": True, "AVX2": False, "FMA3": False}, "AVX"),
        ({"SSE": True}, "SSE"),
        ({"SSE": False, "NEON": True, "ASIMD": True}, None),
        ({}, None),
    ],
)
def test_what_numpy_finds_in_the_processor(monkeypatch, features, expected):
    from numpy._core import _multiarray_umath

    monkeypatch.setattr(_multiarray_umath, "__cpu_features__", features)
    assert blas._processor() == expected


def test_numpy_may_keep_no_record(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy._core._multiarray_umath", None)
    assert blas._processor() is None


def test_the_processor_as_linux_has_it():
    try:
        with open("/proc/cpuinfo") as file:
            flags = next(line.split(":")[1].split() for line in file if line.startswith("flags"))
    except (OSError, StopIteration):
        pytest.skip("no /proc/cpuinfo with flags")
    if "NPY_DISABLE_CPU_FEATURES" in os.environ:
        pytest.skip("NumPy is told to leave some out")
    has = {"SSE": "sse", "AVX": "avx", "AVX2": "avx2", "AVX-512": "avx512bw"}
    assert blas._processor() == [unit for unit, flag in has.items() if flag in flags][-1]
