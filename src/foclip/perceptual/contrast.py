r"""How far a change is above the eye's threshold, at all scales together.

A picture is a stack of bands, each with half the detail of the one before (Laplacian pyramid, Burt and Adelson 1983),
of three opponents in cone responses: light, red against green, blue against yellow. In band k a change of the opponent
i is divided by the light around it to the power of 0.85, which makes it a contrast c, and is seen as

.. math:: d_{ik} = \frac{S_i(f_k) \, c_{ik}}{1 + (S_i(f_k) \, m_{ik})^{0.5}}, \qquad
    \text{contrast} = \Bigl\langle \sum_{ik} d_{ik}^3 + \Bigl(\frac{\Delta E}{4}\Bigr)^3 \Bigr\rangle^{1 / 3}

with the mean over pixels. S is the eye's sensitivity to contrast at the band's frequency: a log-parabola (Watson and
Ahumada 2005) that for light is highest at 4 cycles per degree (Campbell and Robson 1968) and for colours goes on to
the lowest frequencies (Mullen 1985). The exponent of light lies between Weber's law (1) and that of de Vries and Rose
(1/2): thresholds are a smaller part of the light where there is more of it. m is the contrast of the original there,
which masks a change; exponents are about those of Legge and Foley (1980) and, of the sum, of Robson and Graham (1981).
Bands are those of an eye at half of FLIP's distance.

ΔE is the difference of colours in CIELAB, with chroma weighed as CIE94 weighs it. Nothing masks it: a texture hides how
a colour varies, but not that there is another one.
"""

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.perceptual.flip import PIXELS_PER_DEGREE, linear
from foclip.perceptual.mask import KNEE, XYZ, lab

#: Viewing distance: from half of FLIP's, a pixel is twice as wide.
NEAR = PIXELS_PER_DEGREE / 2
#: Cone responses L, M and S of linear sRGB (primaries of Hunt, Pointer and Estévez, normalised to D65; rows are made to
#: sum to 1, so that white has 1 of each), and opponents of them: light, red against green, blue against yellow.
CONES = ((0.31399, 0.63951, 0.0465), (0.15537, 0.75789, 0.0867), (0.01775, 0.10944, 0.87257))
OPPONENTS = ((0.68, 0.32, 0.0), (1.0, -1.0, 0.0), (-0.68, -0.32, 1.0))
#: Sensitivity to each opponent on white: the highest, at which frequency (cycles per degree), and how many decades
#: below and above it is a tenth of that; colours are seen alike at all lower frequencies.
SENSITIVITY = ((200.0, 4.0, 1.0, 1.0), (200.0, 0.6, math.inf, 1.0), (100.0, 0.5, math.inf, 1.0))
#: The finest band is centred on this many cycles per pixel, each further one on half as many.
FINEST = 0.35
#: Light that a screen gives where it is black, and that falls on it: a share of white.
AMBIENT = 0.01
#: Exponents of what is seen, of masking, and of the light around.
POWER, MASKING, ADAPTATION = 3, 0.5, 0.85
#: The colour difference that counts as much as a contrast of 1 at every pixel, and how much less chroma counts for
#: each unit of the original's.
COLOUR, CHROMA = 4.0, 0.045
#: A picture with no more pixels along a side is one band. The three opponents of one with no more pixels than the
#: second number are computed together, which is faster; those of a larger one after each other, in less memory.
LEAST_SIDE, AT_ONCE = 4, 2**17
#: The power of colour differences that stands for the largest.
WORST_POWER = 4
#: Their weight in the loss, beside that of contrast.
WORST_SHARE = 0.65
#: Logarithms are taken of no less, and powers of a little more than a square.
LEAST = 1e-9


class Contrast:
    """Contrast of changes of one original, of which everything that it alone decides is made once.

    Args:
        original: uint8 or float in [0, 1], (3, h, w), sRGB; so are the pictures that are compared with it.
        cell: Side in pixels of the squares of a larger picture whose means these are.
    """

    def __init__(self, original: Tensor, cell: float = 1) -> None:
        cones = torch.tensor(CONES)
        opponents = (torch.tensor(OPPONENTS) @ (cones / cones.sum(dim=1, keepdim=True))).to(original.device)
        self._levels = linear(torch.arange(256, device=original.device) / 255)
        self._original, light = original, self._light(original)
        # Opponents of a small picture together, which is faster; those of a large one after each other.
        self._groups = [each.to(light) for each in torch.split(opponents, 3 if original[0].numel() <= AT_ONCE else 1)]
        around = [
            ((band if coarser is None else coarser)[0].clamp(min=0) + AMBIENT).pow_(ADAPTATION)
            for band, coarser in self._bands(light, opponents[:1].to(light))
        ]
        self._weights: list[list[Tensor]] = []
        for first, group in enumerate(self._groups):
            weights = []
            for k, (band, _) in enumerate(self._bands(light, group)):
                sensitivity = _sensitivity(NEAR / cell * FINEST / 2**k)[first : first + len(group)].to(light)
                weight = sensitivity[:, None, None] / around[k]
                masked = F.avg_pool2d(F.pad(band.mul_(weight).abs_()[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
                weights.append(weight.div_(masked.pow_(MASKING).add_(1)))
            self._weights.append(weights)

    def map(self, picture: Tensor) -> Tensor:
        """Σ d³ + (ΔE / 4)³ at every pixel, float (h, w). Colours are compared as means of 2 × 2 pixels."""
        bands: list[Tensor] = []
        for seen in self._seen(picture):
            bands = [a.add_(b) for a, b in zip(bands, seen, strict=True)] if bands else seen
        second = bands[min(1, len(bands) - 1)]
        before, after = self._colours, _lab(picture, second)
        change = (after - before).square_()
        change[1:] /= (1 + CHROMA * torch.hypot(before[1], before[2])).square_()
        second += (change.sum(dim=0) / COLOUR**2).pow_(POWER / 2)
        found = bands[-1]
        for band in reversed(bands[:-1]):
            found = band.add_(_enlarged(found, band))
        return found[0]

    def total(self, picture: Tensor) -> Tensor:
        """The mean of Σ d³ over pixels, as a scalar with a gradient."""
        return torch.stack([band.mean() for seen in self._seen(picture) for band in seen]).sum()

    def _seen(self, picture: Tensor) -> Iterator[list[Tensor]]:
        """Σ d³ of each group's opponents in every band, each (1, h, w)."""
        change = self._change(picture)
        for group, weights in zip(self._groups, self._weights, strict=True):
            yield [
                band.mul_(weight).abs_().pow(POWER).sum(dim=0, keepdim=True)
                for (band, _), weight in zip(self._bands(change, group), weights, strict=True)
            ]

    @cached_property
    def _colours(self) -> Tensor:
        """L*, a*, b* of the original, at the second band's size."""
        return _lab(self._original, self._weights[0][min(1, len(self._weights[0]) - 1)])

    def _change(self, picture: Tensor) -> Tensor:
        """The change of linear light, (3, h, w)."""
        if picture.is_floating_point():
            return linear(picture) - linear(self._original)
        change = self._light(picture)
        for channel, before in zip(change, self._original, strict=True):
            channel -= self._light(before[None])[0]
        return change

    def _light(self, picture: Tensor) -> Tensor:
        """Linear light, of the picture's shape."""
        if picture.is_floating_point():
            return linear(picture)
        light = self._levels.new_empty(picture.shape)
        for channel, levels in zip(light, picture, strict=True):  # an index has 4 bytes
            torch.index_select(self._levels, 0, levels.reshape(-1).int(), out=channel.view(-1))
        return light

    def _bands(self, light: Tensor, opponents: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Bands of some opponents (n, 3), (n, h, w), the finest first, and what is coarser; the last is the rest."""
        values = torch.einsum("ij,jhw->ihw", opponents, light)
        while min(values.shape[1:]) > LEAST_SIDE:
            smaller = _shrunk(values)
            coarser = _enlarged(smaller, values)
            band, values = values - coarser, smaller
            yield band, coarser
        yield values, None


class ContrastLoss:
    """How visible a change is, as something to descend on: V = 0.35 ln contrast + 0.65 ln E.

    Here contrast is that of the bands alone. E stands for the pixels whose colour changes most: CIELAB's differences,
    to first order in the change, with chroma weighed as CIE94 weighs it; the mean over pixels of their fourth power, to
    the power of 1/4.

    Args: as for `Contrast`.
    """

    def __init__(self, original: Tensor, cell: float = 1) -> None:
        self._original, self._contrast = original, Contrast(original, cell)
        self._jacobian, (_, a, b) = lab(original)
        self._jacobian[1:] /= 1 + CHROMA * torch.hypot(a, b)

    def gradient(self, picture: Tensor, memory: dict[str, Tensor]) -> Tensor:
        """The gradient of V, (3, h, w). It needs nothing from step to step, and leaves `memory` as it is."""
        with torch.enable_grad():
            leaf = picture.detach().requires_grad_(True)
            value = self.value(leaf)
        return torch.autograd.grad(value, leaf)[0]

    def value(self, picture: Tensor) -> Tensor:
        """V of a picture like the original, a scalar."""
        change = torch.einsum("kihw,ihw->khw", self._jacobian, picture - self._original)
        worst = change.square().sum(dim=0).add(LEAST).pow(WORST_POWER / 2).mean()
        seen = self._contrast.total(picture).clamp(min=LEAST)
        return (1 - WORST_SHARE) * seen.log() / POWER + WORST_SHARE * worst.log() / WORST_POWER


def pooled(values: npt.NDArray[np.float32]) -> float:
    """The contrast that some pixels of a map have together."""
    return float(values.mean(dtype=np.float64) ** (1 / POWER))


def _lab(picture: Tensor, like: Tensor) -> Tensor:
    """L*, a*, b* of a picture (3, h, w) that is made as small as another, channel by channel."""
    size = (like.shape[-2], like.shape[-1])
    means = [F.adaptive_avg_pool2d(channel[None].float(), size) for channel in picture]
    levels = torch.cat(means) if picture.is_floating_point() else torch.cat(means) / 255
    tristimulus = torch.einsum("ij,jhw->ihw", torch.tensor(XYZ).to(levels), linear(levels))
    straight = tristimulus / (3 * KNEE**2) + 4 / 29
    x, y, z = torch.where(tristimulus > KNEE**3, tristimulus.clamp(min=KNEE**3).pow(1 / 3), straight)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _sensitivity(frequency: float) -> Tensor:
    """Sensitivity to contrast at a frequency in cycles per degree, float (3,)."""
    found = []
    for most, at, below, above in SENSITIVITY:
        decades = math.log10(frequency / at)
        found.append(most * 10 ** -((decades / (below if decades < 0 else above)) ** 2))
    return torch.tensor(found)


def _shrunk(values: Tensor) -> Tensor:
    """Every other row and column of (C, h, w), blurred with (1, 4, 6, 4, 1) / 16; borders go on."""
    for dim, border in ((-2, (0, 0, 2, 2)), (-1, (2, 2, 0, 0))):
        left = 2 * ((values.shape[dim] + 1) // 2) - 1
        values = F.pad(values[None], border, mode="replicate")[0]
        a, b, c, d, e = (
            values[:, start : start + left : 2] if dim == -2 else values[..., start : start + left : 2]
            for start in range(5)
        )
        values = (a + e).add(b + d, alpha=4).add(c, alpha=6).div(16)
    return values


def _enlarged(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values[None], like.shape[1:], mode="bilinear")[0]
