"""
Check your K-FAC
================

A K-FAC for PyTorch as one writes it in an afternoon; the oracle says what its factors are, and what is wrong with them.
"""

import torch
from torch import nn
from torch.nn import functional as F

from kfac_ref.oracle import capture, check

# %%
# Its factors come from hooks on convolutions and linear layers: inputs, and derivatives of a loss of sampled targets.


def my_kfac(model: nn.Sequential, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """A_i and G_i of layer i, counted from 1."""
    factors = {}
    for i, m in enumerate((m for m in model if isinstance(m, (nn.Conv2d, nn.Linear))), start=1):

        def seen(m: nn.Module, given: tuple[torch.Tensor], s: torch.Tensor, i: int = i) -> None:
            a, convolves = given[0], isinstance(m, nn.Conv2d)
            if convolves:
                a = F.unfold(a, m.kernel_size, padding=m.padding, stride=m.stride).transpose(1, 2).flatten(0, 1)
            a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
            factors[f"A_{i}"] = a.T @ a / len(a)

            def differentiated(g: torch.Tensor) -> None:
                g = g.flatten(2).transpose(1, 2).flatten(0, 1) if convolves else g
                factors[f"G_{i}"] = g.T @ g / len(g)

            s.register_hook(differentiated)

        m.register_forward_hook(seen)
    z = model(x)
    F.cross_entropy(z, torch.distributions.Categorical(logits=z).sample()).backward()
    return factors


# %%
# A model, in float64, and a batch.

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
model.double()
x, labels = torch.randn(40, 1, 6, 6, dtype=torch.float64), torch.randint(5, (40,))

# %%
# The check is three lines.

case = capture(model, x, labels, likelihood="categorical")
report = check(my_kfac(model, x), case)
print(report)

# %%
# The loss is a mean over N cases, so that each derivative has a factor 1/N too many, and G, a mean of their products,
# 1/N². And both factors of the convolution are means over its T = 36 locations, A as KFAC-expand has it and G as KFC
# has it, while their product is to be that of a sum: one of the two is to be multiplied by T.
