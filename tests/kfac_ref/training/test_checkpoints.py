"""kfac_ref.training.checkpoints: to the last bit and back, and what is wrong with files that are no checkpoints."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import fields, is_dataclass, replace
from itertools import islice

import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import to_numpy
from kfac_ref import KFAC, Settings, refreshed
from kfac_ref.baselines import SGD, SGDState
from kfac_ref.optimizer import State
from kfac_ref.training import checkpoints
from kfac_ref.training.loop import Data, iterate
from tests.conftest import assert_home, random_parameters, to

NETWORK = Network([3, 4, 3, 2], ["tanh", "relu"], "gaussian")


def optimizer_of(kind: str):
    if kind == "sgd":
        return SGD(NETWORK)
    return KFAC(NETWORK, Settings(inverse=kind, T2=3, T3=4, m1=6, full_batch_at=8, average_from=3))


def after(optimizer, state, data, iterations):
    """The state after so many iterations more."""
    return [state, *(new for new, _, _ in islice(iterate(optimizer, state, data), iterations))][-1]


def run(like, optimizer, state=None, iterations=5):
    rng = np.random.default_rng(8)
    W = random_parameters(rng, NETWORK, 0.5)
    data = Data(*to(like, rng.standard_normal((12, 3)), rng.standard_normal((12, 2))))
    state = optimizer.init(to(like, W), 2**63 - 1) if state is None else state
    return after(optimizer, state, data, iterations)


def leaves(value, name=""):
    """Every array and number of a state, by where it is."""
    if is_dataclass(value):
        return {k: v for f in fields(value) for k, v in leaves(getattr(value, f.name), f"{name}.{f.name}").items()}
    if isinstance(value, dict):
        return {k: v for key, x in value.items() for k, v in leaves(x, f"{name}{key}").items()}
    if isinstance(value, list):
        return {k: v for i, x in enumerate(value) for k, v in leaves(x, f"{name}[{i}]").items()}
    return {name: value}


def assert_same(a, b, like):
    assert type(a) is type(b)
    a, b = leaves(a), leaves(b)
    assert list(a) == list(b)
    for name, value in a.items():
        if value is None or isinstance(value, (int, float)):
            assert type(value) is type(b[name]) and value == b[name], name
        else:
            assert_home(b[name], like)
            assert to_numpy(value).tobytes() == to_numpy(b[name]).tobytes(), name
            assert value.shape == b[name].shape, name


@pytest.fixture
def saved(tmp_path):
    """A checkpoint, what is in it, and a place for it."""
    like = np.zeros(0)
    state = run(like, optimizer_of("block-tridiagonal"))
    checkpoints.save(tmp_path / "a.npz", NETWORK, state, 12.25)
    return tmp_path / "a.npz", state, like


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["block-diagonal", "block-tridiagonal", "sgd"])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_round_trip(like, tmp_path, kind, iterations):
    optimizer = optimizer_of(kind)
    state = run(like, optimizer, iterations=iterations)
    checkpoints.save(tmp_path / "a.npz", NETWORK, state, 0.1)
    loaded, seconds = checkpoints.load(tmp_path / "a.npz", NETWORK, like)
    assert seconds == 0.1
    assert_same(state, loaded, like)
    assert_same(run(like, optimizer, state, 6), run(like, optimizer, loaded, 6), like)


@pytest.mark.parametrize("time", ["symmetric", "stationary"])
def test_round_trip_of_chains_over_time(like, tmp_path, time):
    """Factors one step apart and their inverses, and then the same iterations."""
    network, rng = (
        Network.of([{"kind": "recurrent", "out": 3}, {"kind": "dense", "out": 2}], (4, 2), "gaussian"),
        np.random.default_rng(8),
    )
    kfac = KFAC(network, Settings(time=time, T2=3, T3=4, m1=6, lambda0=1.0))
    data = Data(*to(like, rng.standard_normal((12, 4, 2)), rng.standard_normal((12, 2))))
    state = after(kfac, kfac.init(to(like, random_parameters(rng, network, 0.5)), 3), data, 5)
    checkpoints.save(tmp_path / "a.npz", network, state)
    loaded, _ = checkpoints.load(tmp_path / "a.npz", network, like)
    assert loaded.factors.lagged and loaded.inverse.parts
    assert_same(state, loaded, like)
    assert_same(after(kfac, state, data, 6), after(kfac, loaded, data, 6), like)


def test_awkward_numbers(tmp_path, saved):
    """JSON must not round what is not an array; nor must an archive what is."""
    _, state, like = saved
    W = [np.array(W) for W in state.parameters]
    W[0][0, :3] = [-0.0, 5e-324, np.nextafter(1, 2)]
    state = replace(state, parameters=W, lam=0.1 + 0.2, gamma=float(np.nextafter(1e-300, 1)), seed=2**63 - 1)
    checkpoints.save(tmp_path / "a.npz", NETWORK, state)
    assert_same(state, checkpoints.load(tmp_path / "a.npz", NETWORK, like)[0], like)


def test_a_refreshed_state(tmp_path, saved):
    _, state, like = saved
    checkpoints.save(tmp_path / "b.npz", NETWORK, refreshed(state))
    loaded = checkpoints.load(tmp_path / "b.npz", NETWORK, like)[0]
    assert loaded.inverse is None and loaded.restart == 5
    assert_same(refreshed(state), loaded, like)


def test_another_dtype_and_library(tmp_path, like, saved):
    path, state, _ = saved
    loaded, _ = checkpoints.load(path, NETWORK, like)
    for a, b in zip(state.parameters, loaded.parameters, strict=True):
        assert_home(b, like)
        np.testing.assert_array_equal(to_numpy(b), a.astype(to_numpy(b).dtype))


def test_nothing_in_it_is_pickled_and_anybody_can_read_it(saved):
    path, state, _ = saved
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                assert np.lib.format.read_magic(file) in ((1, 0), (2, 0))
                dtype = np.lib.format.read_array_header_1_0(file)[2]
                assert not dtype.hasobject, name
    with np.load(path, allow_pickle=False) as archive:
        meta = json.loads(str(archive["meta"]))
        np.testing.assert_array_equal(archive["parameters.1"], state.parameters[0])
        np.testing.assert_array_equal(archive["factors.old.A.0.1"], state.factors.old.A[0, 1])
        np.testing.assert_array_equal(archive["factors.estimates.1.g.2"], state.factors.estimates[0].g[1])
    assert (meta["format"], meta["network"], meta["seconds"]) == (checkpoints.FORMAT, str(NETWORK), 12.25)


def test_arrays_that_are_one_are_written_once(tmp_path):
    """θ̄ is θ until averaging begins."""
    like = np.zeros(0)
    for kind in ("block-diagonal", "sgd"):
        state = run(like, optimizer_of(kind), iterations=1)
        assert state.averaged[0] is state.parameters[0]
        checkpoints.save(tmp_path / "a.npz", NETWORK, state)
        with np.load(tmp_path / "a.npz") as archive:
            assert not [name for name in archive.files if name.startswith("averaged")]
        loaded = checkpoints.load(tmp_path / "a.npz", NETWORK, like)[0]
        assert loaded.averaged[0] is loaded.parameters[0]


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_checkpoint(tmp_path, saved, monkeypatch, error):
    path, state, like = saved
    savez = np.savez

    def half(file, **arrays):
        savez(file, **dict(list(arrays.items())[:4]))
        raise error

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(type(error)):
        checkpoints.save(path, NETWORK, replace(state, k=99), 99.0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    loaded, seconds = checkpoints.load(path, NETWORK, like)
    assert seconds == 12.25
    assert_same(state, loaded, like)


# --- files that are no checkpoints ---------------------------------------------------------------------------------


def refused(path, *parts, network=NETWORK):
    with pytest.raises(ValueError) as caught:
        checkpoints.load(path, network, np.zeros(0))
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < len(str(path)) + 300, message
    for part in parts:
        assert part in message, message


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoints.load(tmp_path / "nowhere.npz", NETWORK, np.zeros(0))


@pytest.mark.parametrize(
    "other",
    [
        Network([3, 5, 3, 2], ["tanh", "relu"], "gaussian"),
        Network([3, 4, 2], ["tanh"], "gaussian"),
        Network([3, 4, 3, 2], ["tanh", "tanh"], "gaussian"),
        Network([3, 4, 3, 2], ["tanh", "relu"], "bernoulli"),
    ],
    ids=str,
)
def test_of_another_network(saved, other):
    refused(saved[0], str(NETWORK), str(other), network=other)


@pytest.mark.parametrize("kind", ["block-tridiagonal", "sgd"])
def test_truncated(tmp_path, kind):
    checkpoints.save(tmp_path / "a.npz", NETWORK, run(np.zeros(0), optimizer_of(kind)), 1.0)
    content = (tmp_path / "a.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    for length in {*range(0, len(content), 61), *range(200), *range(len(content) - 200, len(content))}:
        cut.write_bytes(content[:length])
        refused(cut, "is not a whole checkpoint")


def test_damaged_anywhere(tmp_path, saved):
    """Whatever byte is wrong, it is noticed in one line, or does not matter."""
    path, state, like = saved
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    directory = content.index(b"PK\x01\x02")
    places = [*rng.integers(len(content), size=400), *range(directory, len(content), 3), *range(0, 600, 3)]
    bad = tmp_path / "bad.npz"
    surprises = {}
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        bad.write_bytes(damaged)
        try:
            loaded, _ = checkpoints.load(bad, NETWORK, like)
        except ValueError as error:
            assert "\n" not in str(error)
        except Exception as error:
            surprises[type(error).__name__] = (int(place), str(error)[:100])
        else:
            assert_same(state, loaded, like)
    assert not surprises


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 1000, b"# settings\n" * 99, b"PK\x03\x04" + b"x" * 200, b"\x93NUMPY\x01\x00", pickle.dumps([1])],
    ids=["nothing", "zeros", "text", "zip's beginning", "npy's beginning", "pickle"],
)
def test_garbage(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    refused(path, "is not a whole checkpoint of kfac-ref")


def test_a_plain_array(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.zeros(3))
    refused(tmp_path / "a.npz", "is not a whole checkpoint of kfac-ref")


def test_a_folder(tmp_path):
    refused(tmp_path, "is not a whole checkpoint of kfac-ref")


def test_another_archive(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((3, 2)))
    refused(tmp_path / "a.npz", "meta")


class Opened:
    """Were it unpickled, the test would fail."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def rewritten(path, change):
    """The checkpoint at `path` with its arrays changed by `change`."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez(path, **arrays)
    return path


def test_pickled_objects_are_not_opened(saved):
    path = saved[0]
    rewritten(path, lambda arrays: arrays.update({"parameters.2": np.array([Opened()], dtype=object)}))
    refused(path, "allow_pickle")
    # a member that is a pickle all through
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("meta.npy", pickle.dumps(Opened()))
    path.write_bytes(buffer.getvalue())
    refused(path, "is not a whole checkpoint")


def meta_with(path, change):
    def apply(arrays):
        meta = json.loads(str(arrays["meta"]))
        arrays["meta"] = np.asarray(json.dumps(change(meta)))

    return rewritten(path, apply)


@pytest.mark.parametrize("wrong", [1, 3, 0, None, "2"])
def test_another_format(saved, wrong):
    refused(meta_with(saved[0], lambda meta: meta | {"format": wrong}), f"format {wrong}, expected 2")


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: [],
        lambda meta: 3,
        lambda meta: {},
        lambda meta: meta | {"state": None},
        lambda meta: meta | {"state": 5},
        lambda meta: meta | {"state": {"class": "State", "fields": {}}},
        lambda meta: meta | {"state": {"class": "os.system", "fields": {}}},
        lambda meta: meta | {"state": {"class": "Factors", "fields": {"A": None, "G": None}}},
        lambda meta: meta | {"state": {"array": "parameters.1"}},
        lambda meta: meta | {"seconds": "soon"},
        lambda meta: meta | {"seconds": None},
    ],
    ids=range(11),
)
def test_what_it_says_of_itself_makes_no_sense(saved, change):
    refused(meta_with(saved[0], change))


def test_an_array_is_missing(saved):
    refused(rewritten(saved[0], lambda arrays: arrays.pop("factors.old.G.2.2")), "factors.old.G.2.2")


def test_parameters_of_another_shape(saved):
    path = rewritten(saved[0], lambda arrays: arrays.update({"parameters.2": np.zeros((2, 2))}))
    refused(path, "layer 2 has shape (2, 2), expected (3, 5)")


def test_states_are_of_the_two_classes(saved, tmp_path):
    assert isinstance(checkpoints.load(saved[0], NETWORK, np.zeros(0))[0], State)
    checkpoints.save(tmp_path / "b.npz", NETWORK, run(np.zeros(0), optimizer_of("sgd")))
    assert isinstance(checkpoints.load(tmp_path / "b.npz", NETWORK, np.zeros(0))[0], SGDState)
