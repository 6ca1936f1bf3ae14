"""A verdict as two lines of mathematics: what theirs computes, and what is right, with its section in the paper."""

from __future__ import annotations

from collections.abc import Mapping

from kfac_ref.oracle.theirs import kind_of
from kfac_ref.oracle.verdict import MATCH, Explanation, Verdict

REMEDIES = {
    "pre-activations in place of activities": "take the layer's input behind phi",
    "the layer's output": "take what goes into the layer, not what comes out of it",
    "the input of the layer below": "take the input of this layer",
    "derivatives by activities": "take the derivative by the pre-activations: hook the linear layer, before phi",
    "phi' applied twice": "apply phi' once: the derivative by the pre-activations has it already",
    "the derivatives of the layer": "take the derivative by this layer's pre-activations",
    "derivatives by the layer's input": "take the derivative by the layer's output (grad_output, not grad_input)",
    "derivatives of the": "take derivatives of the loss, with targets from the model",
    "the layer's": "take derivatives",
    "targets sampled": "the gradient is that of the data's targets",
    "outer product of the mean": "take the product of each case first, then the mean over cases",
    "centred": "do not subtract the mean: the factor is a second moment",
    "its matrix square root": "do not take the root",
    "its square": "do not square it",
    "its diagonal": "keep the whole matrix",
    "its upper": "keep both triangles",
    "its lower": "keep both triangles",
    "its Cholesky": "hand over the matrix, not its factor",
    "its inverse": "hand over the factor, not its inverse",
    "the square of each": "do not square the entries",
    "the root of each": "do not take the root of the entries",
    "mean of the means": "weight each mini-batch by its cases",
}
"""What to do about a slip, by how it begins."""
CASES = "take the mean over all cases, each once"
OTHERS = {
    "without the dimensions": "divide each trace by its dimension before the ratio is taken (§6.3)",
    "its root not taken": "take the root of the ratio of traces (§6.3)",
    "1/pi": "multiply A's part by pi and divide G's by it (§6.3)",
    "one pi for the whole network": "take pi of each layer (§6.3)",
    " with pi = ": "take pi of each layer, as it is (§6.3)",
    "KL clip": "compare what there is before the clip",
    "norm clipped": "compare what there is before the clip",
    "gradient's norm": "compare what there is before it is scaled",
    "one factor for all layers": "compare what there is before the factor",
    "read as counted": "hand over A_0, or all A, so that the names are plain",
}
"""What to do about damping and notes, by words in them."""


def remedies(e: Explanation) -> list[str]:
    """What is to be done about the slips of an explanation."""
    said = [part[3:] if part[:3] in ("A: ", "G: ") else part for part in (e.place, e.order, e.cases) if part]
    found = []
    for part in said:
        known = [advice for start, advice in REMEDIES.items() if part.startswith(start)]
        found.append(known[0] if known else CASES)
    if e.added is not None:
        found.append("leave the weight decay out, or give it to the case as eta")
    text = " | ".join([e.damping or "", *e.notes])
    return [*found, *next(([advice] for words, advice in OTHERS.items() if words in text), [])]


def advice(e: Explanation, estimate: bool = True) -> list[str]:
    """What is to be done about an explanation; {} stands for the quantity. `estimate`: whether it is an estimate itself
    where it has to do with sampled targets."""
    found = remedies(e)
    if e.scale is not None and e.expression != "1" and e.start != "zero" and not (e.together and e.expression is None):
        text = e.expression or f"{e.scale:.6g}"
        value = f" = {e.scale:.6g}" if e.expression and not text.lstrip("-").isdigit() else ""
        found.append(f"divide {{}} by {text}{value}")
    if e.fisher == "empirical":
        found.append("sample targets from the model, or take the expectation over it, in place of the data's targets")
    if e.fisher == "identity":
        found.append("the Fisher's G takes a backward pass from targets of the model")
    if e.fisher == "monte-carlo" and estimate:
        found.append("more samples come nearer to the expectation")
    if e.start == "zero":
        found.append("correct the running average for its start, or begin with the first estimate")
    if e.start == "identity":
        found.append("begin the running average with the first estimate")
    return found


def explain(verdicts: Mapping[str, Verdict]) -> str:
    """For every quantity that does not match: theirs, the right one with its section, and what to change."""
    parts = []
    for name, v in verdicts.items():
        if v.verdict == MATCH:
            continue
        kind, i = kind_of(name), v.layer or 0
        right, section = right_formula(kind, i)
        if v.explanation is None:
            said = f"nothing known explains it (residual of the closest: {v.residual or 0:.1e})"
            parts.append(f"{name}\n  yours:  {said}\n  right:  {right}   ({section})")
            continue
        lines = [name, f"  yours:  {their_formula(kind, i, v.explanation)}", f"  right:  {right}   ({section})"]
        change = [what.replace("{}", "it") for what in advice(v.explanation, not kind.startswith("preconditioned"))]
        parts.append("\n".join(lines + ([f"  change: {'; '.join(change)}"] if change else [])))
    return "\n".join(parts) if parts else "Everything matches as it stands: there is nothing to explain."


def right_formula(kind: str, layer: int) -> tuple[str, str]:
    """What a quantity should be, and its section in the paper."""
    i = _index(layer)
    if kind == "A":
        return f"1/N Σ_n ā āᵀ, ā = [{_a(layer - 1, layer)}; 1]", "§3, §5"
    if kind in ("G", "G_bias"):
        return f"1/N Σ_n E_y[g gᵀ], g = ∂L/∂s_{i}, y from the model", "§3, §5"
    if kind.startswith("gradient"):
        return f"1/N Σ_n g āᵀ + η W_{i}, g = ∂L/∂s_{i}, ā = [{_a(layer - 1, layer)}; 1], y the data's", "§2"
    if kind.startswith("preconditioned"):
        return "(G + γ/π I)⁻¹ ∇h (Ā + πγ I)⁻¹, π = √((tr Ā/(d_in+1)) / (tr G/d)), γ = √(λ+η)", "§4.2, §6.3"
    v = f"vec(∂L/∂W_{i})" if kind == "block" else "∂L/∂θ"
    return f"1/N Σ_n E_y[v vᵀ], v = {v}, columns stacked, y from the model", "§2"


def their_formula(kind: str, layer: int, e: Explanation) -> str:
    """What an explanation says that theirs computes."""
    if kind.startswith("preconditioned"):
        return _preconditioned(layer, e)
    if kind.startswith("gradient"):
        core, about = _gradient(layer, e)
    elif e.fisher == "identity" and not e.matrix:
        core, about = "I", ""
    else:
        vector, about = _vector(kind, layer, e)
        core = _product(vector, e)
        if e.matrix and e.matrix != "Fisher block":
            about = f"{about}; {e.matrix}"
    extra = [x for x in (e.layout if not e.expected else None, *e.notes) if x and x != "column-major"]
    return "; ".join([_scaled(core, e) + about, *extra])


def _index(layer: int) -> str:
    return str(layer) if layer else "i"


def _a(j: int, layer: int) -> str:
    """a_j, x where it is the network's input."""
    return f"a_{j}" if layer and j > 0 else "x" if layer else "a_{i-1}"


def _vector(kind: str, layer: int, e: Explanation) -> tuple[str, str]:
    """The letter of the vectors whose products are taken, and what they are."""
    place = (e.place or "").removeprefix("A: ").removeprefix("G: ")
    if kind in ("block", "fisher"):
        where = f", with {place}" if place else ""
        v = f"vec(∂L/∂W_{_index(layer)})" if kind == "block" else "∂L/∂θ"
        return "v", f", v = {v}{where}{_targets(e)}"
    if kind == "A" and e.layout != "A and G swapped":
        return "ā", f", ā = {_activity(layer, place, e.bias)}"
    if kind != "A" and e.layout == "A and G swapped":
        return "ā", f", ā = {_activity(layer, '', e.bias)}"
    targets = "" if "in place of derivatives" in place else _targets(e)
    return "g", f", g = {_derivative(layer, place)}{targets}"


def _activity(layer: int, place: str, bias: str | None) -> str:
    a = _a(layer - 1, layer)
    if place.startswith("pre-activations"):
        a = f"s_{layer - 1}"
    elif place.endswith("before phi"):
        a = f"s_{layer}"
    elif place.startswith("the layer's output"):
        a = f"a_{layer}"
    elif place.startswith("the input of the layer below"):
        a = _a(layer - 2, layer)
    return {"first": f"[1; {a}]", "absent": a, "separate": a}.get(bias or "", f"[{a}; 1]")


def _derivative(layer: int, place: str) -> str:
    i = _index(layer)
    if place.startswith("derivatives by activities"):
        return f"∂L/∂a_{i}"
    if place.startswith("phi' applied twice"):
        return f"∂L/∂s_{i} ⊙ φ′(s_{i})"
    if place.startswith("the derivatives of the layer below"):
        return f"∂L/∂s_{layer - 1}"
    if place.startswith("the derivatives of the layer above"):
        return f"∂L/∂s_{layer + 1}"
    if place.startswith("derivatives by the layer's input"):
        return f"∂L/∂{_a(layer - 1, layer)}"
    if place.startswith("derivatives of the outputs"):
        return f"∂z_c/∂s_{i}, summed over outputs c"
    if place.startswith("derivatives of the sum"):
        return f"∂(Σ_c z_c)/∂s_{i}"
    if place.startswith("the layer's activities"):
        return f"a_{i}"
    if place.startswith("the layer's pre-activations"):
        return f"s_{i}"
    return f"∂L/∂s_{i}"


def _targets(e: Explanation) -> str:
    if e.fisher == "empirical":
        return ", y the data's"
    if e.fisher == "monte-carlo":
        return f", {e.samples} y drawn for each case" if e.samples else ", y drawn from the model"
    return ", y from the model" if e.fisher == "exact" else ""


def _over(e: Explanation) -> str:
    """The mean over cases."""
    if not e.cases:
        return "1/N Σ_n"
    divided = "1/N" if any("number of all cases" in note for note in e.notes) else "mean"
    return f"{divided} over {e.cases} of" if divided == "mean" else f"1/N Σ over {e.cases} of"


def _product(v: str, e: Explanation) -> str:
    order, over = (e.order or "").removeprefix("A: ").removeprefix("G: "), _over(e)
    expected = f"E_y[{v} {v}ᵀ]" if e.fisher == "exact" else f"{v} {v}ᵀ"
    M = f"{over} {expected}"
    forms = {
        "outer product of the mean": f"({over} {v})({over} {v})ᵀ",
        "centred": f"{M} − ({over} {v})({over} {v})ᵀ",
        "its matrix square root": f"({M})^½",
        "its square": f"({M})²",
        "its diagonal": f"diag({M})",
        "its upper": f"triu({M})",
        "its lower": f"tril({M})",
        "its Cholesky": f"chol({M})",
        "its inverse": f"({M})⁻¹",
        "the square of each": f"({M})∘²",
        "the root of each": f"({M})∘^½",
    }
    return next((form for start, form in forms.items() if order.startswith(start)), M)


def _scaled(text: str, e: Explanation) -> str:
    """With scale, history and damping."""
    if e.scale is not None and e.expression != "1" and e.start != "zero":
        text = f"{e.expression or f'{e.scale:.6g}'} · ({text})"
    if e.start == "zero":
        text = f"{e.expression} · ({text})"
    if e.added is not None:
        text = f"{text} + {e.added:.6g} W"
    if e.start == "identity":
        text = f"ε I + (1−ε) · {text}, ε = {e.history}"
    if e.damping and e.damping != "none":
        text = f"{text} + {e.damping_values[0]:.6g} I ({e.damping})" if e.damping_values else f"{text} + {e.damping}"
    return text


def _gradient(layer: int, e: Explanation) -> tuple[str, str]:
    place = e.place or ""
    left = place.startswith(("derivatives", "the derivatives", "phi'"))
    g = _derivative(layer, place if left else "")
    a = _activity(layer, "" if left or place.startswith("targets") else place, e.bias)
    over = _over(e)
    M = f"({over} g)({over} ā)ᵀ" if (e.order or "").startswith("outer product of the mean") else f"{over} g āᵀ"
    plain = e.added is None and not any("eta*theta" in n for n in e.notes)
    y = "y drawn from the model" if "targets sampled" in place else "y the data's"
    return f"{M}{' + η W' if plain else ''}", f", g = {g}, ā = {a}, {y}"


def _preconditioned(layer: int, e: Explanation) -> str:
    values = [f"{x:.6g}" for x in e.damping_values]
    V = "∇h"
    if e.added is not None and any("to the gradient" in n for n in e.notes):
        V = f"(∇h + {e.added:.6g} W)"
    if "block-tridiagonal" in (e.matrix or ""):
        text = "F̂⁻¹ ∇h (block-tridiagonal)"
    elif len(values) == 1:
        text = f"(Ā⊗G + {values[0]} I)⁻¹ vec {V}"
    elif len(values) == 2:
        text = f"(G + {values[1]} I)⁻¹ {V} (Ā + {values[0]} I)⁻¹"
    else:
        text = f"F⁻¹ {V}"
    if e.added is not None and any("to the result" in n for n in e.notes):
        text = f"{text} + {e.added:.6g} W"
    if e.scale is not None and e.expression != "1":
        text = f"{e.expression or f'{e.scale:.6g}'} · {text}"
    about = [e.damping or "", e.place or "", e.order or "", f"{e.fisher} Fisher" if e.fisher else "", *e.notes]
    return f"{text}   [{'; '.join(x for x in about if x)}]"
