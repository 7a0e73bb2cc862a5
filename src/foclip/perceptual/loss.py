r"""How visible a change is, as something to descend on: SSIM and FLIP as functions with a gradient.

.. math:: V = 1.8 \sqrt{D} + \langle m \rangle + 1.1 \, \langle m^4 \rangle^{1/4}

with the structure lost D, FLIP's map m, and means over pixels. The fourth power stands for the worst places: it is
smooth, and leaves no percentile beyond which anything goes. With the roots all three grow about alike with a change, so
the weights mean the same for a large change and for a small one. D is 1 - SSIM (Wang et al. 2004) to second order in
the change δ: where windows w have means μ and deviations σ,

.. math:: D = \left\langle \frac{w(\delta^2) - w(\delta)^2}{2 \sigma^2 + C_2}
    + \frac{w(\delta)^2}{2 \mu^2 + C_1} \right\rangle_w

m is FLIP in full (Andersson et al. 2020, equations 4 to 20): opponent colours in linear light, blurred as the eye blurs
them, compared in Hunt-adjusted CIELAB by the HyAB distance, and raised where edges or points come or go.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.models.banded import Block, multiply
from foclip.perceptual.fidelity import PIXELS_PER_DEGREE, strips
from foclip.perceptual.mask import KNEE, XYZ

#: The power of FLIP that stands for its worst places.
POWER = 4
#: Weights of the terms of V, and to which power each is taken.
WEIGHTS, EXPONENTS = (1.8, 1.0, 1.1), (1 / 2, 1.0, 1 / POWER)
#: Pixels of a strip, whose gradient takes about 500 bytes for each; and rows of a block of a filter's matrix.
STRIP, BLOCK = 2**18, 32
#: SSIM's window (deviation and radius in pixels), and its constants for values in [0, 1].
SSIM_DEVIATION, SSIM_RADIUS, C1, C2 = 1.5, 5, 0.01**2, 0.03**2
#: Contrast sensitivity of the eye for light, red against green, and blue against yellow (table 1 of the paper): sums of
#: bells a √(π/b) e^(-π²x²/b) with x in degrees.
SENSITIVITY = (((1.0, 0.0047),), ((1.0, 0.0053),), ((34.1, 0.04), (13.5, 0.025)))
#: Width of an edge or a point in degrees (section 4.3).
FEATURE = 0.082
#: FLIP's exponents of colour and features; which share of the largest colour difference makes which share of the map.
COLOUR_POWER, FEATURE_POWER, KNEE_AT, KNEE_IS = 0.7, 0.5, 0.4, 0.95
#: Linear opponents (light, red against green, blue against yellow) of CIE XYZ relative to white, and back.
OPPONENTS = ((0.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 1.0, -1.0))
TRISTIMULUS = ((1.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, -1.0))
#: What is added below roots, whose slope at 0 is infinite: a hundredth of a just noticeable difference, squared.
LEAST = 1e-4


class PerceptualLoss:
    """An original, float (3, H, W) in [0, 1], sRGB, looked at again and again: what is the original's is made once."""

    def __init__(self, original: Tensor) -> None:
        height, width = original.shape[1:]
        self._counts = original.new_tensor((original.numel(), height * width, height * width))
        self._strips = [(rows, _Strip(original[:, rows], inner)) for rows, inner in strips(height, width, STRIP)]

    def terms(self, picture: Tensor) -> Tensor:
        """D, the mean of m, and that of its fourth power, float (3,), of a picture like the original."""
        with torch.no_grad():
            sums = torch.stack([strip.sums(picture[:, rows]) for rows, strip in self._strips]).sum(dim=0)
        return sums / self._counts

    def gradient(self, picture: Tensor, first: Tensor) -> Tensor:
        """The gradient of V, (3, H, W), with its slopes by the terms `first`, of this picture or an earlier one."""
        total = torch.zeros_like(picture)
        exponents = first.new_tensor(EXPONENTS)
        slopes = first.new_tensor(WEIGHTS) * exponents * first.clamp(min=1e-12) ** (exponents - 1) / self._counts
        for rows, strip in self._strips:
            part = picture[:, rows].detach().requires_grad_(True)
            with torch.enable_grad():
                value = (strip.sums(part) * slopes).sum()
            total[:, rows] += torch.autograd.grad(value, part)[0]
        return total


class _Strip:
    """Some rows of an original, float (3, h, W), and those of them that count."""

    def __init__(self, original: Tensor, inner: slice) -> None:
        self._original, self._inner = original, inner
        self._window = window = [_bell(SSIM_DEVIATION, SSIM_RADIUS).to(original)] * 2
        mean = _blur(original, *window)
        variance = (_blur(original.square(), *window) - mean.square()).clamp(min=0)
        self._structure, self._light = 1 / (2 * variance + C2), 1 / (2 * mean.square() + C1)
        self._square = _blur(self._structure, *window)
        self._eye = [
            [(share, _bell(deviation, math.ceil(3.3 * deviation)).to(original)) for share, deviation in _bells(channel)]
            for channel in SENSITIVITY
        ]
        self._edge, self._point, self._across = (each.to(original) for each in _feature_filters())
        self._xyz, self._opponents, self._back = (
            torch.tensor(each).to(original) for each in (XYZ, OPPONENTS, TRISTIMULUS)
        )
        primaries = torch.eye(3)[1:, :, None, None].to(original)
        green, blue = (_hunt(torch.einsum("ij,jhw->ihw", self._xyz, each)) for each in primaries)
        self._most = float(_hyab(green - blue)) ** COLOUR_POWER
        self._colour, self._features = self._look(original)

    def sums(self, picture: Tensor) -> Tensor:
        """The terms of V, as sums over the rows that count, (3,)."""
        change = picture - self._original
        around = _blur(change, *self._window).square()
        lost = self._square * change.square() + (self._light - self._structure) * around
        seen = self._flip(picture)[self._inner]
        return torch.stack([lost[:, self._inner].sum(), seen.sum(), (seen**POWER).sum()])

    def _flip(self, picture: Tensor) -> Tensor:
        """FLIP's map, (h, W)."""
        colour, features = self._look(picture)
        difference = _hyab(colour - self._colour) ** COLOUR_POWER
        knee = KNEE_AT * self._most
        above = KNEE_IS + (difference - knee) * ((1 - KNEE_IS) / (self._most - knee))
        difference = torch.where(difference < knee, difference * (KNEE_IS / knee), above)
        come_or_gone = (features - self._features).abs().amax(dim=0) / math.sqrt(2)
        return difference ** (1 - (come_or_gone + LEAST).pow(FEATURE_POWER))

    def _look(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Colours as the eye blurs them, in Hunt-adjusted CIELAB (3, h, W), and how strong edges and points are."""
        tristimulus = torch.einsum("ij,jhw->ihw", self._xyz, _linear(picture))
        opponents = torch.einsum("ij,jhw->ihw", self._opponents, tristimulus)
        blurred = [
            torch.stack([share * _blur(channel[None], bell, bell) for share, bell in bells]).sum(dim=0)
            for channel, bells in zip(opponents, self._eye, strict=True)
        ]
        colour = _hunt(torch.einsum("ij,jhw->ihw", self._back, torch.cat(blurred)))
        light = opponents[:1]
        features = [
            _blur(light, each, self._across).square() + _blur(light, self._across, each).square()
            for each in (self._edge, self._point)
        ]
        return colour, (torch.cat(features) + LEAST**2).sqrt()


class _Filtered(torch.autograd.Function):
    """Correlation with a filter along one axis, without borders: banded products are faster than convolutions."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, taps: Tensor, dim: int) -> Tensor:
        ctx.taps, ctx.dim = taps, dim
        return _correlated(values, taps, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        border = len(ctx.taps) - 1
        pad = (border, border) if ctx.dim == -1 else (0, 0, border, border)
        return _correlated(F.pad(gradients[0], pad), ctx.taps.flip(0), ctx.dim), None, None


def _correlated(values: Tensor, taps: Tensor, dim: int) -> Tensor:
    border = len(taps) - 1
    band = F.pad(taps, (0, BLOCK)).repeat(BLOCK)[: BLOCK * (BLOCK + border)].view(BLOCK, BLOCK + border)
    cells = values.shape[dim] - border
    counts = [(first, min(BLOCK, cells - first)) for first in range(0, cells, BLOCK)]
    matrix = tuple(Block(band[:count, : count + border], first, first + count + border) for first, count in counts)
    return multiply(values, matrix, dim)


def _blur(values: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Filter (C, h, W) along both axes; borders go on."""
    y, x = len(down) // 2, len(across) // 2
    padded = F.pad(values[None], (x, x, y, y), mode="replicate")[0]
    return torch.as_tensor(_Filtered.apply(_Filtered.apply(padded, across, -1), down, -2))


def _bell(deviation: float, radius: int) -> Tensor:
    bell = torch.exp(-torch.arange(-radius, radius + 1).square() / (2 * deviation**2))
    return bell / bell.sum()


def _bells(channel: tuple[tuple[float, float], ...]) -> Iterator[tuple[float, float]]:
    """Share and deviation in pixels of each bell of a contrast sensitivity function."""
    areas = [a * math.sqrt(b) for a, b in channel]  # of two-dimensional bells a √(π/b) e^(-π²r²/b), up to a factor
    for area, (_, b) in zip(areas, channel, strict=True):
        yield area / sum(areas), math.sqrt(b / 2) / math.pi * PIXELS_PER_DEGREE


def _feature_filters() -> tuple[Tensor, Tensor, Tensor]:
    """First and second derivative of a bell, and the bell across: positive weights of their products sum to 1 each."""
    deviation = 0.5 * FEATURE * PIXELS_PER_DEGREE
    radius = math.ceil(3 * deviation)
    places = torch.arange(-radius, radius + 1)
    bell = torch.exp(-places.square() / (2 * deviation**2))
    edge, point = -places * bell, (places.square() / deviation**2 - 1) * bell
    above, below = point.clamp(min=0), point.clamp(max=0)
    return edge / edge.clamp(min=0).sum(), above / above.sum() - below / below.sum(), bell / bell.sum()


def _linear(levels: Tensor) -> Tensor:
    """Linear light of sRGB."""
    low = levels <= 0.04045
    return torch.where(low, levels / 12.92, ((levels.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)


def _hunt(tristimulus: Tensor) -> Tensor:
    """CIELAB of XYZ relative to white, (3, h, W), its a* and b* less where it is dark (Hunt 1952)."""
    root = tristimulus.clamp(min=KNEE**3) ** (1 / 3)
    x, y, z = torch.where(tristimulus > KNEE**3, root, tristimulus / (3 * KNEE**2) + 4 / 29)
    light = 116 * y - 16
    return torch.stack([light, 5 * light * (x - y), 2 * light * (y - z)])


def _hyab(difference: Tensor) -> Tensor:
    """City-block distance of light and colour, (h, W), a hair above 0."""
    return difference[0].abs() + (difference[1:].square().sum(dim=0) + LEAST**2).sqrt()
