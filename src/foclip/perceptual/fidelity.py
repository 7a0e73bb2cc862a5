"""How close a fooled picture stays to its original, in numbers and as the eye sees it.

PSNR, SSIM and L∞ compare levels. CIEDE2000 compares colours; FLIP (Andersson et al. 2020, "FLIP: A Difference Evaluator
for Alternating Images") says how much of a difference one sees who flips between the two pictures. Both give a map, of
which we report the mean and the 99th percentile: a smear on a wall is in the second long before it is in the first.
`foclip.perceptual.contrast` says how far above the eye's threshold the change is at all scales together.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.models.surroundings import undisturbed
from foclip.perceptual.contrast import Contrast, pooled
from foclip.perceptual.flip import PIXELS_PER_DEGREE, Flip, bell, correlated

#: SSIM looks through an 11×11 window, a bell with this deviation (Wang et al. 2004); smaller pictures have none.
SSIM_WINDOW, SSIM_DEVIATION = 11, 1.5
#: Its constants C₁ and C₂, for levels in 0..255.
SSIM_CONSTANTS = (0.01 * 255) ** 2, (0.03 * 255) ** 2
#: Pixels of a strip in which maps are made: FLIP takes about 200 bytes for each, CIEDE2000 as many.
STRIP = 2**20
#: The same for SSIM, which takes about 320 bytes for each.
SSIM_STRIP = 2**18
#: Rows beyond a strip that its map depends on: FLIP's widest filter reaches 10 pixels at `PIXELS_PER_DEGREE`.
OVERLAP = 16
#: The percentile that stands for the worst places.
WORST = 99

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fidelity:
    """Fidelity of one 8-bit picture to another."""

    psnr: float  #: Peak signal-to-noise ratio in dB over all channels; infinite for equal pictures.
    ssim: float  #: Structural similarity in [-1, 1] (Wang et al. 2004); NaN below 11 × 11 pixels.
    linf: int  #: Largest change of a channel, in 8-bit levels (0..255).
    delta_e: float  #: Colour difference CIEDE2000 (Sharma et al. 2005), mean over pixels; about 1 is just noticeable.
    delta_e99: float  #: Its 99th percentile.
    flip: float  #: FLIP in [0, 1] at 67 pixels per degree, mean over pixels.
    flip99: float  #: Its 99th percentile.
    contrast: float  #: Visible contrast of the change at all scales, in thresholds (`foclip.perceptual.contrast`).


#: Names of the figures, in the order in which they are shown.
FIGURES = tuple(Fidelity.__dataclass_fields__)


@undisturbed()
def fidelity(picture: Tensor, original: Tensor) -> Fidelity:
    """Compare two uint8 pictures (3, H, W) of one size."""
    # The last figure, which takes most memory, first: before the other maps are there.
    return Fidelity(**Comparison(picture, original).figures(FIGURES[::-1]))


class Reference:
    """An original that pictures are compared with again and again: what its maps take of it is made once, when needed.

    Args:
        original: uint8 (3, H, W), sRGB.
        cell: Side in pixels of the squares of a larger picture whose means these are, seen from so much further.
    """

    def __init__(self, original: Tensor, cell: int = 1) -> None:
        self.original, self._cell = original, cell

    @cached_property
    def flip(self) -> Flip:
        """Many times faster than the authors' own program, and within 1e-4 of it in every pixel."""
        return Flip(self.original, self._cell)

    @cached_property
    def contrast(self) -> Contrast:
        """See `foclip.perceptual.contrast`."""
        return Contrast(self.original, self._cell)


def means(picture: Tensor, cell: int) -> Tensor:
    """Means of squares of a picture, uint8 (3, H, W), with so many pixels along each side, rounded."""
    channels = [F.avg_pool2d(channel[None].float(), cell).round_().to(torch.uint8) for channel in picture]
    return torch.cat(channels)


class Comparison:
    """Two pictures of one size, uint8 (3, H, W), and what there is to say: only what is asked for is measured.

    Args:
        picture: The picture.
        original: What it was made from.
        reference: The original on the picture's device, with what is kept from before. Without it, FLIP is that of the
            authors' own program.
    """

    def __init__(self, picture: Tensor, original: Tensor, reference: Reference | None = None) -> None:
        self._pictures = picture.cpu(), original.cpu()
        self._picture, self._reference = picture, reference
        self._maps: dict[str, Floats] = {}

    def figures(self, names: tuple[str, ...], part: tuple[slice, slice] = (slice(None), slice(None))) -> dict[str, Any]:
        """Figures by their names in `Fidelity`, of the whole or of some rows and columns."""
        return {name: self._figure(name, part) for name in names}

    def _figure(self, name: str, part: tuple[slice, slice]) -> Any:
        levels: dict[str, Callable[[Tensor, Tensor], Any]] = {"psnr": _decibels, "ssim": _ssim, "linf": _linf}
        if name in levels:
            return levels[name](*(each[:, part[0], part[1]] for each in self._pictures))
        values = self.map(name.removesuffix("99"))[part]
        if name == "contrast":
            return pooled(values)
        return float(np.percentile(values, WORST) if name.endswith("99") else values.mean(dtype=np.float64))

    def map(self, name: str) -> Floats:
        """`delta_e`, `flip` or `contrast` of every pixel, (H, W)."""
        if name not in self._maps:
            if name == "contrast":
                reference = self._reference or Reference(self._pictures[1].to(self._picture.device))
                self._maps[name] = reference.contrast.map(self._picture).cpu().numpy()
            elif name == "flip" and self._reference is not None:
                self._maps[name] = self._reference.flip.map(self._picture).cpu().numpy()
            else:
                self._maps[name] = _in_strips({"delta_e": _delta_e, "flip": _flip}[name], *self._pictures)
        return self._maps[name]


def psnr(picture: Tensor, original: Tensor) -> float | None:
    """PSNR in dB of two uint8 pictures (3, H, W) of one size; None where they are equal."""
    if torch.equal(picture, original):
        return None
    # In float32, in the order of torchmetrics, which agrees to the last bit, but takes seconds to import.
    error = picture.float().sub_(original).square_().sum() / picture.numel()
    return float((2 * torch.tensor(255.0).log() - error.log()) * (10 / torch.tensor(10.0).log()))


def _decibels(picture: Tensor, original: Tensor) -> float:
    found = psnr(picture, original)
    return math.inf if found is None else found


def _ssim(picture: Tensor, original: Tensor) -> float:
    """SSIM: a mean over windows that lie within the picture, and over channels alike, strip by strip."""
    height, width = picture.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        return math.nan
    places, step, total = height - SSIM_WINDOW + 1, max(1, SSIM_STRIP // width), 0.0
    for first in range(0, places, step):
        rows = slice(first, min(first + step, places) + SSIM_WINDOW - 1)
        lost = _structure_lost(picture[:, rows].float(), original[:, rows].float())
        total += float(lost.sum(dtype=torch.float64))
    return 1 - total / (3 * places * (width - SSIM_WINDOW + 1))


def _structure_lost(picture: Tensor, original: Tensor) -> Tensor:
    """1 - SSIM of every window (equation 13 of Wang et al. 2004), from float (3, h, W) in 0..255.

    In sums s and differences d of the two pictures it is 1 - (1 - μ(d)² / A) (1 - σ²(d) / B), where A = (μ²(s) +
    μ²(d)) / 2 + C₁ and B likewise of σ² and C₂: what is small is never the difference of what is large.
    """
    mean, variance = _moments(picture + original - 255)  # around 0, where squares are rounded least
    mean += 255
    changed_mean, changed_variance = _moments(picture - original)
    c1, c2 = SSIM_CONSTANTS
    light = changed_mean.square() / ((mean.square() + changed_mean.square()) / 2 + c1)
    structure = changed_variance / ((variance + changed_variance) / 2 + c2)
    return light + structure - light * structure


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of (3, h, W) within every window."""
    window = bell(SSIM_DEVIATION, SSIM_WINDOW // 2).to(values)
    mean, square = (correlated(correlated(each, window, -1), window, -2) for each in (values, values.square()))
    return mean, (square - mean.square()).clamp_(min=0)


def _linf(picture: Tensor, original: Tensor) -> int:
    return int((torch.maximum(picture, original) - torch.minimum(picture, original)).max())


def _in_strips(compare: Callable[[Floats, Floats], Floats], picture: Tensor, original: Tensor) -> Floats:
    """A map (H, W) of two pictures, made strip by strip so that its memory does not grow with the picture.

    It is 0 far from all changes, hence made around them alone: of a photograph that the model crops, a part is left.
    """
    found = np.zeros(picture.shape[1:], dtype=np.float32)
    around = _changed(picture, original)
    part, picture, original = found[around], picture[:, around[0], around[1]], original[:, around[0], around[1]]
    for rows, inner in strips(part.shape[0], part.shape[1], STRIP):
        before, after = ((each[:, rows].permute(1, 2, 0).float() / 255).contiguous() for each in (original, picture))
        part[rows][inner] = compare(before.numpy(), after.numpy())[inner]
    return found


def _changed(picture: Tensor, original: Tensor) -> tuple[slice, slice]:
    """Rows and columns of all pixels that differ and of those around, as far as filters reach, twice."""
    differ = (picture != original).any(dim=0)
    found = []
    for dim, size in enumerate(differ.shape):
        places = differ.any(dim=1 - dim).nonzero()
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, 0)  # a corner, where nothing differs
        found.append(slice(max(0, first - 2 * OVERLAP), min(size, last + 1 + 2 * OVERLAP)))
    return found[0], found[1]


def strips(height: int, width: int, pixels: int) -> Iterator[tuple[slice, slice]]:
    """Rows of strips of so many pixels, with those around them that maps depend on, and which of the rows count."""
    step = max(OVERLAP, pixels // width)
    for first in range(0, height, step):
        start, last = max(0, first - OVERLAP), min(first + step, height)
        yield slice(start, min(height, last + OVERLAP)), slice(first - start, last - start)


def _flip(original: Floats, picture: Floats) -> Floats:
    from flip_evaluator import evaluate

    found: Floats = evaluate(original, picture, "LDR", True, False, False, {"ppd": PIXELS_PER_DEGREE})[0]
    return found[..., 0]


def _delta_e(original: Floats, picture: Floats) -> Floats:
    from skimage.color import deltaE_ciede2000, rgb2lab

    return np.asarray(deltaE_ciede2000(rgb2lab(original), rgb2lab(picture)), dtype=np.float32)
