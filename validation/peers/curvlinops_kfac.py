"""curvlinops' K-FAC: is it the Fisher's, on which scale, and where is the bias? Needs curvlinops-for-pytorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from curvlinops import FisherType, KFACLinearOperator
from torch import Tensor

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.torch_network import data, linears, loss, network

SAMPLES = {FisherType.TYPE2: 1, FisherType.EMPIRICAL: 1, FisherType.FORWARD_ONLY: 1, FisherType.MC: 100}


def factors(case: Case, fisher_type: FisherType, reduction: str, separate: bool) -> dict[str, Tensor]:
    """Its Kronecker factors, as it has them."""
    model = network(case)
    kfac = KFACLinearOperator(
        model,
        loss(case, reduction),
        list(model.parameters()),
        [data(case)],
        fisher_type=fisher_type,
        mc_samples=SAMPLES[fisher_type],
        separate_weight_and_bias=separate,
        check_deterministic=False,
    )
    kfac.compute_kronecker_factors()
    theirs: dict[str, Tensor] = {}
    for i, layer in enumerate(linears(model), 1):
        name = next(name for name, module in model.named_modules() if module is layer)
        theirs[f"A_{i - 1}"] = kfac._input_covariances[name]
        theirs[f"G_{i}"] = kfac._gradient_covariances[name]
        if separate:
            theirs[f"G_bias_{i}"] = kfac._gradient_covariances[name]
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """The conventions are those of a loss, so every loss is looked at."""
    for likelihood, reduction, kind in product(("categorical", "bernoulli", "gaussian"), ("mean", "sum"), SAMPLES):
        case = cases.case(likelihood)
        separate = kind is FisherType.EMPIRICAL  # one of them, to see where the bias goes
        title = f"curvlinops K-FAC: {likelihood}, {reduction}, {kind.value}, {'separate' if separate else 'joint'} bias"
        yield title, case, factors(case, kind, reduction, separate)


if __name__ == "__main__":
    cases.show(found())
