"""What cannot be captured of a model is named in one line; and a model is left as it was."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from kfac_ref.machine import memory  # noqa: E402
from kfac_ref.oracle.capture import capture  # noqa: E402
from tests.kfac_ref.oracle.capture import torch_models as models  # noqa: E402

X, Y = models.numbers(4, 3), models.numbers(4, 2, seed=2)


class Of(nn.Module):
    """A model of a function and modules."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def linear(**more):
    return Of(lambda m, x: m.first(x), first=nn.Linear(3, 2).double(), **more)


def captured(model, x=X, y=Y, likelihood="gaussian", **options):
    return capture(model, x, y, likelihood, **options)


class Faulty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()


class Half(nn.Linear):
    def forward(self, x):
        return super().forward(x).half()


class Once(torch.autograd.Function):
    """Its backward pass has none itself."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, Dy):
        return Dy * ctx.saved_tensors[0].cos()


def half():
    return nn.Sequential(nn.Linear(3, 2)).half()


def after(function):
    """A model that does this to a linear layer's outputs."""
    return linear_of(lambda m, x: function(m.first(x)))


def linear_of(function, **more):
    return Of(function, first=nn.Linear(3, 2).double(), **more)


def batch_norm(**options):
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, **options)).double()


RANDOM = r"layer '1' \(Dropout\) is in training mode, in which it is random: call model.eval\(\) first"
COUPLED = r"layer '1' \(BatchNorm1d\) is in training mode, in which cases are coupled: call model.eval\(\) first"
ROWS = "cases are coupled: the outputs of one depend on the rows of others in the layer 'first'"
REFUSED = {
    "dropout": (lambda: nn.Sequential(linear(), nn.Dropout(0.5)), RANDOM),
    "batch norm": (batch_norm, COUPLED),
    "batch norm of this batch": (
        lambda: batch_norm(track_running_stats=False).eval(),
        "'1' .* has no running statistics",
    ),
    "functional dropout": (lambda: after(F.dropout).eval(), "draws random numbers"),
    "half": (half, r"'0.weight' is torch.float16, expected torch.float64 or torch.float32: convert a copy"),
    "bfloat16": (lambda: half().bfloat16(), "is torch.bfloat16"),
    "mixed": (
        lambda: nn.Sequential(nn.Linear(3, 3).double(), nn.Linear(3, 2)),
        "'0.weight' is torch.float64 and '1.weight' is torch.float32",
    ),
    "other dtype": (lambda: nn.Linear(3, 2), "inputs are torch.float64, but the parameters torch.float32"),
    "max_norm": (lambda: linear(e=nn.Embedding(2, 2, max_norm=1.0).double()), "'e' .* has max_norm"),
    "lazy": (lambda: nn.LazyLinear(2), "'weight' has no shape yet: call the model once before"),
    "meta": (lambda: nn.Linear(3, 2, device="meta"), "'weight' is on the meta device"),
    "parallel": (lambda: nn.DataParallel(linear()), "is a DataParallel, which splits cases; capture its .module"),
    "script": (lambda: torch.jit.script(nn.Linear(3, 2).double()), "is a ScriptModule"),
    "tuple": (lambda: after(lambda s: (s, s)), "returns a tuple, expected a tensor"),
    "one number a case": (lambda: after(lambda s: s[:, 0]), r"outputs have shape \(4,\), expected \(N, C\)"),
    "images": (lambda: after(lambda s: s[:, :, None, None]), r"shape \(4, 2, 1, 1\)"),
    "half outputs": (lambda: after(Tensor.half), "outputs are torch.float16"),
    "a half layer": (
        lambda: Of(lambda m, x: m.first(x).double(), first=Half(3, 2).double()),
        "layer 'first' gives torch.float16",
    ),
    "no_grad": (lambda: linear_of(torch.no_grad()(lambda m, x: m.first(x))), "do not depend on parameters"),
    "detach": (lambda: after(Tensor.detach), "do not depend on parameters"),
    "no backward pass": (lambda: after(Faulty.apply), "backward pass fails: NotImplementedError: You must implement"),
    "coupled": (lambda: after(lambda s: s - s.mean(0)), ROWS),
    "coupled in pairs": (lambda: after(lambda s: s + s[[1, 0, 2, 3]]), ROWS),
    "no layer": (
        lambda: Of(lambda m, x: x @ m.W, W=nn.Parameter(models.numbers(3, 2))),
        "no layer is captured: not captured: 'W' ",
    ),
    "not finite": (lambda: after(lambda s: s / 0), "not all finite"),
    "other outputs": (
        lambda: linear_of(lambda m, x: m.first(x) + next(m.numbers), numbers=iter(range(9))),
        "other outputs when called again",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, said = REFUSED[name]
    model = make()
    x = X.half() if name == "half" else X
    with pytest.raises(ValueError, match=said) as error, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captured(model, x)
    assert len(str(error.value).splitlines()) == 1
    assert not any(module._forward_hooks for module in model.modules())


def test_parameters_made_in_inference_mode():
    with torch.inference_mode():
        model = nn.Linear(3, 2).double()
    with pytest.raises(ValueError, match=r"'weight' was made in torch.inference_mode"):
        captured(model)


TARGETS = {
    "too few": (
        torch.zeros(3),
        r"targets have shape \(3,\), expected \(4, 2\) as the outputs, or integer labels \(4,\)",
    ),
    "real labels": (torch.zeros(4), "expected labels to be integers"),
    "no class": (torch.tensor([0, 1, 2, 0]), r"targets\[2\] = 2, expected labels 0 … 1, or -100 where ignored"),
    "a column": (torch.zeros(4, 1, dtype=torch.long), r"shape \(4, 1\), expected \(4, 2\)"),
    "all ignored": (torch.full((4,), -100), "all targets are -100"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_that_do_not_fit(name):
    y, said = TARGETS[name]
    with pytest.raises(ValueError, match=said):
        captured(linear(), y=y, likelihood="categorical")


def test_real_targets_that_do_not_fit():
    with pytest.raises(ValueError, match=r"targets have shape \(4,\), expected \(4, 2\) as the outputs"):
        captured(linear(), y=Y[:, 0])
    with pytest.raises(ValueError, match='unknown likelihood "softmax"'):
        captured(linear(), likelihood="softmax")
    with pytest.raises(TypeError, match="params are given"):
        captured(linear(), params={})


def test_more_than_the_memory_is_refused_by_its_number(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: 6000)
    model = nn.Sequential(nn.Linear(3, 50), nn.Linear(50, 2)).double()
    with pytest.raises(ValueError, match=r"4 cases and 2 outputs take 4.91 KiB, 3.22 KiB of it in '0'; 1.95 KiB may"):
        captured(model)
    assert len(captured(model, layers=["1"]).layers) == 1


# --- what is left out -------------------------------------------------------------------------------------------------


def left_out(model, x=X, y=Y, **options):
    """What the warning says, and the names of the layers that are there."""
    with pytest.warns(UserWarning, match="not captured: ") as warned:
        case = captured(model, x, y, **options)
    assert len(warned) == 1
    return str(warned[0].message), [layer.name for layer in case.layers]


def test_parameters_that_hooks_do_not_see_are_named():
    attention = nn.MultiheadAttention(3, 1, batch_first=True)
    model = Of(
        lambda m, x: m.last(m.attention(x, x, x)[0] + F.linear(x, m.W)).sum(1),
        attention=attention,
        W=nn.Parameter(torch.ones(3, 3)),
        unused=nn.Linear(2, 2),
        last=nn.Linear(3, 2),
    ).double()
    said, names = left_out(model, models.numbers(4, 5, 3))
    assert names == ["last"]
    assert "'W' (Of is no layer that is known)" in said
    assert "'attention.in_proj_weight', 'attention.in_proj_bias' (MultiheadAttention is no layer" in said
    assert (
        "'attention.out_proj.weight', 'attention.out_proj.bias', 'unused.weight', 'unused.bias' (was not called)"
        in said
    )


def test_a_layer_whose_weights_are_used_otherwise_too_is_left_out():
    model = Of(lambda m, x: m.last(m.first(x)) @ m.last.weight, first=nn.Linear(3, 2), last=nn.Linear(2, 2)).double()
    said, names = left_out(model)
    assert names == ["first"] and "'last.weight', 'last.bias' (its gradient is not that of the rows seen" in said


def test_weights_tied_between_modules_of_two_kinds_are_left_out():
    model = models.Encoder(tokens=7, outputs=7)
    model.head.weight = model.token.weight
    tokens = torch.randint(7, (4, 5), generator=torch.Generator().manual_seed(0))
    said, names = left_out(models.ready(model), tokens, tokens, likelihood="categorical")
    assert "token" not in names and "head" not in names and "query" in names
    assert "'token.weight', 'head.weight' (its gradient" in said


def test_modules_of_one_kind_with_the_same_parameters_are_one_layer():
    a, b, last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
    b.weight, b.bias = a.weight, a.bias
    case = captured(nn.Sequential(a, nn.Tanh(), b, last).double())
    assert [(x.name, x.a.shape[1]) for x in case.layers] == [("0 + 2", 2), ("3", 1)]
    twice = captured(nn.Sequential(a, nn.Tanh(), a, last).double())
    np.testing.assert_array_equal(case.layers[0].a, twice.layers[0].a)
    np.testing.assert_array_equal(case.layers[0].g, twice.layers[0].g)


def test_weights_that_are_computed_are_left_out():
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    said, names = left_out(nn.Sequential(normed, nn.Linear(3, 2)).double())
    assert names == ["1"] and "'0.parametrizations.weight.original0'" in said


class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, (1, 0)))


class Standardised(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight - self.weight.mean(), self.bias)


OTHERS = {
    "causal": (Causal(1, 1, 2), lambda m, s: m.other(s[:, None])[:, 0]),
    "standardised": (Standardised(3, 3), lambda m, s: m.other(s)),
    "PReLU": (nn.PReLU(3), lambda m, s: m.other(s)),
    "PReLU of one": (nn.PReLU(), lambda m, s: m.other(s)),
    "transposed convolution": (nn.ConvTranspose1d(3, 3, 1), lambda m, s: m.other(s[..., None])[..., 0]),
    "bilinear": (nn.Bilinear(3, 3, 3), lambda m, s: m.other(s, s)),
    "recurrent": (nn.GRU(3, 3, batch_first=True), lambda m, s: m.other(s[:, None])[0][:, 0]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_such_layer_is_not_taken_for_one(name):
    other, through = OTHERS[name]
    parts = {"first": nn.Linear(3, 3), "other": other, "last": nn.Linear(3, 2)}
    said, names = left_out(Of(lambda m, x: m.last(through(m, m.first(x))), **parts).double())
    assert names == ["first", "last"] and "'other.weight" in said


def test_what_no_output_depends_on_is_left_out():
    model = Of(lambda m, x: m.last(m.first(x).detach()), first=nn.Linear(3, 3), last=nn.Linear(3, 2)).double()
    said, names = left_out(model)
    assert names == ["last"] and "'first.weight', 'first.bias' (no output depends on it" in said


def test_some_layers_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.PReLU(3), nn.Linear(3, 2)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [x.name for x in captured(model, layers=["2"]).layers] == ["2"]
    with pytest.raises(ValueError, match='unknown module "3"'):
        captured(model, layers=["3"])


# --- as it was --------------------------------------------------------------------------------------------------------


def state(model):
    hooks = [(m._forward_hooks.copy(), m._forward_pre_hooks.copy(), m.training) for m in model.modules()]
    parameters = [(p.requires_grad, p.grad is None or p.grad.clone()) for p in model.parameters()]
    modes = (torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled())
    return hooks, parameters, {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state(), modes


def assert_same_state(a, b):
    assert a[0] == b[0] and a[4] == b[4]
    for (required, grad), (required_, grad_) in zip(a[1], b[1], strict=True):
        assert required == required_ and (grad is grad_ or torch.equal(grad, grad_))
    assert all(torch.equal(a[2][k], b[2][k]) for k in a[2]) and torch.equal(a[3], b[3])


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_left_as_it_was(fails):
    model = models.resnet()
    model.register_buffer("count", torch.zeros(()))
    model.register_buffer("other", torch.zeros(()))
    model.register_forward_pre_hook(lambda module, args: module.count.add_(1) and None)
    model.register_forward_pre_hook(lambda module, args: setattr(module, "other", module.other + 1))
    model[0].weight.requires_grad_(False)
    model[1].train()
    model[-1].weight.grad = torch.ones_like(model[-1].weight)
    before, x = state(model), models.numbers(4, 2, 7, 7)
    if fails:
        model[-2].forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            capture(model, x, torch.tensor([0, 1, 2, 0]), "categorical")
    else:
        capture(model, x, torch.tensor([0, 1, 2, 0]), "categorical")
    assert_same_state(before, state(model))
    assert not x.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_within_modes_without_gradients(mode):
    model = linear()
    expected = captured(model).layers[0]
    with mode():
        found = captured(model, X.clone()).layers[0]
    np.testing.assert_array_equal(found.g, expected.g)


def test_frozen_parameters_are_captured():
    model = models.resnet()
    x, y = models.numbers(4, 2, 7, 7), torch.tensor([0, 1, 2, 0])
    free = capture(model, x, y, "categorical")
    frozen = capture(model.requires_grad_(False), x, y, "categorical")
    for one, other in zip(free.layers, frozen.layers, strict=True):
        np.testing.assert_array_equal(one.g, other.g)


def test_a_frozen_encoder_layer_does_not_go_past_the_hooks():
    model = models.ready(
        Of(lambda m, x: m.inner(x).sum(1), inner=nn.TransformerEncoderLayer(4, 2, 6, batch_first=True))
    )
    x = models.numbers(4, 5, 4)
    said, names = left_out(model.requires_grad_(False), x, models.numbers(4, 4))
    assert names == ["inner.linear1", "inner.linear2", "inner.norm1", "inner.norm2"] and "in_proj" in said


def test_checkpoints_and_compiled_models_are_seen_through():
    from torch.utils.checkpoint import checkpoint

    inner = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    model = Of(
        lambda m, x: m.last(checkpoint(m.inner, x, use_reentrant=False)), inner=inner, last=nn.Linear(3, 2)
    ).double()
    plain = Of(lambda m, x: m.last(m.inner(x)), inner=inner, last=model.last)
    for one, other in zip(captured(model).layers, captured(plain).layers, strict=True):
        np.testing.assert_array_equal(one.g, other.g)
    assert len(captured(torch.compile(plain)).layers) == 2


def test_functions_that_are_differentiable_once_are_enough():
    first = nn.Linear(3, 2).double()
    one, other = (captured(Of(lambda m, x, f=f: f(m.first(x)), first=first)) for f in (Once.apply, torch.sin))
    np.testing.assert_array_equal(one.layers[0].g, other.layers[0].g)


def test_several_inputs_by_place_or_name():
    model = Of(lambda m, x, scale: m.first(input=x) * scale, first=nn.Linear(3, 2).double())
    scale = models.numbers(4, 1)
    one, other = captured(model, (X, scale)).layers[0], captured(model, {"x": X, "scale": scale}).layers[0]
    np.testing.assert_array_equal(one.g, other.g)
    np.testing.assert_allclose(one.g[0, :, 0, 0], scale[:, 0])


def test_labels_one_hot_and_ignored():
    model, labels = linear(), torch.tensor([1, 0, -100, 1])
    case = captured(model, y=labels, likelihood="categorical")
    np.testing.assert_array_equal(case.Y[[0, 1, 3]], np.eye(2)[[1, 0, 1]])
    assert not case.layers[0].g[:, 2].any() and case.layers[0].g[:, [0, 1, 3]].any(axis=(0, 2, 3)).all()
    other = captured(model, y=torch.where(labels < 0, 7, labels), likelihood="categorical", ignore_index=7)
    np.testing.assert_array_equal(other.layers[0].g, case.layers[0].g)


def test_ignored_positions_have_no_derivatives():
    model, labels = linear(), torch.tensor([[1, -100], [0, 0], [-100, 1]])
    (layer,) = captured(model, models.numbers(3, 2, 3), labels, "categorical").layers
    assert layer.g.shape == (4, 3, 2, 2)
    at_each = layer.g.reshape(2, 2, 3, 2, 2).any(axis=(1, 3, 4))  # outputs' position, case
    np.testing.assert_array_equal(at_each, (labels.numpy() >= 0).T)


def test_float32_is_taken_as_it_is():
    model = copy.deepcopy(linear()).float()
    single, double = captured(model, X.float()), captured(copy.deepcopy(model).double(), X.float().double())
    np.testing.assert_allclose(single.layers[0].g, double.layers[0].g, rtol=1e-5)
