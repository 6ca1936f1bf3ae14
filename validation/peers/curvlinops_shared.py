"""curvlinops' K-FAC of convolutions and sequences, expand and reduce. Needs curvlinops-for-pytorch.

With outputs at each position, "type-2" goes backward from an output at all positions at once. For reduce, G then mixes
derivatives of positions that are independent, and is E[Σ_c g_c g_cᵀ] with g_c = Σ_t ∂(Σ_r z_rc)/∂s_t.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from curvlinops import FisherType, KFACLinearOperator
from torch import Tensor

from kfac_ref.oracle import CapturedCase
from validation.peers import cases
from validation.peers.torch_shared import case, data, layers, loss, model

SAMPLES = {FisherType.TYPE2: 1, FisherType.EMPIRICAL: 1, FisherType.MC: 100}
MODELS = {
    "convolution": "categorical",
    "sequence, mean over positions": "categorical",
    "sequence, outputs at each position": "gaussian",
}


def factors(name: str, likelihood: str, fisher_type: FisherType, reduction: str, sharing: str) -> dict[str, Tensor]:
    """Its Kronecker factors, as it has them; layers count from 1."""
    of = model(name)
    kfac = KFACLinearOperator(
        of,
        loss(likelihood, reduction),
        list(of.parameters()),
        [data(name, likelihood)],
        fisher_type=fisher_type,
        mc_samples=SAMPLES[fisher_type],
        kfac_approx=sharing,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    kfac.compute_kronecker_factors()
    theirs: dict[str, Tensor] = {}
    for i, layer in enumerate(layers(of), 1):
        theirs |= {f"A_{i}": kfac._input_covariances[layer], f"G_{i}": kfac._gradient_covariances[layer]}
    return theirs


def found() -> Iterator[tuple[str, CapturedCase, dict[str, Tensor]]]:
    """Each model with each way to share weights, reduction of the loss, and Fisher."""
    for name, sharing, reduction, kind in product(MODELS, ("expand", "reduce"), ("mean", "sum"), SAMPLES):
        likelihood = MODELS[name]
        title = f"curvlinops K-FAC: {name}, {likelihood}, {sharing}, {reduction}, {kind.value}"
        yield title, case(name, likelihood), factors(name, likelihood, kind, reduction, sharing)


if __name__ == "__main__":
    cases.show(found())
