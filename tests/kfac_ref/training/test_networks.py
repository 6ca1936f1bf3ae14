"""kfac_ref.training.networks: what a network is given as, which data it suits, and what memory it may need."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest

from autodiff import text
from autodiff.arrays import to_numpy
from autodiff.initialisation import he_initialisation, sparse_initialisation
from autodiff.network import Network, described
from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.machine import memory
from kfac_ref.training import networks
from kfac_ref.training.experiment import Experiment, prepare

SMALL = "1x6x6: conv 2 3x3 relu, average-pool 2, flatten, dense 3"


def prepared(data, network, **options):
    return prepare(Experiment(data=str(data), network=network, constants=options.pop("constants", {}), **options))


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def images(rng, cases=12, side=6, classes=3):
    return {"X": rng.random((cases, 1, side, side)), "Y": rng.integers(classes, size=cases) % classes}


# --- what is given -------------------------------------------------------------------------------------------------


def test_sizes_names_text_and_files_are_told_apart(tmp_path, monkeypatch):
    assert networks.given("6-4-2") == (6, 4, 2) and networks.given("conv") == "conv"
    from_text = networks.given(SMALL)
    assert from_text["input"] == [1, 6, 6] and from_text["network"][0]["kernel"] == [3, 3]
    file = tmp_path / "net.json"
    short = {"input": [1, 6, 6], "network": text.read(SMALL)["network"], "likelihood": "categorical"}
    file.write_text(json.dumps(short))
    # one and the same description, however it is written; the likelihood only where it was given
    assert networks.given(str(file)) == from_text | {"likelihood": "categorical"}
    # what a fully connected network says of itself is a description too
    mlp = Network([4, 3, 2], "relu", "gaussian")
    file.write_text(json.dumps(mlp.description()))
    assert described(networks.given(str(file))).stages == mlp.stages


BAD_FILES = {
    "{": "net.json is not JSON",
    "[]": 'net.json: the description of a network is a list, expected {"input": …}',
    '{"input": [4]}': 'net.json: the description of a network has no "network"',
    '{"network": []}': 'has no "input"',
    '{"inputs": [4], "network": []}': 'unknown key of a network\'s description "inputs"; did you mean "input"?',
    '{"input": [4], "network": []}': "no layer",
    '{"input": [4], "network": [{"kind": "dens", "out": 2}]}': 'in network[0] "dens"; did you mean "dense"?',
    '{"input": [4], "network": [{"kind": "dense", "out": 2}], "likelihood": "normal"}': 'unknown likelihood "normal"',
    '{"input": [1, 4, 4], "network": [{"kind": "dense", "out": 2}]}': "network[0] (dense): takes a vector",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_bad_files(tmp_path, content):
    file = tmp_path / "net.json"
    file.write_text(content)
    with pytest.raises((TypeError, ValueError)) as caught:
        networks.given(str(file))
    assert BAD_FILES[content] in str(caught.value) and str(file) in str(caught.value)


def test_what_is_none_of_these():
    with pytest.raises(ValueError, match=r'"con" is not sizes .* did you mean "conv"'):
        networks.given("con")
    with pytest.raises(OSError, match=r"missing\.json"):
        networks.given("missing.json")


# --- by name -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.NAMED)
@pytest.mark.parametrize("side", [28, 16])
def test_networks_by_name(name, side):
    """They fit images of both sizes, end with a unit for each class, and are known again in a run's settings."""
    description = networks.named(name, (side, side), 10)
    network = networks.provisional(description)
    assert network.inputs == side * side and network.output == (10,)
    assert json.loads(json.dumps(description)) == description and networks.same(name, description)
    assert [other for other in networks.NAMED if networks.same(other, description)] == [name]


def test_a_name_for_packaged_images():
    """Of the labels, without a word about the likelihood; constants and initial weights are those that suit."""
    p = prepared("fashion16", "conv")
    assert (p.purpose, p.network.likelihood.name) == ("classifier", "categorical")
    assert p.experiment.network == networks.named("conv", (16, 16), 10) and p.experiment.activation is None
    s = p.optimizer.settings
    assert {name: getattr(s, name) for name in networks.SUITED} == networks.SUITED and s.lambda0 == 0.3
    for W, expected in zip(p.first_state().parameters, he_initialisation(p.network, 0), strict=True):
        np.testing.assert_array_equal(to_numpy(W), expected.astype(np.float32))
    again = prepare(Experiment.fromdict(json.loads(json.dumps(p.experiment.asdict()))))
    assert again.experiment == p.experiment and again.network.stages == p.network.stages
    # what is given goes before what suits
    assert prepared("fashion16", "conv", constants={"m1": 7}).optimizer.settings.m1 == 7
    assert prepared("fashion16", "conv", optimizer="sgd").optimizer.settings.m1 == 500


def test_a_fully_connected_network_is_one_however_it_is_written():
    p = prepared("fashion16", networks.given("256: dense 5 tanh, dense 10"))
    q = prepared("fashion16", (256, 5, 10), likelihood="categorical")
    assert p.network == q.network and p.optimizer.settings == q.optimizer.settings
    for W, expected in zip(p.first_state().parameters, sparse_initialisation(q.network, 0), strict=True):
        np.testing.assert_array_equal(to_numpy(W), expected.astype(np.float32))


# --- shapes --------------------------------------------------------------------------------------------------------


def test_images_as_rows_as_images_and_as_sequences(tmp_path, rng):
    """All are the same numbers: rows of the right length, one channel, and the image's rows one after the other."""
    arrays = images(rng)
    X = arrays["X"]
    expected = X.reshape(12, 36).astype(np.float32)
    for name, given in {"image": X, "rows": X.reshape(12, 36), "no channel": X[:, 0]}.items():
        data = save(tmp_path / f"{name}.npz", **arrays | {"X": given})
        for network in (SMALL, "6x6: recurrent 4, dense 3"):
            p = prepared(data, networks.given(network))
            np.testing.assert_allclose(to_numpy(p.data.X), expected, rtol=1e-6)
            assert p.purpose == "classifier"


def test_targets_for_each_position(tmp_path, rng):
    classes = np.eye(3)[rng.integers(3, size=(12, 5))]
    data = save(tmp_path / "a.npz", X=rng.random((12, 5, 4)), Y=classes)
    p = prepared(data, networks.given("5x4: recurrent 6 returns=all, dense 3"))
    assert (p.purpose, p.network.likelihood.name, p.network.likelihood.positions) == ("classifier", "categorical", 5)
    np.testing.assert_array_equal(to_numpy(p.data.Y), classes.reshape(12, 15))
    data = save(tmp_path / "b.npz", X=rng.random((12, 5, 4)), Y=rng.random((12, 5, 3)))
    assert prepared(data, networks.given("5x4: dense 3")).purpose == "regression"


def test_autoencoders(tmp_path, rng):
    """Where the outputs are as many as the inputs and nothing else is asked for, labels or not."""
    p = prepared("fashion16", networks.given("1x16x16: conv 2 3x3 stride=3 tanh, flatten, dense 256"))
    assert (p.purpose, p.network.likelihood.name) == ("autoencoder", "bernoulli") and p.data.Y is p.data.X
    data = save(tmp_path / "a.npz", X=rng.standard_normal((12, 5, 4)))
    p = prepared(data, networks.given("5x4: dense 2, dense 4"))
    assert (p.purpose, p.network.likelihood.name) == ("autoencoder", "gaussian") and p.network.output == (5, 4)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("1x6x7: conv 2 3x3, flatten, dense 3", r"first layer, conv 2 3x3, takes (1, 6, 7), but X of "),
        ("1x4x9: conv 2 3x3, flatten, dense 3", r"first layer, conv 2 3x3, takes (1, 4, 9), but X of "),
        ("9x4: recurrent 2, dense 3", r"first layer, recurrent 2, takes (9, 4), but X of "),
        ("1x6x6: conv 2 3x3, flatten, dense 4", r'last layer, dense 4, gives (4,), but Y of "a" has cases of (3,)'),
        ("6x6: dense 3", r'last layer, dense 3, gives (6, 3), but Y of "a" has cases of (3,)'),
        ("35: dense 3", 'the network 35-3 begins with 35, but X of "a" has cases of (1, 6, 6), 36 numbers'),
    ],
)
def test_what_does_not_fit_the_data(tmp_path, rng, network, said):
    data = save(tmp_path / "a.npz", **images(rng))
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        prepared(data, networks.given(network))
    assert ("35" in network) == ("(1, 6, 6), 36" in str(caught.value))


def test_names_and_data_that_do_not_go_together(tmp_path, rng):
    colours = save(tmp_path / "rgb.npz", X=rng.random((6, 3, 8, 8)), Y=np.arange(6) % 3)
    with pytest.raises(ValueError, match=r'"conv" is for images of one channel.*"rgb" has cases of \(3, 8, 8\)'):
        prepared(colours, "conv")
    small = save(tmp_path / "small.npz", **images(rng))
    with pytest.raises(ValueError, match=r'"conv" does not suit images of 6x6: .*kernel'):
        prepared(small, "conv")
    unlabelled = save(tmp_path / "bare.npz", X=rng.random((6, 1, 16, 16)))
    with pytest.raises(ValueError, match='"conv" predicts targets, and "bare" has no targets'):
        prepared(unlabelled, "conv")
    with pytest.raises(ValueError, match="has class labels, not bernoulli targets"):
        prepared("fashion16", "conv", likelihood="bernoulli")
    with pytest.raises(ValueError, match='unknown network "residul"; did you mean "residual"'):
        prepared("fashion16", "residul")


def test_a_description_in_python_is_recorded_as_any(tmp_path, rng):
    data = save(tmp_path / "a.npz", **images(rng))
    short = {"input": (1, 6, 6), "network": [{"kind": "conv", "out": 2, "kernel": 3, "activation": "relu"}]}
    short["network"] += text.read(SMALL)["network"][1:]
    assert prepared(data, short).experiment == prepared(data, networks.given(SMALL)).experiment
    with pytest.raises(ValueError, match='the description of a network has no "network"'):
        prepared(data, {"input": [1, 6, 6]})


def test_what_contradicts_the_description():
    with pytest.raises(
        ValueError, match="likelihood gaussian is asked for, but the network's description says categor"
    ):
        prepared("fashion16", networks.given(f"{SMALL}; categorical"), likelihood="gaussian")
    with pytest.raises(ValueError, match="each layer of the network has an activation of its own; relu"):
        prepared("fashion16", networks.given(SMALL), activation="relu")


# --- before anything is loaded -------------------------------------------------------------------------------------


@pytest.fixture
def no_data(monkeypatch):
    def load(name, reading):
        raise AssertionError("data were loaded")

    monkeypatch.setattr(datasets, "load", load)


GIB = 2**30
TOO_LARGE = {
    # float32: 4·(6·100 000·9 + 2·(100 000² + 9²)) bytes = 74.5 GiB; SGD's 6·4·(…) fit
    (8, 100_000, 8): ("layer 1 (dense 100000 tanh) needs 74.5 GiB in float32", "(9, 9) and (100000, 100000)"),
    "8: layer-norm, dense 20000, layer-norm, dense 8": (
        "layer 3 (layer-norm) needs 11.9 GiB",
        "(40000, 40000) for its",
    ),
    (100_000, 8, 8): ("layer 1 (dense 8 tanh) needs 74.5 GiB", "(100001, 100001) and (8, 8)"),
}


@pytest.mark.parametrize("network", TOO_LARGE)
def test_what_cannot_fit_is_refused_at_once(monkeypatch, no_data, network):
    monkeypatch.setattr(memory, "limit", lambda: 10 * GIB)
    given = networks.given(network) if isinstance(network, str) else network
    start = time.perf_counter()
    with pytest.raises(ValueError) as caught:
        prepared("mine.npz", given)
    assert time.perf_counter() - start < 1
    for part in (*TOO_LARGE[network], "There are 10 GiB of memory", "--optimizer sgd needs no curvature"):
        assert part in str(caught.value)
    # SGD has no factors, and all of it would fit
    with pytest.raises(AssertionError, match="data were loaded"):
        prepared("mine.npz", given, optimizer="sgd")


def test_layers_that_fit_one_by_one_but_not_together(monkeypatch, no_data):
    # 2·4·(50 000² + …) = 18.6 GiB each
    monkeypatch.setattr(memory, "limit", lambda: 20 * GIB)
    with pytest.raises(ValueError, match=r"layer 1 .* 18\.6 GiB .*; all layers need 37\.3 GiB\. There are 20 GiB"):
        prepared("mine.npz", (8, 50_000, 8))
    monkeypatch.setattr(memory, "limit", lambda: None)
    with pytest.raises(AssertionError, match="data were loaded"):
        prepared("mine.npz", (8, 50_000, 8))


def test_weights_alone_that_cannot_fit(monkeypatch, no_data):
    monkeypatch.setattr(memory, "limit", lambda: 10 * GIB)
    with pytest.raises(ValueError, match=r"six times \(100000000, 9\) for its weights") as caught:
        prepared("mine.npz", (8, 100_000_000, 8), optimizer="sgd")
    assert "sgd" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        ((8,), {}, "at least two positive integers"),
        ("conb", {}, 'unknown network "conb"'),
        ("conv", {"activation": "relu"}, "has an activation of its own"),
    ],
)
def test_what_is_wrong_with_the_network_itself_is_said_first(no_data, network, options, said):
    with pytest.raises(ValueError, match=said):
        prepared("mine.npz", network, **options)


@pytest.mark.parametrize("network", [SMALL, "784x1: flatten, dense 10", "783: dense 10"])
@pytest.mark.parametrize("data", ["mnist", "faces"])
def test_what_does_not_take_images_by_name_is_refused_before_they_are_fetched(no_data, network, data):
    rows, columns = datasets.IMAGES[data]
    fits = described(text.read(f"{network}; gaussian")).inputs == rows * columns
    with pytest.raises(AssertionError if fits else ValueError, match="data were" if fits else f'X of "{data}" has'):
        prepared(data, networks.given(network))


def test_data_made_in_python_need_no_shapes(monkeypatch, rng):
    X, Y = rng.random((5, 36)).astype(np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    data = Dataset("made", X, Y, None, None, (6, 6), "bernoulli", False, "made up")
    monkeypatch.setattr(datasets, "load", lambda name, reading: data)
    assert prepared("made", networks.given(SMALL)).purpose == "classifier"
