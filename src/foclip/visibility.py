r"""What the eye sees of a change: a metric of the original's own, and the mask that is its inverse.

A change δ of a pixel's three sRGB values is seen as :math:`\delta^T A \, \delta`, with

.. math:: A = \gamma \, \frac{J^T W^2 J}{\sigma_y + c} + (1 - \gamma) \operatorname{diag} \frac{1}{\sigma_i^2 + c^2}

where each of the two is divided by its mean over the picture first.

The first is colour. J is the derivative of CIELAB by sRGB at the original and holds luminance adaptation, since L* is
about as uneven in levels as the eye is. W weighs L*, a* and b*: colour less where it is dark (Hunt 1952; so does
FLIP, Andersson et al. 2020), and blue against yellow less than red against green, of which the eye blurs less
(Mullen 1985). Dividing by the deviation of luma is contrast masking (Legge and Foley 1980: a threshold grows with a
power of contrast, here one half).

The second is structure: what SSIM loses by a small change of channel i where that has the deviation σ (Wang et al.
2004), with c² half of its constant C₂.

Deviations are those of a window, minimum-filtered: the smooth side of an edge stays smooth, where the eye sees most.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Weight of colour beside structure.
COLOUR = 0.35
#: Pixels of the window in which contrast is measured, and of the minimum filter over it.
WINDOW, SMOOTH = 9, 3
#: Weight of b* beside a*, and the share of L* below which both weigh no less.
BLUE, DARKEST = 0.67, 0.4
#: Cells of the original per cell of a mask at most, along each side: what is finer is averaged away first.
FINEST = 4
#: The deviation that SSIM's constant C₂ = (0.03)² stands for, in [0, 1] units: contrast below it masks nothing.
LEAST_CONTRAST = 0.03 / 2**0.5
#: Contrast above this masks no more.
MOST_CONTRAST = 0.06

#: sRGB (IEC 61966-2-1, linear) to CIE XYZ, relative to the white of sRGB.
XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0178, 0.1095, 0.8727))
#: CIELAB's linear part near black ends here.
KNEE = 6 / 29


class Mask:
    r"""Coordinates in which every change is seen alike.

    A change of the picture is M times its coordinates, :math:`M M^T = A^{-1}`, so gradient steps in coordinates move
    pixels where it is seen least. They are scaled: white noise in them changes the picture by as much.

    Attributes:
        factors: M, upper triangular, (3, 3, H, W).
    """

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors

    def push(self, coordinates: Tensor) -> Tensor:
        """The change (3, H, W) of the picture that coordinates stand for."""
        change = self.factors.diagonal().permute(2, 0, 1) * coordinates
        for i, j in ((0, 1), (0, 2), (1, 2)):
            change[i].addcmul_(self.factors[i, j], coordinates[j])
        return change

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to coordinates of one with respect to the picture."""
        pulled = self.factors.diagonal().permute(2, 0, 1) * gradient
        for i, j in ((0, 1), (0, 2), (1, 2)):
            pulled[j].addcmul_(self.factors[i, j], gradient[i])
        return pulled

    def seen(self, change: Tensor) -> Tensor:
        """The coordinates of a change, differentiably."""
        m = self.factors
        blue = change[2] / m[2, 2]
        green = (change[1] - m[1, 2] * blue) / m[1, 1]
        red = (change[0] - m[0, 1] * green - m[0, 2] * blue) / m[0, 0]
        return torch.stack([red, green, blue])


def visible(original: Tensor, size: tuple[int, int] | None = None) -> Mask:
    """The mask of a picture, a function of nothing else.

    Args:
        original: float (3, H, W) in [0, 1], sRGB, of any size.
        size: Rows and columns of the mask; each of its cells has the mean of the metric over its part of the picture.
    """
    if size is not None:
        height, width = (min(FINEST * cells, length) for cells, length in zip(size, original.shape[1:], strict=True))
        original = F.adaptive_avg_pool2d(original, (height, width))
    metric = COLOUR * _unit(_colour(original)) + (1 - COLOUR) * _unit(_structure(original))
    if size is not None:
        metric = F.adaptive_avg_pool2d(metric, size)
    lower = torch.linalg.cholesky(metric.permute(2, 3, 0, 1))
    inverse = torch.linalg.solve_triangular(lower, torch.eye(3).to(lower), upper=False)
    factors = inverse.permute(3, 2, 0, 1).contiguous()  # M is the transpose of the inverse of A's Cholesky factor
    return Mask(factors / factors.square().sum(dim=1).mean().sqrt())


def _colour(original: Tensor) -> Tensor:
    """What is seen of a change as colour, (3, 3, H, W)."""
    jacobian, lightness = _lab(original)
    hunt = (lightness / 100).clamp(min=DARKEST)
    weighted = jacobian * torch.stack([torch.ones_like(hunt), hunt, BLUE * hunt])[:, None]
    luma = 0.299 * original[0] + 0.587 * original[1] + 0.114 * original[2]
    contrast = _contrast(luma[None])[0] + LEAST_CONTRAST
    return torch.einsum("kihw,kjhw->ijhw", weighted, weighted) / contrast


def _structure(original: Tensor) -> Tensor:
    """What SSIM loses by a change, (3, 3, H, W)."""
    lost = 1 / (_contrast(original).square() + LEAST_CONTRAST**2)
    return torch.diag_embed(lost.permute(1, 2, 0)).permute(2, 3, 0, 1)


def _unit(metric: Tensor) -> Tensor:
    return metric / metric.diagonal().mean()


def _contrast(channels: Tensor) -> Tensor:
    """Standard deviation around each pixel of (C, H, W), minimum-filtered."""

    def blurred(values: Tensor) -> Tensor:
        return F.avg_pool2d(values[None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[0]

    deviation = (blurred(channels.square()) - blurred(channels).square()).clamp(min=0).sqrt()
    least = -F.max_pool2d(-deviation[None], SMOOTH, 1, SMOOTH // 2)[0]
    return least.clamp(max=MOST_CONTRAST)


def _lab(original: Tensor) -> tuple[Tensor, Tensor]:
    """Derivative of L*, a*, b* by sRGB, (3, 3, H, W), and L* itself, (H, W), in 0..100."""
    bent = (original + 0.055) / 1.055
    low = original <= 0.04045
    linear = torch.where(low, original / 12.92, bent**2.4)
    slope = torch.where(low, 1 / 12.92, 2.4 / 1.055 * bent**1.4)
    matrix = torch.tensor(XYZ).to(original)
    tristimulus = torch.einsum("ij,jhw->ihw", matrix, linear)
    above = tristimulus > KNEE**3
    root = tristimulus.clamp(min=KNEE**3) ** (1 / 3)
    response = torch.where(above, root, tristimulus / (3 * KNEE**2) + 4 / 29)
    by_rgb = (1 / (3 * root.square()))[:, None] * matrix[:, :, None, None] * slope
    x, y, z = by_rgb
    return torch.stack([116 * y, 500 * (x - y), 200 * (y - z)]), 116 * response[1] - 16
