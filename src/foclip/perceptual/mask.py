r"""What the eye sees of a change: a metric of the original's own, and the mask that is its inverse.

A change δ of a pixel's three sRGB values is seen as :math:`\delta^T A \, \delta`, with

.. math:: A = \gamma \, \frac{J^T W^2 J}{\bar\sigma + c} + (1 - \gamma) \operatorname{diag} (\sigma_i^2 + c^2)^{-p}

where each of the two is divided by its mean over the picture first. The first is colour: J, the derivative of CIELAB by
sRGB at the original, holds luminance adaptation. W weighs L*, a* and b*: colour less than light, less where it is dark
(Hunt 1952), and blue against yellow less than red against green, of which the eye blurs less (Mullen 1985). Dividing by
the mean deviation is contrast masking (Legge and Foley 1980: a threshold grows with a power of contrast, here 1/2). The
second is structure: with p = 1 what SSIM loses by a small change of channel i where that has the deviation σ (Wang et
al. 2004), with c² half of its constant C₂. Deviations are minimum-filtered: the smooth side of an edge, where the eye
sees most, stays smooth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Weight of colour beside structure, γ, and the exponent of structure, p.
COLOUR, POWER = 0.39, 1.3
#: Contrast is measured in a bell-shaped window with a deviation of 2 pixels, a little wider than SSIM's, and the least
#: of 7 × 7 counts: both are made of sums, or minima, of values and of the same values so many pixels further.
WINDOW, SMOOTH = (3, 2, 1, 1, 1), (1, 2, 3)
#: Weights of L* and b* beside a*, and the share of L* below which a* and b* weigh no less.
LIGHT, BLUE, DARKEST = 2.0, 0.5, 0.2
#: Parts of a cell of an attack's mask at most, along each side.
FINEST = 4
#: The deviation that SSIM's constant C₂ = (0.03)² stands for, in [0, 1] units: contrast below it masks nothing.
#: Contrast above the second masks no more.
LEAST_CONTRAST, MOST_CONTRAST = 0.03 / 2**0.5, 0.06
#: sRGB (IEC 61966-2-1, linear) to CIE XYZ, relative to the white of sRGB.
XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0178, 0.1095, 0.8727))
#: CIELAB's linear part near black ends here.
KNEE = 6 / 29


@dataclass(frozen=True, eq=False)
class Mask:
    r"""Coordinates in which every change is seen alike.

    A change of the picture is M times its coordinates, :math:`M M^T = A^{-1}`, so gradient steps in coordinates move
    pixels where it is seen least. They are scaled: white noise in them changes the picture by as much.
    """

    factors: Tensor  #: M, upper triangular, (3, 3, H, W).

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


def visibility_mask(original: Tensor) -> Mask:
    """The mask of a picture, float (3, H, W) in [0, 1], sRGB, of any size: a function of nothing else."""
    return _mask(_freedom(_colour(original), _contrast(original)), is_gray(original))


def is_gray(original: Tensor) -> bool:
    """Whether a picture (3, H, W) has no colour anywhere."""
    return torch.equal(original[0], original[1]) and torch.equal(original[1], original[2])


def coarse_mask(original: Tensor, size: tuple[int, int], finest: int = FINEST) -> tuple[Mask, Tensor]:
    """The same for changes that are as coarse as the cells of a smaller picture.

    Along each side, at most `finest` parts of a cell are looked at; what is finer is averaged away first.

    A change of the original is the coarse one, made large, times a texture, (H, W), about 1 on average, that holds what
    is finer than a cell.
    """
    height, width = original.shape[1:]
    gray = is_gray(original)
    fine = (min(finest * size[0], height), min(finest * size[1], width))
    if fine != (height, width):
        original = F.adaptive_avg_pool2d(original, fine)
    colour = _colour(F.adaptive_avg_pool2d(original, size))
    freedom = _freedom(F.interpolate(colour, fine), _contrast(original))
    coarse = F.adaptive_avg_pool2d(freedom, size)
    strength, around = (each.diagonal().sum(dim=-1)[None, None] for each in (freedom, coarse))
    texture = strength / F.interpolate(around, fine, mode="bilinear")
    if fine != (height, width):
        texture = F.interpolate(texture, (height, width), mode="bilinear")
    return _mask(coarse, gray), texture[0, 0]


def _freedom(colour: Tensor, contrast: Tensor) -> Tensor:
    """The inverse of A, (3, 3, H, W), of Jᵀ W² J and the channels' deviations: how far a pixel moves unseen."""
    metric = colour / (contrast.mean(dim=0) + LEAST_CONTRAST)
    metric = metric / metric.diagonal().mean() * COLOUR
    structure = (contrast.square() + LEAST_CONTRAST**2) ** -POWER
    metric.diagonal().add_(structure.permute(1, 2, 0), alpha=float((1 - COLOUR) / structure.mean()))
    (a, b, c), (_, d, e), (_, _, f) = metric
    adjugate = [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b]
    inverse = torch.stack(adjugate) / (a * adjugate[0] + b * adjugate[1] + c * adjugate[2])
    return torch.as_tensor(inverse[[0, 1, 2, 1, 3, 4, 2, 4, 5]]).reshape(3, 3, *inverse.shape[1:])


def _mask(freedom: Tensor, gray: bool) -> Mask:
    """The mask whose M Mᵀ is this, up to a factor; of a gray picture, one that gives no colour to it."""
    factors = torch.zeros_like(freedom)
    if gray:
        factors[:, 2] = freedom.mean(dim=(0, 1)).sqrt()
        return Mask(factors / factors.square().sum(dim=1).mean().sqrt())
    factors[2, 2] = freedom[2, 2].sqrt()
    factors[:2, 2] = freedom[:2, 2] / factors[2, 2]
    factors[1, 1] = (freedom[1, 1] - factors[1, 2].square()).sqrt()
    factors[0, 1] = (freedom[0, 1] - factors[0, 2] * factors[1, 2]) / factors[1, 1]
    factors[0, 0] = (freedom[0, 0] - factors[0, 1].square() - factors[0, 2].square()).sqrt()
    return Mask(factors / factors.square().sum(dim=1).mean().sqrt())


def _colour(original: Tensor) -> Tensor:
    """What is seen of a change as colour where there is no contrast, Jᵀ W² J, (3, 3, H, W)."""
    jacobian, (lightness, _, _) = lab(original)
    hunt = (lightness / 100).clamp(min=DARKEST)
    weighted = jacobian * torch.stack([torch.full_like(hunt, LIGHT), hunt, BLUE * hunt])[:, None]
    return torch.einsum("kihw,kjhw->ijhw", weighted, weighted)


def _contrast(channels: Tensor) -> Tensor:
    """Standard deviation around each pixel of (C, H, W), minimum-filtered."""
    cells = 4 ** len(WINDOW)
    mean, square = (_around(values, WINDOW, torch.add) / cells for values in (channels, channels.square()))
    variance = _around(square - mean.square(), SMOOTH, torch.minimum)
    return variance.clamp(min=0, max=MOST_CONTRAST**2).sqrt()


def _around(values: Tensor, shifts: Sequence[int], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine values of (C, H, W) with those around them, in as many rounds as there are shifts; borders go on."""
    before, after = sum(shifts) // 2, sum(shifts) - sum(shifts) // 2
    for dim, border in ((-1, (before, after, 0, 0)), (-2, (0, 0, before, after))):
        values = F.pad(values[None], border, mode="replicate")[0]
        for shift in shifts:
            left = values.shape[dim] - shift
            values = combine(values.narrow(dim, 0, left), values.narrow(dim, shift, left))
    return values


def lab(original: Tensor) -> tuple[Tensor, Tensor]:
    """Derivative of L*, a*, b* by sRGB, (3, 3, H, W), of a picture in [0, 1], and L*, a*, b* themselves, (3, H, W)."""
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
    values = torch.stack([116 * response[1] - 16, 500 * (response[0] - response[1]), 200 * (response[1] - response[2])])
    return torch.stack([116 * y, 500 * (x - y), 200 * (y - z)]), values
