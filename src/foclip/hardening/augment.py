"""Crops, flips and sharpness: what training does to a batch before anyone perturbs it.

Original and twin see the same picture, so nothing here has to leave its
meaning alone; it only has to look like the pictures that will be scored.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Smallest share of the side that a crop keeps.
LEAST_SIDE = 0.65
#: Largest multiple of the side that is shown, of pictures that were enlarged.
MOST_SIDE = 2.0
#: Largest change of the aspect ratio by a crop (natural logarithm).
ASPECT = 0.3
#: Largest amount of unsharp masking; half of the pictures get some.
SHARPEN = 1.0


def augment(levels: Tensor, enlarged: Tensor, generator: torch.Generator) -> Tensor:
    """Random views of pictures.

    A picture that had to be enlarged to the model's size has no fine detail, and a tower
    hardened on such pictures is soft on photographs. So it is also shown as small as it
    was, its border mirrored, which brings all of its detail to the finest scale.

    Args:
        levels: uint8 (B, 3, H, W).
        enlarged: (B,), at least 1: by what factor each was enlarged.
        generator: On the CPU; all draws come from it.

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
