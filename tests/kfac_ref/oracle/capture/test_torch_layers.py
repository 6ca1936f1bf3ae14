"""Every kind of PyTorch's modules: its rows give the Jacobians by its weights that PyTorch finds one case at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from kfac_ref.oracle.capture import capture  # noqa: E402
from tests.kfac_ref.oracle.capture import brute_force  # noqa: E402
from tests.kfac_ref.oracle.capture import torch_models as models  # noqa: E402


class Root(nn.Module):
    """A user's own normalisation."""

    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class OfChannels(nn.LayerNorm):
    """A user's own, of channels at axis 1."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Sum(nn.Module):
    """Outputs that depend on all of the layer's."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y = self.layer(x).flatten(1)
        weights = models.numbers(y.shape[1], 2, seed=3)
        return torch.tanh(y * models.numbers(y.shape[1], seed=4)) @ weights


LAYERS = {
    "linear on sequences": (nn.Linear(3, 2), (4, 3)),
    "linear on more axes": (nn.Linear(3, 2, bias=False), (2, 4, 3)),
    "conv1d same": (nn.Conv1d(2, 3, 4, padding="same", dilation=2), (2, 9)),
    "conv1d valid": (nn.Conv1d(2, 3, 4, stride=2, padding="valid", bias=False), (2, 9)),
    "conv2d": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 6, 5)),
    "conv2d same, even kernel": (nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 5, 4)),
    "conv2d reflect": (nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="reflect", stride=2), (2, 6, 5)),
    "conv2d circular": (nn.Conv2d(2, 3, (3, 1), padding=(1, 0), padding_mode="circular"), (2, 4, 3)),
    "conv2d replicate same": (nn.Conv2d(2, 3, (2, 3), padding="same", padding_mode="replicate"), (2, 4, 3)),
    "conv2d groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 5)),
    "conv2d depthwise": (nn.Conv2d(3, 3, 3, groups=3, bias=False), (3, 4, 5)),
    "conv3d": (nn.Conv3d(2, 3, (2, 1, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (2, 3, 3, 4)),
    "batch norm of vectors": (nn.BatchNorm1d(4), (4,)),
    "batch norm of sequences": (nn.BatchNorm1d(4), (4, 3)),
    "batch norm of images": (nn.BatchNorm2d(2), (2, 3, 4)),
    "layer norm": (nn.LayerNorm(4), (3, 4)),
    "layer norm of whole images": (nn.LayerNorm((2, 3, 4)), (2, 3, 4)),
    "layer norm without shift": (nn.LayerNorm(4, bias=False), (3, 4)),
    "group norm": (nn.GroupNorm(2, 4), (4, 3, 2)),
    "instance norm": (nn.InstanceNorm2d(2, affine=True), (2, 3, 4)),
    "root mean square": (nn.RMSNorm(4), (3, 4)),
    "a user's own": (Root(4), (3, 4)),
    "layer norm of channels": (OfChannels(4), (4, 3, 4)),
}


def captured_alone(model, x):
    """Its layers, where all its parameters are covered."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="not captured")
        return capture(model, x, models.numbers(len(x), 2, seed=5), "gaussian").layers


@pytest.mark.parametrize("name", LAYERS)
def test_rows_give_the_jacobian(name):
    layer, shape = LAYERS[name]
    model, x = models.ready(Sum(layer)), models.numbers(5, *shape)
    groups = captured_alone(model, x)
    parameters = [p for p, _ in model.named_parameters()]
    J = brute_force.jacobians(model, x, parameters)
    assert [g.bias for g in groups] == [len(J) == 2] * len(groups)
    normalises = groups[0].kind == "normalisation"
    assert normalises == ("norm" in name or name in ("root mean square", "a user's own"))
    to = "cntd,ntd->ncd" if normalises else "cntd,ntp->ncdp"
    weight = np.concatenate([np.einsum(to, g.g, g.a) for g in groups], axis=2)
    np.testing.assert_allclose(weight.reshape(J[0].shape), J[0], rtol=0, atol=1e-12)
    if len(J) == 2:
        bias = np.concatenate([g.g.sum(2).swapaxes(0, 1) for g in groups], axis=2)
        np.testing.assert_allclose(bias.reshape(J[1].shape), J[1], rtol=0, atol=1e-12)
    # the layer's own output, from rows and weights
    s = model.layer(x).detach()
    channels_second = isinstance(layer, (*brute_force.CHANNELS_SECOND, OfChannels))
    s = (
        s.reshape(*s.shape[:2], -1).movedim(1, 2)
        if channels_second
        else s.reshape(5, -1, sum(g.W.shape[0] for g in groups))
    )
    for group, y in zip(groups, np.split(s.numpy(), len(groups), axis=2), strict=True):
        shift = group.W[:, -1] if group.bias else 0.0
        weighted = group.a * group.W[:, 0] if normalises else group.a @ group.W[:, : group.a.shape[2]].T
        np.testing.assert_allclose(weighted + shift, y, rtol=0, atol=1e-12)
    of_images = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    assert [g.input_locations for g in groups] == [int(np.prod(shape[1:])) if of_images else None] * len(groups)


def test_groups_of_a_convolution_are_layers():
    groups = captured_alone(models.ready(Sum(LAYERS["conv2d groups"][0])), models.numbers(5, 4, 4, 5))
    assert [g.name for g in groups] == ["layer[0]", "layer[1]"]
    assert [(g.a.shape, g.g.shape) for g in groups] == [((5, 20, 18), (2, 5, 20, 3))] * 2


@pytest.mark.parametrize("padding", [None, 2])
def test_embeddings_have_one_hot_rows(padding):
    tokens = torch.tensor([[0, 2, 2], [1, 2, 3], [3, 0, 2]])
    (layer,) = captured_alone(models.ready(Sum(nn.Embedding(4, 2, padding_idx=padding))), tokens)
    rows = np.eye(4)
    if padding is not None:
        rows[padding] = 0
    np.testing.assert_array_equal(layer.a, rows[tokens.numpy()])
    assert not layer.bias
    g = brute_force.by_force(models.ready(Sum(nn.Embedding(4, 2, padding_idx=padding))), tokens, "layer")[1]
    assert layer.g.shape == g.shape


@pytest.mark.parametrize("how", ["flattened", "positions first", "flattened, positions first", "unbatched"])
def test_cases_are_found_where_they_are(how):
    """On the first axis, on the second, or as a part of the first, with as many positions as cases too."""
    orders = {
        "flattened": lambda f, x: f(x.reshape(-1, 3)).reshape(*x.shape[:2], 2),
        "positions first": lambda f, x: f(x.transpose(0, 1)).transpose(0, 1),
        "flattened, positions first": lambda f, x: (
            f(x.transpose(0, 1).reshape(-1, 3)).reshape(x.shape[1], len(x), 2).transpose(0, 1)
        ),
    }

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            if how == "unbatched":
                return torch.stack([torch.stack([self.layer(row) for row in case]).sin().sum(0) for case in x])
            return orders[how](self.layer, x).sin().sum(1)

    if how == "unbatched":
        with pytest.raises(ValueError, match="its output is computed once for all cases"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            capture(models.ready(Model()), models.numbers(4, 4, 3), models.numbers(4, 2), "gaussian")
        return
    for positions in (4, 6):
        x = models.numbers(4, positions, 3)
        (layer,) = captured_alone(models.ready(Model()), x)[:1]
        np.testing.assert_array_equal(layer.a, x.numpy())


def test_what_is_computed_once_for_all_cases_is_repeated_for_each():
    for positions in (4, 6):

        class Model(nn.Module):
            def __init__(self, positions=positions):
                super().__init__()
                self.place, self.norm, self.positions = nn.Embedding(9, 3), nn.LayerNorm(3), positions

            def forward(self, x):
                return (x + self.norm(self.place(torch.arange(self.positions)))).sin().sum(1)

        model, x = models.ready(Model()), models.numbers(4, positions, 3)
        place, norm = capture(model, x, models.numbers(4, 3, seed=2), "gaussian").layers
        assert place.a.shape == (4, positions, 9) and norm.a.shape == (4, positions, 3)
        (J,) = brute_force.jacobians(model, x, ["place.weight"])
        np.testing.assert_allclose(np.einsum("cntd,ntp->ncpd", place.g, place.a), J, rtol=0, atol=1e-12)
