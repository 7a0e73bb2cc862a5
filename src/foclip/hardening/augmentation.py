"""Random crops, flips and sharpness: how training varies a batch before it is perturbed.

The original and the trained encoder see the same picture, so a variation may change what the picture shows. It only has
to resemble the pictures that will be scored.
"""

import math

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


def augment(levels: Tensor, enlarged: Tensor, generator: torch.Generator) -> Tensor:
    """Random views of pictures.

    A picture that was enlarged to the model's size has no fine detail, and a tower that is hardened on such pictures
    alone is easy to fool on photographs. So it is also shown at its original size with a mirrored border, where all of
    its detail is at the finest scale.

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
