"""laplace-torch's Kronecker factors of the posterior's precision: on which scale? Needs laplace-torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from laplace import KronLaplace
from laplace.curvature import CurvlinopsEF, CurvlinopsGGN
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from kfac_ref.oracle import Case
from validation.peers import cases
from validation.peers.torch_network import data, network

BACKENDS = {"generalised Gauss-Newton": CurvlinopsGGN, "empirical Fisher": CurvlinopsEF}
KINDS = {"categorical": "classification", "gaussian": "regression"}


def factors(case: Case, backend: str) -> dict[str, Tensor]:
    """Its factors, G before A, with weights and biases apart."""
    posterior = KronLaplace(network(case), KINDS[case.network.likelihood.name], backend=BACKENDS[backend])
    posterior.fit(DataLoader(TensorDataset(*data(case)), batch_size=cases.CASES))
    theirs: dict[str, Tensor] = {}
    blocks = iter(posterior.H_facs.kfacs)
    for i, ((G, A), (G_bias,)) in enumerate(zip(blocks, blocks, strict=True)):
        theirs |= {f"A_{i}": A, f"G_{i + 1}": G, f"G_bias_{i + 1}": G_bias}
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, Tensor]]]:
    """Each likelihood with each of two backends."""
    for likelihood, backend in product(KINDS, BACKENDS):
        case = cases.case(likelihood)
        yield f"laplace-torch factors: {likelihood}, {backend}", case, factors(case, backend)


if __name__ == "__main__":
    cases.show(found())
