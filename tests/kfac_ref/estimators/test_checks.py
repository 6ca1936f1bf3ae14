"""scikit-learn's own checks of estimators."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CHECK = """
import json, sys, warnings
from sklearn.utils.estimator_checks import check_estimator
from kfac_ref import estimators
warnings.simplefilter("ignore")
made = getattr(estimators, sys.argv[1])(**json.loads(sys.argv[2]))
found = check_estimator(made, on_fail=None, on_skip=None)
print(json.dumps([[x["status"], x["check_name"], str(x["exception"])] for x in found]))
"""
WITH_REASON = (
    "cupy is not installed",
    "dpnp is not installed",
    "torch is not installed",
    "device test because",  # of Apple's and Intel's graphics
    "does not have a decision_function method",  # nor have scikit-learn's networks
)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("KFACClassifier", {"max_iter": 20}),
        ("KFACRegressor", {"max_iter": 20, "posterior": True}),
        ("KFACAutoencoder", {"max_iter": 20, "hidden_layer_sizes": [8, 2]}),
    ],
)
def test_check_estimator(name, parameters):
    """Nothing fails, and nothing is skipped but what needs what is not there. SciPy must know of array API dispatch
    before it is imported, so that this is a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, name, json.dumps(parameters)],
        env=os.environ | {"SCIPY_ARRAY_API": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [x for x in found if x[0] == "failed"] == []
    assert [x for x in found if x[0] == "skipped" and not any(reason in x[2] for reason in WITH_REASON)] == []
    passed = [name for status, name, _ in found if status == "passed"]
    assert len(passed) >= 45 and "check_array_api_input" in passed
