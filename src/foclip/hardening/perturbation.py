"""What training makes of a batch: random views (crops, flips, sharpness), and then the inner attack."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: Smallest share of the side that a crop keeps.
LEAST_SIDE = 0.65
#: Pictures that were enlarged are also shown smaller, with up to this multiple of the side in view.
MOST_SIDE = 2.0
#: Largest change of the aspect ratio by a crop (natural logarithm).
ASPECT = 0.3
#: Largest amount of unsharp masking. Half of the pictures are sharpened.
SHARPEN = 1.0

#: Unit vectors (B, D) of pictures (B, 3, H, W) in [0, 1], differentiably.
Encode = Callable[[Tensor], Tensor]


def augment(levels: Tensor, enlarged: Tensor, generator: torch.Generator) -> Tensor:
    """Random views of pictures.

    The original and the trained encoder see the same view, so it may change what the picture shows. It only has to
    resemble the pictures that will be scored. A picture that was enlarged to the model's size has no fine detail, and a
    tower that is hardened on such pictures alone is easy to fool on photographs. So it is also shown at its original
    size with a mirrored border, where all of its detail is at the finest scale.

    Args:
        levels: uint8 (B, 3, H, W).
        enlarged: (B,), factor by which each was enlarged, at least 1.
        generator: Source of all random choices, on the CPU.

    Returns:
        float32 (B, 3, H, W) in [0, 1], on the device of `levels`.
    """
    pixels = levels.float() / 255
    n = len(pixels)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    largest = enlarged.clamp(1, MOST_SIDE).log()
    zoom = torch.exp(math.log(LEAST_SIDE) + draw(0, 1) * (largest - math.log(LEAST_SIDE)))
    stretch = draw(-ASPECT / 2, ASPECT / 2).exp()
    width, height = zoom * stretch, zoom / stretch
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = width * torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = draw(-1, 1) * (1 - width).abs()
    theta[:, 1, 2] = draw(-1, 1) * (1 - height).abs()
    amount = draw(-SHARPEN, SHARPEN).clamp(min=0).view(n, 1, 1, 1)
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    blurred = F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    return torch.lerp(blurred, pixels, 1 + amount.to(pixels.device)).clamp(0, 1)


def random_start(pictures: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """A change in a random direction, of random size within the radius (B,) of each picture."""
    noise = torch.randn(pictures.shape, generator=generator, device=generator.device).to(pictures.device)
    share = torch.rand(len(pictures), generator=generator, device=generator.device).to(pictures.device)
    return noise * (share * radius / _norms(noise)).view(-1, 1, 1, 1)


def perturb(encode: Encode, pictures: Tensor, directions: Tensor, radius: Tensor, start: Tensor, steps: int) -> Tensor:
    r"""Push pictures towards directions, by projected gradient ascent within a Euclidean ball (Madry et al. 2018).

    .. math:: \max_{\lVert\delta\rVert \le r} \cos(E(x + \delta), d)

    If :math:`d` is a text, this is what attackers of a score do. If :math:`d = -E_0(x)`, it is FARE's largest distance
    from the original embedding.

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
