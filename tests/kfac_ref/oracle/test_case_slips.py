from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle.case_slips import FORMS, choices
from tests.kfac_ref.oracle.mutations.slip_words import weights_of

N = 23
TAKEN = {
    "the first case alone": [0],
    "the last case alone": [22],
    "case 9 alone": [8],
    "the last 7 cases alone (the last mini-batch)": range(16, 23),
    "the first 20 cases alone (the remainder of 3 dropped)": range(20),
    "cases 6 to 10 alone (mini-batch 2)": range(5, 10),
    "case 4 left out": [n for n in range(23) if n != 3],
    "case 4 counted twice": [*range(23), 3],
    "the first 3 cases counted twice": [*range(23), 0, 1, 2],
    "the last 2 cases counted twice": [*range(23), 21, 22],
    "the last case counted 5 times": [*range(23), 22, 22, 22, 22],
    "every 4th case alone, from case 2 on": range(1, 23, 4),
}


@pytest.mark.parametrize("text", TAKEN)
def test_a_choice_is_found_by_its_mean(rng, text):
    forms = rng.standard_normal((N, FORMS))
    mean = forms[list(TAKEN[text])].mean(0)
    found = choices(N).nearest(0.3 * mean, forms, 1e-10)
    assert found[0].text == text
    np.testing.assert_allclose(found[0].weights @ forms, mean, rtol=1e-12)
    assert found[0].counted == len(TAKEN[text])


def test_the_mean_of_means(rng):
    forms = rng.standard_normal((N, FORMS))
    mean = np.mean([forms[k : k + 5].mean(0) for k in range(0, N, 5)], axis=0)
    (found,) = choices(N).nearest(mean, forms, 1e-10)
    assert found.text.startswith("mean of the means of mini-batches of 5")


def test_words_mean_the_weights(rng):
    """All choices of a few cases, by their words."""
    for cases in (2, 3, 5, 8):
        eye = np.eye(cases)
        for target in rng.random((40, cases)):
            for c in choices(cases).nearest(np.round(2 * target) + 1e-9, eye, 10.0, most=200):
                np.testing.assert_allclose(weights_of(c.text, cases), c.weights, rtol=1e-12)
                assert c.weights.sum() == pytest.approx(1)


def test_nothing_random_is_found(rng):
    forms = rng.standard_normal((100, FORMS))
    assert not choices(100).nearest(rng.standard_normal(FORMS), forms, 1e-3)
    assert not choices(100).nearest(forms.mean(0) + 0.3, forms, 1e-3)
