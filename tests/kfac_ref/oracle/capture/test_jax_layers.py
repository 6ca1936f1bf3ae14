"""Captured cases of functions of JAX, against Jacobians of one case at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

from kfac_ref.machine import memory  # noqa: E402
from kfac_ref.oracle.capture import capture  # noqa: E402
from kfac_ref.oracle.capture.jax_layers import mark, patches  # noqa: E402

N = 5
LABELS = np.array([0, 2, 1, 1, 2])


@pytest.fixture(autouse=True)
def in_float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def numbers(*shape, seed=0):
    """On the host, as here JAX would make them float32."""
    return np.random.default_rng(seed).standard_normal(shape)


def parameters(**shapes):
    return {name: numbers(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def weights(layer):
    """dz/dW (N, C, p, d), as JAX's users have W, or (N, C, d), and dz/db (N, C, d), of the rows."""
    to = "cntd,ntd->ncd" if layer.kind == "normalisation" else "cntd,ntp->ncpd"
    return np.einsum(to, layer.g, layer.a), layer.g.sum(2).swapaxes(0, 1)


def jacobians(apply, params, x):
    params, x = jax.tree_util.tree_map(jnp.asarray, (params, x))
    return jax.vmap(lambda case: jax.jacrev(lambda p: apply(p, case[None])[0].ravel())(params))(x)


def near(x, y):
    np.testing.assert_allclose(x, np.reshape(y, x.shape), rtol=0, atol=1e-12 * max(1.0, np.abs(y).max()))


MLP = parameters(W=(3, 4), b=(4,), V=(4, 2), c=(2,))
X, Y = numbers(N, 3, seed=8), numbers(N, 2, seed=7)


def captured(apply, x=X, y=Y, params=MLP, likelihood="gaussian", **options):
    params, x = jax.tree_util.tree_map(jnp.asarray, (params, x))
    return capture(apply, x, y, likelihood, params=params, **options)


CONV = parameters(K=(3, 2, 2, 4), b=(4,), scale=(4,), shift=(4,), W=(4, 3))


@pytest.mark.parametrize(
    ("strides", "padding", "dilation"),
    [((2, 1), "SAME", (1, 1)), ((1, 1), "VALID", (2, 1)), ((1, 2), [(1, 0), (2, 2)], (1, 2))],
)
def test_a_convolutional_network_that_is_compiled(strides, padding, dilation):
    @jax.jit
    def apply(params, x):
        s = jax.lax.conv_general_dilated(
            x, params["K"], strides, padding, rhs_dilation=dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        s = mark("conv", s + params["b"], patches(x, (3, 2), strides, padding, dilation))
        a = jax.nn.relu(s)
        a = (a - a.mean(-1, keepdims=True)) / (1 + a.std(-1, keepdims=True))
        a = mark("norm", a * params["scale"] + params["shift"], a, kind="normalisation").mean((1, 2))
        return mark("last", a @ params["W"], a, bias=False)

    x = numbers(N, 7, 6, 2, seed=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conv, norm, last = captured(apply, x, LABELS, CONV, "categorical").layers
    J = jacobians(apply, CONV, x)
    assert (conv.name, conv.bias, norm.kind, last.bias) == ("conv", True, "normalisation", False)
    K, b = weights(conv)
    # columns in the order channel, row, column; those of K are row, column, channel
    near(K.reshape(N, 3, 2, 3, 2, 4).transpose(0, 1, 3, 4, 2, 5), J["K"])
    near(b, J["b"])
    near(weights(norm)[0], J["scale"])
    near(weights(norm)[1], J["shift"])
    near(weights(last)[0], J["W"])
    # the layers' own outputs, from rows and weights
    s = jax.lax.conv_general_dilated(
        x, CONV["K"], strides, padding, rhs_dilation=dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    near(conv.a @ conv.W[:, :-1].T + conv.W[:, -1], (s + CONV["b"]).reshape(N, -1, 4))
    np.testing.assert_array_equal(norm.W, np.stack([CONV["scale"], CONV["shift"]], axis=1))
    np.testing.assert_array_equal(last.W, CONV["W"].T)


def recurrent(params, x):
    def step(h, x_t):
        rows = jnp.concatenate([x_t, h], -1)
        return (h := jnp.tanh(mark("cell", rows @ params["R"] + params["r"], rows))), None

    h, _ = jax.lax.scan(step, jnp.zeros((len(x), 4)), x.swapaxes(0, 1))
    return mark("last", h @ params["W"], h, bias=False)


RECURRENT = parameters(R=(6, 4), r=(4,), W=(4, 3))


def test_a_layer_within_a_loop_is_one_of_many_locations():
    x = numbers(N, 6, 2, seed=9)
    cell, last = captured(recurrent, x, LABELS, RECURRENT, "categorical").layers
    assert cell.a.shape == (N, 6, 6) and cell.g.shape == (3, N, 6, 4) and last.a.shape == (N, 1, 4)
    J = jacobians(recurrent, RECURRENT, x)
    near(weights(cell)[0], J["R"])
    near(weights(cell)[1], J["r"])


def test_embedded_sequences_with_outputs_at_each_position():
    params = parameters(E=(7, 4), W=(4, 3), b=(3,))

    def apply(params, tokens):
        x = mark("embedding", params["E"][tokens], jax.nn.one_hot(tokens, 7), bias=False)
        return mark("last", jnp.tanh(x) @ params["W"] + params["b"], jnp.tanh(x))

    tokens = np.random.default_rng(0).integers(7, size=(N, 4))
    labels = tokens % 3
    labels[1, 2] = -100
    case = captured(apply, tokens, labels, params, "categorical")
    embedding, last = case.layers
    J = jacobians(apply, params, tokens)
    counted = np.repeat(labels >= 0, 3, axis=1)[..., None, None]
    near(weights(embedding)[0], counted * J["E"].reshape(N, 12, 7, 4))
    near(weights(last)[0], counted * J["W"].reshape(N, 12, 4, 3))


def test_outside_of_a_capture_a_mark_does_nothing():
    x, s = numbers(N, 2), numbers(N, 3)
    assert mark("layer", s, x) is s


# --- what is left out -------------------------------------------------------------------------------------------------


def mlp(params, x, first=lambda s, x: mark("first", s, x), last=lambda s, x: mark("last", s, x)):
    a = jnp.tanh(first(x @ params["W"] + params["b"], x))
    return last(a @ params["V"] + params["c"], a)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (lambda s, x: s, r"\"params\['W'\]\", \"params\['b'\]\" \(no marked layer has it\)"),
        (lambda s, x: mark("first", s, 2 * x), r"'first' \(no parameter has the gradient that its rows say of its w"),
        (lambda s, x: mark("first", s, x) * 0 + s, r"'first' \(no parameter has the gradient"),
    ],
)
def test_what_is_left_out(first, said):
    with pytest.warns(UserWarning, match=said):
        case = captured(lambda params, x: mlp(params, x, first))
    assert [layer.name for layer in case.layers] == ["last"]


def test_some_layers_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [x.name for x in captured(mlp, layers=["last"]).layers] == ["last"]
    with pytest.raises(ValueError, match='unknown layer "frist"; did you mean "first"'):
        captured(mlp, layers=["frist"])


def less_mean(p, x):
    return mlp(p, x, lambda s, x: mark("first", s, x) - s.mean(0)) + mlp(p, x).mean(0)


def first(how):
    """The network, its first layer marked so."""
    return lambda p, x: mlp(p, x, how)


def half(s, x):
    return mark("first", s.astype("float16"), x).astype("float64")


REFUSED = {
    "within vmap": (lambda p, x: jax.vmap(lambda case: mlp(p, case[None])[0])(x), "'first' is marked within vmap"),
    "within checkpoint": (jax.checkpoint(mlp), "layer 'first' is marked within vmap, checkpoint or grad"),
    "coupled": (less_mean, "cases are coupled: .* the layer 'first'"),
    "no mark": (lambda p, x: x @ p["W"], "marks no layer"),
    "shapes": (first(lambda s, x: mark("first", s, x.T)), r"'first': rows have shape \(3, 5\) and s \(5, 4\)"),
    "some cases": (
        first(lambda s, x: mark("first", s[:2], x[:2])[0] + s),
        "'first' has rows of 2 cases, expected 5 as outputs: cases first",
    ),
    "one name for two": (
        lambda p, x: mlp(p, x, last=lambda s, x: mark("first", s, x)),
        "two layers are called 'first'",
    ),
    "half": (first(half), "s of layer 'first' are float16"),
    "half outputs": (lambda p, x: mlp(p, x).astype("float16"), "outputs are float16"),
    "outputs": (lambda p, x: mlp(p, x)[:, 0], r"outputs have shape \(5,\), expected an array \(N, C\)"),
    "tuple": (lambda p, x: (mlp(p, x), 0), "outputs have type tuple"),
    "not finite": (lambda p, x: mlp(p, x) / 0, "not all finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    apply, said = REFUSED[name]
    with pytest.raises(ValueError, match=said) as error:
        captured(apply)
    assert len(str(error.value).splitlines()) == 1
    x, s = numbers(N, 2), numbers(N, 3)
    assert mark("layer", s, x) is s


def test_half_precision_parameters_and_memory(monkeypatch):
    with pytest.raises(ValueError, match=r"params\['V'\] is float16, expected float64 or float32"):
        captured(mlp, params=jax.tree_util.tree_map(lambda p: p.astype("float16"), MLP))
    with pytest.raises(TypeError, match="the model is a function without params, expected"):
        capture(mlp, X, Y, "gaussian")
    monkeypatch.setattr(memory, "limit", lambda: 1500)
    with pytest.raises(ValueError, match=r"5 cases and 2 outputs take 760 bytes, 440 bytes of it in 'first'"):
        captured(mlp)


# --- modules ----------------------------------------------------------------------------------------------------------


def marked(method, args, kwargs, context):
    """As in the module's documentation."""
    y = method(*args, **kwargs)
    layer = context.method_name == "__call__" and type(context.module).__name__ in ("Dense", "Linear")
    return mark(context.module.name, y, args[0]) if layer else y


def test_modules_of_flax_by_its_intercepts():
    nn = pytest.importorskip("flax.linen")
    model = nn.Sequential([nn.Dense(4), jnp.tanh, nn.Dense(2)])
    variables = jax.tree_util.tree_map(lambda x: x.astype("float64"), model.init(jax.random.PRNGKey(0), X))
    with nn.intercept_methods(marked), warnings.catch_warnings():
        warnings.simplefilter("error")
        first, last = captured(model.apply, params=variables).layers
    near(weights(first)[0], jacobians(model.apply, variables, X)["params"]["layers_0"]["kernel"])
    assert (first.name, last.name) == ("layers_0", "layers_2")


def test_modules_of_haiku_by_its_intercepts():
    hk = pytest.importorskip("haiku")
    apply = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2)(jnp.tanh(hk.Linear(4, name="first")(x)))))
    params = jax.tree_util.tree_map(lambda x: x.astype("float64"), apply.init(jax.random.PRNGKey(0), X))
    with hk.intercept_methods(marked), warnings.catch_warnings():
        warnings.simplefilter("error")
        first, _ = captured(apply.apply, params=params).layers
    near(weights(first)[0], jacobians(apply.apply, params, X)["first"]["w"])
