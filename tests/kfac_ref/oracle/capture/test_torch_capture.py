"""Captured cases of models of PyTorch, against brute force on one case at a time."""

from __future__ import annotations

import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kfac_ref.oracle import capture, check, truth  # noqa: E402
from tests.kfac_ref.oracle.capture import brute_force  # noqa: E402
from tests.kfac_ref.oracle.capture import torch_models as models  # noqa: E402

LABELS = torch.tensor([0, 2, 1, 1, 2])
TOKENS = torch.tensor([[1, 2, 0, 4, 5], [6, 6, 3, 0, 0], [1, 1, 1, 1, 2], [2, 3, 4, 5, 6], [0, 1, 2, 6, 3]])
CASES = {
    "resnet": (models.resnet, lambda: models.numbers(5, 2, 7, 7), "categorical", lambda: LABELS),
    # as many positions as cases, so that these are not told by their number
    "encoder": (models.encoder, lambda: TOKENS, "categorical", lambda: TOKENS % 3),
    "twice": (models.twice, lambda: models.numbers(5, 4), "gaussian", lambda: models.numbers(5, 2)),
    "gru": (models.gru, lambda: models.numbers(5, 6, 3), "bernoulli", lambda: torch.eye(3)[LABELS, :2]),
}


@pytest.fixture(scope="module", params=CASES)
def captured(request):
    make, inputs, likelihood, targets = CASES[request.param]
    model, x = make(), inputs()
    return model, x, capture(model, x, targets(), likelihood, lam=0.1)


def test_rows_and_derivatives_are_those_of_each_case_alone(captured):
    model, x, case = captured
    kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding, torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    assert [layer.name for layer in case.layers] == names
    for layer in case.layers:
        if layer.name == "position":
            continue  # computed once for all cases: see below
        a, g = brute_force.by_force(model, x, layer.name)
        np.testing.assert_allclose(layer.a, a, rtol=0, atol=1e-12 * np.abs(a).max())
        np.testing.assert_allclose(layer.g, g, rtol=0, atol=1e-12 * np.abs(g).max())


def test_rows_and_derivatives_give_the_jacobians_by_the_weights(captured):
    model, x, case = captured
    for layer in case.layers:
        module = model.get_submodule(layer.name)
        names = [f"{layer.name}.weight"] + [f"{layer.name}.bias"] * layer.bias
        J = brute_force.jacobians(model, x, names)
        to = "cntd,ntd->ncd" if layer.kind == "normalisation" else "cntd,ntp->ncdp"
        weight = np.einsum(to, layer.g, layer.a)
        if isinstance(module, torch.nn.Embedding):
            weight = weight.swapaxes(2, 3)
        size = np.abs(layer.g).sum(2).max()  # a key's bias has no influence, so its derivative is rounding
        np.testing.assert_allclose(weight.reshape(J[0].shape), J[0], rtol=0, atol=1e-12 * size)
        if layer.bias:
            np.testing.assert_allclose(layer.g.sum(2).swapaxes(0, 1), J[1], rtol=0, atol=1e-12 * size)


def test_factors_are_those_of_each_case_and_location_alone(captured):
    model, x, case = captured
    found, F_R = truth(case), brute_force.fisher_of_outputs(case)
    for i, layer in enumerate(case.layers, start=1):
        if layer.kind == "normalisation" or layer.name == "position":
            continue
        for name, expected in brute_force.factors(model, x, layer.name, F_R).items():
            error = np.linalg.norm(found[f"{name}_{i}"] - expected)
            assert error <= 1e-12 * np.linalg.norm(expected) + 1e-15, (name, layer.name)


def test_blocks_are_those_of_the_jacobians_by_the_weights(captured):
    model, x, case = captured
    found, F_R = truth(case), brute_force.fisher_of_outputs(case)
    for i, layer in enumerate(case.layers, start=1):
        expected = brute_force.block(model, x, layer.name, F_R)
        assert np.linalg.norm(found[f"fisher_block_{i}"] - expected) <= 1e-12 * np.linalg.norm(expected), layer.name


def test_gradients_are_those_of_pytorch_s_losses(captured):
    model, x, case = captured
    found, z = truth(case), model(x)
    Y = torch.from_numpy(case.Y).reshape(z.shape)
    losses = {
        "categorical": lambda: torch.nn.functional.cross_entropy(z.flatten(0, -2), Y.flatten(0, -2), reduction="sum"),
        "bernoulli": lambda: torch.nn.functional.binary_cross_entropy_with_logits(z, Y, reduction="sum"),
        "gaussian": lambda: ((z - Y) ** 2).sum() / 2,
    }
    model.zero_grad()
    (losses[case.likelihood]() / len(x)).backward()
    for i, layer in enumerate(case.layers, start=1):
        module = model.get_submodule(layer.name)
        embeds = isinstance(module, torch.nn.Embedding)
        weight, W = (
            (p.T if embeds else p.reshape(p.shape[0], -1)) for p in (module.weight.grad, module.weight.detach())
        )
        parts = [weight, *([module.bias.grad[:, None]] if layer.bias else [])]
        np.testing.assert_allclose(found[f"gradient_{i}"], torch.cat(parts, 1), rtol=0, atol=1e-14)
        np.testing.assert_array_equal(layer.W[:, : W.shape[1]], W)
        if layer.bias:
            np.testing.assert_array_equal(layer.W[:, -1], module.bias.detach())
    model.zero_grad()


def test_twenty_layers_take_seconds():
    """100 594 weights, 64 cases, 10 outputs; A that fits, G that is scaled, and gradients that nothing explains."""
    layers = [module for _ in range(19) for module in (torch.nn.Linear(72, 72), torch.nn.Tanh())]
    model = models.ready(torch.nn.Sequential(*layers, torch.nn.Linear(72, 10)))
    x, labels = models.numbers(64, 72), torch.arange(64) % 10
    start = time.process_time()
    case = capture(model, x, labels, likelihood="categorical")
    found, theirs = truth(case), {}
    for i in range(1, 21):
        theirs |= {f"A_{i}": found[f"A_expand_{i}"], f"G_{i}": 64 * found[f"G_expand_{i}"]}
        theirs[f"gradient_{i}"] = found[f"gradient_{i}"] ** 3
    report = check(theirs, case)
    assert time.process_time() - start < 20
    verdicts = {name: verdict.verdict for name, verdict in report.quantities.items()}
    assert {verdicts[f"A_{i}"] for i in range(1, 21)} == {"match"}
    assert {report.quantities[f"G_{i}"].convention for i in range(1, 21)} == {"exact Fisher; x N"}
    assert {verdicts[f"gradient_{i}"] for i in range(1, 21)} == {"no-match"}
