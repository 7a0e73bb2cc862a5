r"""The inner attack of training: pictures perturbed as far as their budget allows.

Projected gradient ascent within a Euclidean ball (Madry et al. 2018) raises the cosine of each picture's embedding with
a direction of its own:

.. math:: \max_{\lVert\delta\rVert \le r} \cos(E(x + \delta), d)

If :math:`d` is a text, this is what attackers of a score do. If :math:`d = -E_0(x)`, it is FARE's largest distance from
the original embedding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

#: Unit vectors (B, D) of pictures (B, 3, H, W) in [0, 1], differentiably.
Encode = Callable[[Tensor], Tensor]


def random_start(pictures: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """A change in a random direction, of random size within the radius (B,) of each picture."""
    noise = torch.randn(pictures.shape, generator=generator, device=generator.device).to(pictures.device)
    share = torch.rand(len(pictures), generator=generator, device=generator.device).to(pictures.device)
    return noise * (share * radius / _norms(noise)).view(-1, 1, 1, 1)


def perturb(encode: Encode, pictures: Tensor, directions: Tensor, radius: Tensor, start: Tensor, steps: int) -> Tensor:
    """Push pictures towards directions.

    Args:
        encode: The encoder to fool.
        pictures: (B, 3, H, W) in [0, 1].
        directions: (B, D), direction that each is pushed in.
        radius: (B,), largest Euclidean norm of each change.
        start: (B, 3, H, W), the first change.
        steps: Gradient steps.

    Returns:
        Perturbed pictures in [0, 1], without a gradient.
    """
    change = start
    length = radius * min(1.0, 1.5 / steps)  # a single step may cross the ball, several steps are shorter
    for _ in range(steps):
        change = change.detach().requires_grad_(True)
        value = (encode((pictures + change).clamp(0, 1)) * directions).sum()
        (gradient,) = torch.autograd.grad(value, change)
        with torch.no_grad():
            change = change + gradient * (length / _norms(gradient)).view(-1, 1, 1, 1)
            change = change * (radius / _norms(change)).clamp(max=1).view(-1, 1, 1, 1)
    return (pictures + change.detach()).clamp(0, 1)


def _norms(values: Tensor) -> Tensor:
    return torch.as_tensor(torch.linalg.vector_norm(values.flatten(1), dim=1).clamp(min=1e-20))
