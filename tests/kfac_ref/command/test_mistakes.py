"""kfac_ref.command.mistakes: the cases shown are misclassified, and said to be what they are."""

from __future__ import annotations

import numpy as np

from autodiff.network import Network
from autodiff.passes import forward
from kfac_ref.command import mistakes


def test_the_pictured_mistakes_are_misclassified(rng):
    network = Network([36, 5, 3], "tanh", "categorical")
    W = [rng.standard_normal(shape) for shape in network.shapes]
    X, labels = rng.random((60, 36)), rng.integers(3, size=60)
    images, classes = mistakes.first(network, W, X, np.eye(3)[labels])
    likeliest = forward(network, W, X).z.argmax(1)
    wrong = np.flatnonzero(likeliest != labels)[: mistakes.SHOWN]
    assert len(wrong) > 3
    np.testing.assert_array_equal(images, X[wrong])
    np.testing.assert_array_equal(classes, np.stack([labels[wrong], likeliest[wrong]], axis=1))
    figure = mistakes.picture(images, classes, (6, 6), "title")
    said = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert said == [f"{own} → {taken}" for own, taken in classes]


def test_nothing_to_show(rng):
    network = Network([4, 2], "tanh", "categorical")
    X = rng.standard_normal((9, 4))
    W = [rng.standard_normal((2, 5))]
    images, classes = mistakes.first(network, W, X, np.eye(2)[forward(network, W, X).z.argmax(1)])
    assert images.shape == (0, 4) and classes.shape == (0, 2)


def test_the_first_of_many_chunks(rng, monkeypatch):
    """All cases are looked at, chunk after chunk, until enough are found."""
    network = Network([4, 3], "tanh", "categorical")
    X, Y, W = rng.standard_normal((90, 4)), np.eye(3)[rng.integers(3, size=90)], [rng.standard_normal((3, 5))]
    expected = mistakes.first(network, W, X, Y)
    assert len(expected[0]) == mistakes.SHOWN
    monkeypatch.setattr(mistakes, "EVALUATED", 7)
    for found, whole in zip(mistakes.first(network, W, X, Y), expected, strict=True):
        np.testing.assert_array_equal(found, whole)
