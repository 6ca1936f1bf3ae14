"""Fixtures, comparisons and random data for the tests; `dense` has the mathematics that they compare with."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from autodiff import ACTIVATIONS, Affine, Network
from autodiff.arrays import device, from_numpy, namespace, to_numpy
from tests.dense import case_mean

# Matrices this small gain nothing from threads, and lose much to them where other programs run at the same time.
threadpool_limits(1)

settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repeatable")


# --- the tests that PAPER.md names ran -------------------------------------------------------------------------------

LEFT_OUT = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "last_failed", "collectonly")
"""Options with which not all tests are to run."""


def pytest_sessionfinish(session, exitstatus):
    """Once all are done, in whichever processes: tests that PAPER.md names and that only skipped did not run. Those
    left out by the command line are excused."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    over = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if hasattr(config, "workerinput") or reporter is None or not over or session.shouldfail or session.shouldstop:
        return
    from tests import test_paper

    stats = reporter.stats
    ran = test_paper.any_parameters(r.nodeid for outcome in ("passed", "failed") for r in stats.get(outcome, []))
    skipped = test_paper.any_parameters(r.nodeid for r in stats.get("skipped", []))
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    whole = whole and not any(getattr(config.option, name, None) for name in LEFT_OUT)
    config.named_tests_that_did_not_run = test_paper.not_run(test_paper.PAPER, ran | skipped, ran, whole)
    if config.named_tests_that_did_not_run:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for name in getattr(config, "named_tests_that_did_not_run", []):
        terminalreporter.line(f"FAILED PAPER.md names {name}, which did not run", red=True)


# --- every numerical function is tested on all of these ------------------------------------------------------------

OTHER_DEVICE = array_api_strict.Device("device1")  # not the default one, so that a silent transfer to the host fails
LIBRARIES = [f"{library}-{dtype}" for library in ("numpy", "strict", "cupy") for dtype in ("float64", "float32")]


def make_like(name: str):
    """An empty array of the library, device and dtype called `name`; skips the test where there is no such device."""
    library, dtype = name.split("-")
    if library == "numpy":
        return np.zeros(0, dtype=dtype)
    if library == "strict":
        return array_api_strict.zeros(0, dtype=getattr(array_api_strict, dtype), device=OTHER_DEVICE)
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        pytest.skip("CuPy finds no device")
    return cupy.zeros(0, dtype=dtype)


@pytest.fixture(params=LIBRARIES)
def like(request):
    """An empty array of each library, device and dtype."""
    return make_like(request.param)


@pytest.fixture(params=[name for name in LIBRARIES if name.endswith("float64")])
def like64(request):
    """The same, float64 alone."""
    return make_like(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20150519)


def to(like, *values):
    """Arrays (or lists of arrays) in the library, device and dtype of `like`."""
    converted = [
        [from_numpy(np.asarray(v), like) for v in value] if isinstance(value, list) else from_numpy(value, like)
        for value in values
    ]
    return converted if len(converted) > 1 else converted[0]


def is_float32(like) -> bool:
    return like.dtype == namespace(like).float32


def tolerance(like) -> float:
    """float64: a few hundred roundings. float32: the same number of roundings (of 6e-8 each) gives 1e-5; one digit is
    allowed for the condition numbers up to about 10 that the tests' matrices have."""
    return 1e-4 if is_float32(like) else 1e-11


def assert_home(x, like, dtype=None) -> None:
    """x is of the library and on the device of `like`, and of its dtype (or of the one called `dtype`)."""
    assert namespace(x) is namespace(like)
    assert device(x) == device(like)
    assert x.dtype == (getattr(namespace(like), dtype) if dtype else like.dtype)


def assert_close(actual, desired, like, tol=None, dtype=None) -> None:
    """`actual` is where `like` is, and within tolerance of `desired` relative to its largest entry (at least to 1)."""
    assert_home(actual, like, dtype)
    actual, desired = to_numpy(actual), np.asarray(desired)
    assert actual.shape == desired.shape
    scale = max(1.0, np.max(np.abs(desired), initial=0.0))
    np.testing.assert_allclose(actual, desired, rtol=0, atol=scale * (tolerance(like) if tol is None else tol))


def assert_all_close(actual, desired, like, tol=None, dtype=None) -> None:
    """`assert_close` for lists."""
    assert len(actual) == len(desired)
    for a, d in zip(actual, desired, strict=True):
        assert_close(a, d, like, tol, dtype)


def positive_definite(rng, n: int, smallest: float = 0.3) -> np.ndarray:
    """A random symmetric (n, n) with eigenvalues in [smallest, smallest + 2]."""
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return (Q * (smallest + 2 * rng.random(n))) @ Q.T


# --- data ----------------------------------------------------------------------------------------------------------


def random_targets(rng, name: str, cases: int, d: int) -> np.ndarray:
    """Targets in the likelihood's range; those of the Bernoulli are intensities between 0 and 1."""
    if name == "categorical":
        return np.eye(d)[rng.integers(d, size=cases)]
    return rng.random((cases, d)) if name == "bernoulli" else rng.standard_normal((cases, d))


def sampled_targets(rng, name: str, z: np.ndarray) -> np.ndarray:
    """Targets drawn from the model."""
    if name == "categorical":
        return np.array([rng.multinomial(1, case_mean(name, row)) for row in z], dtype=float)
    return (rng.random(z.shape) < case_mean(name, z)) * 1.0 if name == "bernoulli" else z + rng.standard_normal(z.shape)


def random_parameters(rng, network: Network, scale: float = 1.0) -> list[np.ndarray]:
    return [scale * rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in network.shapes]


def random_affine(rng, base: str, d: int) -> Affine:
    """An affine reparameterisation whose matrices have singular values in [½, 3/2]."""

    def matrix():
        (U, _), (V, _) = (np.linalg.qr(rng.standard_normal((d, d))) for _ in range(2))
        return (U * rng.uniform(0.5, 1.5, d)) @ V

    return Affine(ACTIVATIONS[base], matrix(), rng.standard_normal(d), matrix())
