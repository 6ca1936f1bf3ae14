"""The smoke run: that it leaves nothing out, and that it finds what is wrong. array-api-strict stands in for a GPU."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from autodiff import ACTIVATIONS, LIKELIHOODS, arrays
from autodiff.layers import KINDS
from tests.autodiff.test_arrays import FUSED
from tests.conftest import make_like
from validation.gpu_campaign import part, smoke, smoke_checks
from validation.gpu_campaign.smoke_checks import CHECKS, all_checks, fused_kernels, unchecked

# what array-api-strict has no name, no memory, no view or no LinearOperator for
NOT_IN_STRICT = {"arrays.backend", "arrays.device_memory", "arrays.image_rows", "arrays.symmetric_operator"}


def test_nothing_is_left_out():
    """A public function, a row of a table or a kind of layer that is added needs a check in `smoke_checks`."""
    assert list(unchecked()) == []
    assert CHECKS["activation"].keys() == ACTIVATIONS.keys() and CHECKS["likelihood"].keys() == LIKELIHOODS.keys()
    assert CHECKS["arrays"].keys() == set(smoke_checks.public_functions())
    assert CHECKS["layer"].keys() == {*KINDS, "residual"}


def test_what_is_added_without_a_check_is_noticed(monkeypatch):
    def new(x):
        return x

    new.__module__ = arrays.__name__
    monkeypatch.setattr(arrays, "new", new, raising=False)
    monkeypatch.setitem(KINDS, "attention", None)
    assert list(unchecked()) == ["arrays.new", "layer.attention"]


def test_every_fused_kernel_is_found():
    found = fused_kernels().values()
    assert all(kernel in found for kernel in FUSED.values()) and len(found) == len(FUSED)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(all_checks().keys() - NOT_IN_STRICT))
def test_every_check_runs_on_another_library_and_device(name, dtype):
    like = make_like(f"strict-{dtype}")
    with np.errstate(all="ignore"):
        found = smoke.deviation(all_checks()[name], like, np.zeros(0, dtype=dtype))
    assert found <= smoke.ALLOWED[dtype]


WRONG = {
    "a number": lambda x: x * (1 + 1e-9),
    "another dtype": lambda x: arrays.namespace(x).astype(x, arrays.namespace(x).float32),
    "another device": lambda x: arrays.namespace(x).asarray(arrays.to_numpy(x)),
    "a shape": lambda x: x[:1],
    "NaN": lambda x: x * float("nan"),
    "infinity": lambda x: x / 0.0,
    "an error in a flag": lambda x: False,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found(what):
    strict = make_like("strict-float64")

    def check(like):
        x = arrays.from_numpy(np.array([1.0, 2.0]), like)
        right = True if what == "an error in a flag" else x
        return [WRONG[what](x) if isinstance(like, type(array_api_strict.zeros(0))) else right]

    with np.errstate(all="ignore"):
        assert smoke.deviation(check, strict, np.zeros(0)) > smoke.ALLOWED["float64"]


def test_the_same_nan_and_infinity_are_well():
    def check(like):
        return [arrays.from_numpy(np.array([np.nan, np.inf, -np.inf, 1.0]), like)]

    assert smoke.deviation(check, make_like("strict-float64"), np.zeros(0)) == 0


def test_the_run_says_what_fails_and_goes_on(monkeypatch, capsys):
    def wrong(like):
        return [next(numbers)]

    def broken(like):
        raise RuntimeError("no such kernel")

    numbers = iter(range(100))
    monkeypatch.setattr(smoke, "all_checks", lambda: {"wrong": wrong, "broken": broken, "right": lambda like: [1.0]})
    assert smoke.main(["--backend", "numpy"]) == part.FAILED
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("FAILED") for line in lines) == 4 and sum(line.endswith("ok") for line in lines) == 2
    assert "RuntimeError: no such kernel" in lines and "worst in float64: 1.0e+00, wrong" in lines
