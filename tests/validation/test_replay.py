"""Replays of the authors' program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kfac_ref import preset
from tests.conftest import make_like
from validation import replay as module
from validation.replay import TOLERANCES, Replay, described, difference, main, replay

TRACES = sorted((Path(__file__).parents[1] / "traces").glob("*.npz"))
SHORTEST = next(path for path in TRACES if "lambda_rises" in path.name)


def altered(path: Path, to: Path, **changes) -> Path:
    """A copy of a trace with some arrays passed through functions."""
    with np.load(path, allow_pickle=False) as archive:
        trace = {name: archive[name] for name in archive.files}
    for name, change in changes.items():
        trace[name] = change(trace[name].copy())
    np.savez(to, **trace)
    return to


def test_there_are_four_traces():
    assert len(TRACES) == 4


@pytest.mark.parametrize("name", ["numpy-float64", "strict-float64", "cupy-float64"])
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_traces_replay(path, name):
    result = replay(path, make_like(name))
    assert result.passed, result
    assert result.iterations >= 45
    assert result.worst.keys() == TOLERANCES.keys()
    # the steps do agree to rounding; the tolerances leave room for other libraries
    assert result.worst["delta_to_20"] < 1e-11
    assert result.worst["delta_to_20"] > 0  # something was compared


@pytest.mark.parametrize("name", ["numpy-float32", "strict-float32", "cupy-float32"])
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_float32_follows_for_10_iterations(path, name, tmp_path):
    """Roundings of 6e-8 in ten steps: δ agrees to 1e-4 and the parameters to 1e-5."""

    def ten(settings):
        return np.array(json.dumps(json.loads(str(settings)) | {"iterations": 10}))

    short = altered(path, tmp_path / "short.npz", settings=ten)
    worst = replay(short, make_like(name)).worst
    assert 1e-9 < worst["delta_to_20"] < 1e-4
    assert worst["h"] < 1e-5


def scaled(index, factor):
    def change(x):
        x[index] *= factor
        return x

    return change


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("delta_to_20", {"delta_2_1": scaled((0, 0), 1 + 1e-4)}),
        ("scalars", {"alpha": scaled(30, 1 + 1e-5)}),
        ("scalars", {"mu": scaled(30, 1 + 1e-5)}),
        ("scalars", {"gamma": scaled(44, 1 + 1e-5)}),
        ("scalars", {"lam": scaled(44, 1 + 1e-5)}),
        ("h", {"h": scaled(10, 1 + 1e-5)}),
        ("final", {"W_final_2": scaled((0, 0), 1.01)}),
        ("averaged", {"W_averaged_3": scaled((0, 0), 1.01)}),
        ("scalars", {"alpha": scaled(3, np.nan)}),
        ("delta_to_20", {"W0_1": scaled((0, 0), 1 + 1e-4)}),
        ("delta", {"sampled_5": lambda y: y[::-1]}),
    ],
    ids=lambda x: x if isinstance(x, str) else ",".join(x),
)
def test_altered_traces_fail(tmp_path, key, changes):
    assert replay(SHORTEST).passed
    result = replay(altered(SHORTEST, tmp_path / "altered.npz", **changes))
    assert not result.passed
    assert not result.worst[key] <= TOLERANCES[key]


@pytest.mark.parametrize(
    "change", [{"T1": 4}, {"T2": 10}, {"T3": 10}, {"eta": 2e-4}, {"momentum": False}, {"inverse": "block-tridiagonal"}]
)
def test_other_constants_fail(tmp_path, change):
    """Each constant that a trace states matters to it."""

    def other(settings):
        return np.array(json.dumps(json.loads(str(settings)) | change))

    assert not replay(altered(SHORTEST, tmp_path / "altered.npz", settings=other)).passed


def test_described():
    with np.load(SHORTEST) as archive:
        recorded = json.loads(str(archive["settings"]))
    network, settings = described(recorded)
    assert list(network.sizes) == recorded["layers"]
    assert [phi.name for phi in network.activations] == recorded["activations"]
    assert settings == preset(
        "authors", inverse="block-diagonal", lambda0=0.01, eta=1e-4, tau1=0.5, tau2=0.125, average_from=20
    )


@pytest.mark.parametrize(
    "said",
    [
        {"layers": [8.0, 7.0, 5.0, 3.0], "iterations": 45.0, "T1": 5.0, "lambda0": "0.01"},
        {"momentum": 1, "gamma_min": 0.01, "gamma_max": "1"},
        {"gamma_min": None, "unknown": [1, 2]},
    ],
    ids=str,
)
def test_settings_may_be_written_in_other_ways(tmp_path, said):
    def edited(settings):
        return np.asarray(json.dumps(json.loads(str(settings)) | said))

    assert replay(altered(SHORTEST, tmp_path / "altered.npz", settings=edited)).passed


def test_one_hot_targets_may_be_integers(tmp_path):
    path = next(path for path in TRACES if "categorical" in str(path))
    with np.load(path) as archive:
        names = [name for name in archive.files if name == "Y" or name.startswith("sampled")]
    changes = {name: lambda y: y.astype(np.int8) for name in names}
    assert replay(altered(path, tmp_path / "altered.npz", **changes)).passed


def test_linear_is_identity():
    network, _ = described({"layers": [3, 2, 1], "activations": ["linear", "linear"], "likelihood": "gaussian"})
    assert [a.name for a in network.activations] == ["identity", "identity"]


def test_without_momentum_there_need_be_no_mu(tmp_path):
    """The steps are others than those recorded, for the run was with momentum; but the missing μ does no harm."""
    changes = {
        "settings": lambda s: np.asarray(json.dumps(json.loads(str(s)) | {"momentum": False})),
        "mu": lambda mu: np.full_like(mu, np.nan),
    }
    result = replay(altered(SHORTEST, tmp_path / "altered.npz", **changes))
    assert all(np.isfinite(value) for value in result.worst.values())


def test_one_file_that_cannot_be_replayed_does_not_end_the_others(tmp_path, capsys):
    half = tmp_path / "half.npz"
    half.write_bytes(Path(SHORTEST).read_bytes()[:1000])
    other = tmp_path / "other.npz"
    np.savez(other, X=np.zeros(3))
    assert main([str(half), str(other), str(SHORTEST)]) == 2
    printed = capsys.readouterr()
    assert "not a whole trace" in printed.err and "it has no W0_1" in printed.err and printed.err.count("\n") == 2
    assert "ok" in printed.out


def test_difference():
    assert difference([np.array([3.0, 4.5])], [np.array([3.0, 4.0])]) == pytest.approx(0.1)
    assert difference([np.array([3.0]), np.array([0.5])], [np.array([3.0]), np.array([0.0])]) == pytest.approx(0.5 / 3)
    assert difference([np.array([0.5])], [np.array([0.0])]) == 0.5
    assert np.isnan(difference([np.array([np.nan])], [np.array([1.0])]))


def test_nan_does_not_pass():
    worst = dict.fromkeys(TOLERANCES, 0.0)
    assert Replay(1, worst).passed
    assert not Replay(1, worst | {"h": float("nan")}).passed
    assert not Replay(1, worst | {"h": 2 * TOLERANCES["h"]}).passed


def test_main(tmp_path, capsys):
    assert main([str(path) for path in TRACES]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  ok") == 4
    assert "OVER" not in printed
    bad = altered(SHORTEST, tmp_path / "altered.npz", h=scaled(10, 1.1))
    assert main([str(SHORTEST), str(bad)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith("ok")
    assert lines[-1].endswith("OVER TOLERANCE")


def test_main_needs_files():
    with pytest.raises(SystemExit) as error:
        module.main([])
    assert error.value.code == 2
