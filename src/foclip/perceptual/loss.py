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

from foclip.perceptual.fidelity import SSIM_DEVIATION, SSIM_WINDOW
from foclip.perceptual.flip import (
    COLOUR_POWER,
    FEATURE_POWER,
    KNEE_AT,
    KNEE_IS,
    OPPONENTS,
    SENSITIVITY,
    TRISTIMULUS,
    bell,
    correlated,
    deviation_of,
    feature_filters,
)
from foclip.perceptual.mask import KNEE, XYZ

#: The power of FLIP that stands for its worst places.
POWER = 4
#: Weights of the terms of V, and to which power each is taken.
WEIGHTS, EXPONENTS = (1.8, 1.0, 1.1), (1 / 2, 1.0, 1 / POWER)
#: Constants of SSIM for values in [0, 1].
C1, C2 = 0.01**2, 0.03**2
#: What is added below roots, whose slope at 0 is infinite: a hundredth of a just noticeable difference, squared.
LEAST = 1e-4


class PerceptualLoss:
    """V beside one original, of which everything that it alone decides is made once.

    A gradient takes about 500 bytes of memory for each pixel.

    Args:
        original: float (3, h, w) in [0, 1], sRGB.
        cell: Side in pixels of the squares of a larger picture whose means these are: the eye, and SSIM's window, are
            so much smaller.
    """

    def __init__(self, original: Tensor, cell: float = 1) -> None:
        self._original = original
        self._window = window = [bell(SSIM_DEVIATION / cell, math.ceil(SSIM_WINDOW // 2 / cell)).to(original)] * 2
        mean = _blur(original, *window)
        variance = (_blur(original.square(), *window) - mean.square()).clamp(min=0)
        self._structure, self._light = 1 / (2 * variance + C2), 1 / (2 * mean.square() + C1)
        self._square = _blur(self._structure, *window)
        self._eye = [
            [(share, bell(width / cell, math.ceil(3.3 * width / cell)).to(original)) for share, width in _bells(each)]
            for each in SENSITIVITY
        ]
        self._edge, self._point, self._across = (each.to(original) for each in feature_filters(cell))
        self._xyz, self._opponents, self._back = (
            torch.tensor(each).to(original) for each in (XYZ, OPPONENTS, TRISTIMULUS)
        )
        primaries = torch.eye(3)[1:, :, None, None].to(original)
        green, blue = (_hunt(torch.einsum("ij,jhw->ihw", self._xyz, each)) for each in primaries)
        self._most = float(_hyab(green - blue)) ** COLOUR_POWER
        self._colour, self._features = self._look(original)

    def gradient(self, picture: Tensor, memory: dict[str, Tensor]) -> Tensor:
        """The gradient of V, (3, h, w), with its slopes by the terms of the first picture, which `memory` keeps."""
        if "terms at first" not in memory:
            memory["terms at first"] = self.terms(picture)
        first = memory["terms at first"]
        exponents = first.new_tensor(EXPONENTS)
        slopes = first.new_tensor(WEIGHTS) * exponents * first.clamp(min=1e-12) ** (exponents - 1)
        with torch.enable_grad():
            leaf = picture.detach().requires_grad_(True)
            value = (self.terms(leaf) * slopes).sum()
        return torch.autograd.grad(value, leaf)[0]

    def terms(self, picture: Tensor) -> Tensor:
        """D, the mean of m, and that of its fourth power, float (3,), of a picture like the original."""
        change = picture - self._original
        around = _blur(change, *self._window).square()
        lost = self._square * change.square() + (self._light - self._structure) * around
        seen = self._flip(picture)
        return torch.stack([lost.mean(), seen.mean(), (seen**POWER).mean()])

    def _flip(self, picture: Tensor) -> Tensor:
        """FLIP's map, (h, W)."""
        colour, features = self._look(picture)
        difference = _power(_hyab(colour - self._colour), COLOUR_POWER)
        knee = KNEE_AT * self._most
        above = KNEE_IS + (difference - knee) * ((1 - KNEE_IS) / (self._most - knee))
        difference = torch.where(difference < knee, difference * (KNEE_IS / knee), above)
        come_or_gone = (features - self._features).abs().amax(dim=0) / math.sqrt(2)
        return _power(difference, 1 - (come_or_gone + LEAST).pow(FEATURE_POWER))

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
    """`correlated`, whose gradient is correlated with the filter turned round."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, taps: Tensor, dim: int) -> Tensor:
        ctx.taps, ctx.dim = taps, dim
        return correlated(values, taps, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        border = len(ctx.taps) - 1
        pad = (border, border) if ctx.dim == -1 else (0, 0, border, border)
        return correlated(F.pad(gradients[0], pad), ctx.taps.flip(0), ctx.dim), None, None


def _blur(values: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Filter (C, h, W) along both axes; borders go on."""
    y, x = len(down) // 2, len(across) // 2
    padded = F.pad(values[None], (x, x, y, y), mode="replicate")[0]
    return torch.as_tensor(_Filtered.apply(_Filtered.apply(padded, across, -1), down, -2))


def _bells(channel: tuple[tuple[float, float], ...]) -> Iterator[tuple[float, float]]:
    """Share and deviation in pixels of each bell of a contrast sensitivity function."""
    areas = [a * math.sqrt(b) for a, b in channel]  # of two-dimensional bells a √(π/b) e^(-π²r²/b), up to a factor
    for area, (_, b) in zip(areas, channel, strict=True):
        yield area / sum(areas), deviation_of(b)


def _power(base: Tensor, exponent: Tensor | float) -> Tensor:
    """Positive numbers to a power: unlike PyTorch's own, its gradient takes no further power."""
    return (base.log() * exponent).exp()


def _linear(levels: Tensor) -> Tensor:
    """Linear light of sRGB, both in [0, 1]."""
    low = levels <= 0.04045
    return torch.where(low, levels / 12.92, _power((levels.clamp(min=0.04) + 0.055) / 1.055, 2.4))


def _hunt(tristimulus: Tensor) -> Tensor:
    """CIELAB of XYZ relative to white, (3, h, W), its a* and b* less where it is dark (Hunt 1952)."""
    root = _power(tristimulus.clamp(min=KNEE**3), 1 / 3)
    x, y, z = torch.where(tristimulus > KNEE**3, root, tristimulus / (3 * KNEE**2) + 4 / 29)
    light = 116 * y - 16
    return torch.stack([light, 5 * light * (x - y), 2 * light * (y - z)])


def _hyab(difference: Tensor) -> Tensor:
    """City-block distance of light and colour, (h, W), a hair above 0."""
    return difference[0].abs() + (difference[1:].square().sum(dim=0) + LEAST**2).sqrt()
