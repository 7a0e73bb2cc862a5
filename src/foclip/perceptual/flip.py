r"""FLIP, which says how much of a difference one sees who flips between two pictures of one size.

"FLIP: A Difference Evaluator for Alternating Images" (Andersson et al. 2020, equations 4 to 20) in PyTorch, for low
dynamic range, with the numbers of the authors' own program, `flip_evaluator` 1.7, to 1e-4 in every pixel. For an
original that is compared again and again: all that depends on it alone is made once. Opponent colours in linear light
are blurred as the eye blurs them and compared in Hunt-adjusted CIELAB by the HyAB distance; that is raised where edges
or points of the lightness come or go.

Filters are bells, or products of a bell and its derivatives, so they run along columns and rows one after the other.
They, the constants and the colours are also those of the FLIP with a gradient in `foclip.perceptual.loss`.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.models.resize import Block, multiply
from foclip.perceptual.mask import KNEE

#: Viewing distance, FLIP's own: 0.7 m from a monitor 0.7 m wide with 3840 pixels across, each shown as it is.
PIXELS_PER_DEGREE = 67.0
#: Contrast sensitivity of the eye for light, red against green, and blue against yellow (table 1): sums of bells
#: a √(π/b) e^(-π²x²/b) with x in degrees.
SENSITIVITY = (((1.0, 0.0047),), ((1.0, 0.0053),), ((34.1, 0.04), (13.5, 0.025)))
#: Width of an edge or a point in degrees (section 4.3).
FEATURE = 0.082
#: Exponents of colour and features; which share of the largest colour difference makes which share of the map.
COLOUR_POWER, FEATURE_POWER, KNEE_AT, KNEE_IS = 0.7, 0.5, 0.4, 0.95
#: Linear opponents (light, red against green, blue against yellow) of CIE XYZ relative to white, and back.
OPPONENTS = ((0.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 1.0, -1.0))
TRISTIMULUS = ((1.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, -1.0))
#: CIE XYZ of the primaries of sRGB; only their proportions count, since white is made 1.
PRIMARIES = ((10135552, 8788810, 4435075), (2613072, 8788810, 887015), (1425312, 8788810, 70074185))
#: What rounding leaves of the sums of the authors' filters for edges and points, which are 0. It is a share of the
#: light, and seen where one flat colour takes the place of another: there, features are a root of nothing else.
RESIDUE = (-1.33e-7, 1.19e-7)
#: Taps below this share of the largest are left out.
LEAST_TAP = 1e-9
#: Pixels of a strip: it takes about 150 bytes for each.
STRIP = 2**18
#: Cells of a block of a filter's matrix.
BLOCK = 32


def deviation_of(b: float) -> float:
    """Deviation in pixels of a bell e^(-π²x²/b) with x in degrees."""
    return math.sqrt(b / 2) / math.pi * PIXELS_PER_DEGREE


#: Rows and columns around a pixel that its value depends on: three deviations of the widest bell.
REACH = math.ceil(3 * max(deviation_of(b) for channel in SENSITIVITY for _, b in channel))


class Flip:
    """An original that pictures are compared with. It keeps five floats a pixel.

    Args:
        original: uint8 (3, H, W), sRGB.
        cell: Side in pixels of the squares of a larger picture whose means these are.
    """

    def __init__(self, original: Tensor, cell: float = 1) -> None:
        self._original = original
        self._eye = _Eye(original.device, cell)
        height, width = original.shape[1:]
        step = max(2 * REACH, STRIP // width)
        self._strips = [(first, min(first + step, height)) for first in range(0, height, step)]
        self._kept = self._of_strips(lambda place: self._eye.look(self._rows(original, place)))

    def map(self, picture: Tensor) -> Tensor:
        """What is seen of the difference at each pixel, float (H, W) in [0, 1].

        Args:
            picture: uint8, of the original's size and device.
        """
        found = torch.zeros(picture.shape[1:], device=picture.device)
        changed = (picture != self._original).any(dim=0)
        if columns := changed.any(dim=0).nonzero().flatten().tolist():
            across = slice(max(0, columns[0] - REACH), columns[-1] + 1 + REACH)
            rows = changed.any(dim=1)
            self._of_strips(lambda place: self._compare(picture, place, across, rows, found))
        return found

    def _compare(self, picture: Tensor, place: int, across: slice, changed: Tensor, found: Tensor) -> None:
        """Write a strip of a map of zeros, which it stays beyond these columns and where no row in reach is changed."""
        first, last = self._strips[place]
        if changed[max(0, first - REACH) : last + REACH].any():
            seen = self._eye.look(self._rows(picture, place, across))
            found[first:last, across] = self._eye.difference(seen, self._kept[place][..., across])

    def _rows(self, levels: Tensor, place: int, across: slice = slice(None)) -> Tensor:
        """Columns of a strip with all that is within reach, (3, h + 2 `REACH`, w + 2 `REACH`); borders go on."""
        (first, last), (left, right, _) = self._strips[place], across.indices(levels.shape[2])
        rows, columns = (
            torch.arange(start - REACH, stop + REACH, device=levels.device).clamp(0, size - 1)
            for start, stop, size in ((first, last, levels.shape[1]), (left, right, levels.shape[2]))
        )
        return levels.index_select(1, rows).index_select(2, columns).int()

    def _of_strips(self, work: Callable[[int], Any]) -> list[Any]:
        """What a function makes of each strip. No product is shared by threads: that could round it otherwise."""
        threads, places = torch.get_num_threads(), range(len(self._strips))
        if threads == 1 or self._original.is_cuda:
            return [work(place) for place in places]
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return list(pool.map(work, places))
        finally:
            torch.set_num_threads(threads)  # also of threads that start from here on


class _Eye:
    """Filters and matrices, and what is seen with them."""

    def __init__(self, device: torch.device, cell: float) -> None:
        weights = torch.tensor(PRIMARIES, dtype=torch.float64)
        xyz = weights / weights.sum(dim=1, keepdim=True)
        opponents, tristimulus = (torch.tensor(each, dtype=torch.float64) for each in (OPPONENTS, TRISTIMULUS))
        matrices = xyz, opponents @ xyz, tristimulus, torch.linalg.inv(xyz) @ tristimulus
        self._xyz, self._opponents, self._tristimulus, self._rgb = (each.float().to(device) for each in matrices)
        self._light = linear(torch.arange(256, device=device) / 255)
        self._bells = [[taps.to(device) for taps in _sensitivity(channel, cell)] for channel in SENSITIVITY]
        *features, across = feature_filters(cell)
        features = [taps - (taps.sum() - rest) * across for taps, rest in zip(features, RESIDUE, strict=True)]
        self._edge, self._point, self._across = (taps.to(device) for taps in (*features, across))
        green, blue = _lab(self._xyz[:, 1:].clone()).T
        self._most = float(_hyab(green - blue)) ** COLOUR_POWER

    def look(self, levels: Tensor) -> Tensor:
        """Colours as the eye sees them, a*, L* and b*, and how strong edges and points are, (5, h, W).

        Args:
            levels: int32 (3, h + 2 `REACH`, W + 2 `REACH`).
        """
        light = self._light.index_select(0, levels.view(-1)).view(3, -1)
        opponents = (self._opponents @ light).view(levels.shape)
        seen = light.new_empty(5, levels.shape[1] - 2 * REACH, levels.shape[2] - 2 * REACH)
        for channel, values, bells in zip(seen[:3], opponents, self._bells, strict=True):
            channel.copy_(_filtered(values, bells[0]))
            for taps in bells[1:]:
                channel += _filtered(values, taps)
        colours = seen[:3].view(3, -1)
        rgb = self._rgb @ colours
        beyond = rgb.clamp(0, 1).sub_(rgb)  # what blurring moved out of sRGB
        torch.addmm(self._tristimulus @ colours, self._xyz, beyond, out=colours)
        _lab(colours)
        lightness = _cut(opponents[0], self._across)
        across = correlated(lightness, self._across, -1)
        for feature, taps in zip(seen[3:], (self._edge, self._point), strict=True):
            down = correlated(across, taps, -2)
            torch.square(correlated(correlated(lightness, taps, -1), self._across, -2), out=feature)
            feature.addcmul_(down, down).sqrt_()
        return seen

    def difference(self, seen: Tensor, original: Tensor) -> Tensor:
        """The map (h, W) of what is seen of a picture, (5, h, W), which is overwritten, and of its original."""
        seen -= original
        knee = KNEE_AT * self._most
        colour = _hyab(seen[:3]).log_().mul_(COLOUR_POWER).exp_()
        above = (colour - knee).mul_((1 - KNEE_IS) / (self._most - knee)).add_(KNEE_IS)
        colour = torch.minimum(colour.mul_(KNEE_IS / knee), above)  # the second is less steep
        come_or_gone = seen[3:].abs_().amax(dim=0).mul_(0.5**0.5).pow_(FEATURE_POWER)
        return colour.log_().mul_(come_or_gone.neg_().add_(1)).exp_()


def correlated(values: Tensor, taps: Tensor, dim: int) -> Tensor:
    """Correlation of (…, h, W) with a filter along `dim` (-1 or -2), without borders, as products with a matrix.

    That is faster than PyTorch's convolutions.
    """
    border = len(taps) - 1
    band = F.pad(taps, (0, BLOCK)).repeat(BLOCK)[: BLOCK * (BLOCK + border)].view(BLOCK, BLOCK + border)
    cells = values.shape[dim] - border
    if dim == -1:
        lines = values.reshape(-1, values.shape[-1])
        result = values.new_empty(len(lines), cells)
        whole = cells - cells % BLOCK
        if whole:
            windows = lines[:, : whole + border].unfold(1, BLOCK + border, BLOCK).transpose(0, 1)
            result[:, :whole] = (windows @ band.T).transpose(0, 1).reshape(len(lines), whole)
        if whole < cells:
            rest = cells - whole
            torch.mm(lines[:, whole:], band[:rest, : rest + border].T, out=result[:, whole:])
        return result.view(*values.shape[:-1], cells)
    counts = [(first, min(BLOCK, cells - first)) for first in range(0, cells, BLOCK)]
    matrix = tuple(Block(band[:count, : count + border], first, first + count + border) for first, count in counts)
    return multiply(values, matrix, dim)


def bell(deviation: float, radius: int) -> Tensor:
    """A bell-shaped filter whose taps sum to 1."""
    taps = torch.exp(-torch.arange(-radius, radius + 1).square() / (2 * deviation**2))
    return taps / taps.sum()


def feature_filters(cell: float = 1) -> tuple[Tensor, Tensor, Tensor]:
    """First and second derivative of a bell, and the bell across, for pixels that are `cell` pixels wide.

    Positive weights of their products sum to 1 each.
    """
    deviation = 0.5 * FEATURE * PIXELS_PER_DEGREE / cell
    radius = math.ceil(3 * deviation)
    places = torch.arange(-radius, radius + 1)
    taps = torch.exp(-places.square() / (2 * deviation**2))
    edge, point = -places * taps, (places.square() / deviation**2 - 1) * taps
    across = taps / taps.sum()
    return edge / edge.clamp(min=0).sum(), _balanced(point), across


def linear(levels: Tensor) -> Tensor:
    """Linear light of sRGB, both in [0, 1]."""
    low = levels <= 0.04045
    return torch.where(low, levels / 12.92, ((levels.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)


def _balanced(taps: Tensor) -> Tensor:
    """Positive taps that sum to 1, and negative ones that sum to -1."""
    above, below = taps.clamp(min=0), taps.clamp(max=0)
    return above / above.sum() - below / below.sum()


def _sensitivity(channel: tuple[tuple[float, float], ...], cell: float) -> list[Tensor]:
    """Filters of a contrast sensitivity function: each along both axes, and the sum of them, have the sum 1."""
    heights = torch.tensor([math.sqrt(a * math.sqrt(math.pi / b)) for a, b in channel])
    places = torch.arange(-REACH, REACH + 1).square()
    bells = torch.stack([torch.exp(-places / (2 * (deviation_of(b) / cell) ** 2)) for _, b in channel])
    bells *= heights[:, None]
    bells /= bells.sum(dim=1).square().sum().sqrt()
    return [taps[taps > LEAST_TAP * taps.max()] for taps in bells]


def _filtered(values: Tensor, taps: Tensor) -> Tensor:
    """Filter (h + 2 `REACH`, W + 2 `REACH`) along both axes, (h, W)."""
    return correlated(correlated(_cut(values, taps), taps, -1), taps, -2)


def _cut(values: Tensor, taps: Tensor) -> Tensor:
    """What a filter needs of (h + 2 `REACH`, W + 2 `REACH`)."""
    spare = REACH - len(taps) // 2
    return values[spare : len(values) - spare, spare : values.shape[1] - spare]


def _lab(tristimulus: Tensor) -> Tensor:
    """CIELAB of XYZ relative to white, (3, n), in its place; a* and b* are less where it is dark (Hunt 1952)."""
    below = (tristimulus - KNEE**3).clamp_(max=0).mul_(1 / (3 * KNEE**2))  # the tangent goes on there
    x, y, z = tristimulus.clamp_(min=KNEE**3).log_().mul_(1 / 3).exp_().add_(below)
    x -= y
    torch.sub(y, z, out=z)
    y.mul_(116).sub_(16)
    x.mul_(5).mul_(y)
    z.mul_(2).mul_(y)
    return tristimulus  # a*, L*, b*


def _hyab(difference: Tensor) -> Tensor:
    """City-block distance of light and colour (…), from a*, L* and b* of (3, …), overwritten."""
    a, light, b = difference.unbind()
    return a.square_().addcmul_(b, b).sqrt_().add_(light.abs_())
