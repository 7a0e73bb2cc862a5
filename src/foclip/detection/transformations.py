"""Small changes of a picture that tell fooled ones: exact, with a differentiable surrogate beside.

FoCLIP (arXiv 2511.06947) looks at the picture in gray; "squeezers" (Xu et al. 2018, arXiv 1704.01155) and small moves
are here too. All are applied to the picture after its resize, so that a blur of half a pixel means the same for a
thumbnail and for a 50-megapixel photo. A detector uses the exact form, on 8-bit pictures; an attacker who knows it, the
surrogate (`View`).
"""

import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial, reduce

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.nn import functional

from foclip.data.images import to_gray, to_image, to_tensor
from foclip.errors import UsageError
from foclip.models.scorer import Preprocessor

#: Pixels around each that Lanczos' filter reads, and one more.
LANCZOS = 4
#: Pixels around a rotated picture that it may bring in.
MARGIN = 8
#: Width of a frame, as a share of the side: TTP (arXiv 2512.16523) detects best with 20 to 30 of 224 pixels.
FRAME = 24 / 224
#: What each level becomes with 5 bits of depth, as Xu et al. round it.
DEPTH = [round(round(level / 255 * 31) / 31 * 255) for level in range(256)]


@dataclass(frozen=True)
class Transformation:
    """A small change of a picture."""

    exact: Callable[[Image.Image], Image.Image]  #: From an 8-bit RGB picture to another of its size.
    #: The same for float pixels (B, 3, H, W), differentiable; None where the gradient passes unchanged.
    surrogate: Callable[[Tensor], Tensor] | None = None


def luma(pixels: Tensor) -> Tensor:
    """BT.601 luma in three channels, of float (B, 3, H, W)."""
    weights = pixels.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("bchw,c->bhw", pixels, weights)[:, None].expand_as(pixels)


def _channel_as_luma(channel: int) -> Transformation:
    def exact(picture: Image.Image) -> Image.Image:
        bands = list(picture.split())
        bands[channel] = picture.convert("L")
        return Image.merge("RGB", bands)

    def surrogate(pixels: Tensor) -> Tensor:
        bands = list(pixels.unbind(dim=1))
        bands[channel] = luma(pixels)[:, 0]
        return torch.stack(bands, dim=1)

    return Transformation(exact, surrogate)


def saved(form: str, quality: int, **options: int) -> Callable[[Image.Image], Image.Image]:
    """Saves a picture as a file of this form ("JPEG", "WEBP") and quality, and reads it again."""

    def save(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, format=form, quality=quality, **options)
        return Image.open(buffer).convert("RGB")

    return save


def _blur(picture: Image.Image) -> Image.Image:
    """Gaussian blur with a standard deviation of half a pixel."""
    return picture.filter(ImageFilter.GaussianBlur(0.5))


def _gaussian(pixels: Tensor) -> Tensor:
    """The same blur of float (B, 3, H, W)."""
    kernel = torch.exp(-2 * torch.arange(-2.0, 3.0, device=pixels.device).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1).expand(3, 1, 1, -1)
    padded = functional.pad(pixels, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def _rescaled(picture: Image.Image) -> Image.Image:
    """Half the size and back, bilinear."""
    half = picture.resize([max(1, side // 2) for side in picture.size], Image.Resampling.BILINEAR)
    return half.resize(picture.size, Image.Resampling.BILINEAR)


def _median(pixels: Tensor) -> Tensor:
    """Of float (B, 3, H, W), at each pixel the third lowest of itself and those above, to the left, and both."""
    padded = functional.pad(pixels, (1, 0, 1, 0), mode="replicate")
    height, width = pixels.shape[-2:]
    four = [padded[..., down : down + height, right : right + width] for down in (0, 1) for right in (0, 1)]
    return torch.stack(four).sort(dim=0).values[2]


def _filtered(picture: Image.Image) -> Image.Image:
    """The same of a picture."""
    return to_image(_median(to_tensor(picture)[None].float())[0].to(torch.uint8))


def _frame(side: int) -> int:
    """Pixels of a frame at each end of a side."""
    return max(1, round(FRAME * side))


def _framed(picture: Image.Image) -> Image.Image:
    """In a black frame, and then scaled to the old size."""
    framed = ImageOps.expand(picture, (_frame(picture.width), _frame(picture.height)))
    return framed.resize(picture.size, Image.Resampling.BICUBIC)


def _in_frame(pixels: Tensor) -> Tensor:
    """The same of float (B, 3, H, W)."""
    rows, columns = (_frame(side) for side in pixels.shape[-2:])
    framed = functional.pad(pixels, (columns, columns, rows, rows))
    return functional.interpolate(framed, pixels.shape[-2:], mode="bicubic", antialias=True)


def _shift(down: int, left: int) -> Transformation:
    """Moved by some pixels down and to the left; what comes in repeats the edge."""

    def exact(picture: Image.Image) -> Image.Image:
        padded = np.pad(np.asarray(picture), ((down, 0), (0, left), (0, 0)), mode="edge")
        return Image.fromarray(padded[: picture.height, left:])

    def surrogate(pixels: Tensor) -> Tensor:
        return functional.pad(pixels, (0, left, down, 0), mode="replicate")[..., : pixels.shape[-2], left:]

    return Transformation(exact, surrogate)


def _crop(share: float) -> Transformation:
    """The middle share of both sides, at the old size, bilinear."""

    def exact(picture: Image.Image) -> Image.Image:
        left, top = ((1 - share) / 2 * side for side in picture.size)
        box = (left, top, picture.width - left, picture.height - top)
        return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)

    return Transformation(exact, lambda pixels: _sampled(pixels, torch.tensor([[share, 0.0, 0.0], [0.0, share, 0.0]])))


def _shrink(share: float) -> Transformation:
    """Both sides to exactly a share of theirs, Lanczos; mirrored edges fill the frame.

    A picture that was cropped a little after it was fooled scores higher for it: what fooled the model is
    back at about its size, and its finest parts, which a softer filter would take away, with it.
    """

    def exact(picture: Image.Image) -> Image.Image:
        wanted = [side * (1 / share - 1) / 2 for side in picture.size]
        added = [min(math.ceil(more) + LANCZOS, side - 1) for more, side in zip(wanted, picture.size, strict=True)]
        columns, rows = added
        around = np.pad(np.asarray(picture), ((rows, rows), (columns, columns), (0, 0)), mode="reflect")
        left, top = (max(0.0, had - more) for had, more in zip(added, wanted, strict=True))
        box = (left, top, around.shape[1] - left, around.shape[0] - top)
        return Image.fromarray(around).resize(picture.size, Image.Resampling.LANCZOS, box=box)

    def surrogate(pixels: Tensor) -> Tensor:
        down, across = (torch.as_tensor(_shrinking(side, share)).to(pixels) for side in pixels.shape[-2:])
        return down @ pixels @ across.T

    return Transformation(exact, surrogate)


@lru_cache(maxsize=16)
def _shrinking(side: int, share: float) -> np.ndarray:
    """The same along one axis, without Pillow's rounding: a matrix (side, side)."""
    added = min(math.ceil(side * (1 / share - 1) / 2) + LANCZOS, side - 1)
    centres = (np.arange(side) + 0.5 - side / 2) / share + side / 2
    away = share * (np.arange(-added, side + added) + 0.5 - centres[:, None])
    weights = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0.0)
    matrix = np.zeros((side, side))
    np.add.at(matrix.T, np.pad(np.arange(side), added, mode="reflect"), weights.T / weights.sum(axis=1))
    return matrix


def _rotate(angle: float) -> Transformation:
    """Turned by some degrees, bilinear; what comes in mirrors the edge."""

    def exact(picture: Image.Image) -> Image.Image:
        rows, columns = (min(MARGIN, side - 1) for side in (picture.height, picture.width))
        around = np.pad(np.asarray(picture), ((rows, rows), (columns, columns), (0, 0)), mode="reflect")
        turned = Image.fromarray(around).rotate(angle, Image.Resampling.BILINEAR)
        return turned.crop((columns, rows, columns + picture.width, rows + picture.height))

    def surrogate(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        return _sampled(pixels, torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]))

    return Transformation(exact, surrogate)


def _sampled(pixels: Tensor, affine: Tensor) -> Tensor:
    """Pixels where an affine map (2, 3) of the coordinates, [-1, 1] each, puts them."""
    grid = functional.affine_grid(affine.to(pixels).expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


#: Every transformation by name.
TRANSFORMATIONS: Mapping[str, Transformation] = {
    "gray": Transformation(to_gray, luma),
    **{name: _channel_as_luma(channel) for channel, name in enumerate(("red", "green", "blue"))},
    "jpeg": Transformation(saved("JPEG", 90)),
    "webp": Transformation(saved("WEBP", 80, method=4)),
    "bits": Transformation(partial(ImageOps.posterize, bits=4)),
    "blur": Transformation(_blur, _gaussian),
    "rescale": Transformation(_rescaled),
    "mirror": Transformation(ImageOps.mirror, lambda pixels: pixels.flip(-1)),
    "shift": _shift(3, 2),
    "crop": _crop(0.9),
    "shrink96": _shrink(0.96),
    "shrink90": _shrink(0.9),
    "rotate": _rotate(2.0),
}

#: Those that other people's detectors take besides (`foclip.studies.harness.baselines`), and ours do not.
FURTHER: Mapping[str, Transformation] = {
    "depth5": Transformation(lambda picture: picture.point(DEPTH * 3)),
    "median": Transformation(_filtered, _median),
    "jpeg75": Transformation(saved("JPEG", 75)),
    "framed": Transformation(_framed, _in_frame),
}

#: Those that have an amount, with an amount drawn at random.
RANDOM: Mapping[str, Callable[[np.random.Generator], Transformation]] = {
    "jpeg": lambda dice: Transformation(saved("JPEG", int(dice.integers(84, 96)))),
    "webp": lambda dice: Transformation(saved("WEBP", int(dice.integers(72, 89)), method=4)),
    "shift": lambda dice: _shift(*dice.integers(1, 6, size=2).tolist()),
    "crop": lambda dice: _crop(dice.uniform(0.86, 0.94)),
    "shrink96": lambda dice: _shrink(dice.uniform(0.94, 0.98)),
    "shrink90": lambda dice: _shrink(dice.uniform(0.86, 0.94)),
    "rotate": lambda dice: _rotate(float(dice.choice((-1, 1))) * dice.uniform(1.0, 3.0)),
}


def transformation(name: str, seed: int | None = None) -> Transformation:
    """The transformation of this name, or a `UsageError`; "a+b" is b after a, at the price of one pass.

    `seed` is that of the random amounts (of a shift, a crop, a quality) in `RANDOM`; None stands for the usual ones.
    """
    names = name.split("+")
    known = {**TRANSFORMATIONS, **FURTHER}
    if unknown := [part for part in names if part not in known]:
        raise UsageError(f"transformation: {unknown[0]!r} is none of {', '.join(TRANSFORMATIONS)}")
    dice = None if seed is None else np.random.default_rng(zlib.crc32(f"{name} {seed}".encode()))
    parts = [RANDOM[part](dice) if dice and part in RANDOM else known[part] for part in names]
    if len(parts) == 1:
        return parts[0]
    smooth = [part.surrogate for part in parts if part.surrogate]  # the others pass the gradient unchanged
    return Transformation(
        lambda picture: reduce(lambda seen, part: part.exact(seen), parts, picture),
        lambda pixels: reduce(lambda seen, surrogate: surrogate(seen), smooth, pixels),
    )


@dataclass(frozen=True, repr=False)
class View:
    """A view of `foclip.attacks.Attack`: the picture as a detector sees it under a transformation.

    Exact forward, to the last bit; the gradient goes back through the surrogate, or unchanged where there is none
    (backward pass differentiable approximation, Athalye et al. 2018, arXiv 1802.00420).
    """

    transformation: str  #: Name for `transformation`.
    preprocess: Preprocessor  #: The encoder's preprocessing; a detector probes what the encoder sees.
    seed: int | None = None  #: As for `transformation`.

    def __repr__(self) -> str:
        seeded = "" if self.seed is None else f", seed={self.seed}"
        return f"View(transformation={self.transformation!r}{seeded})"

    def __call__(self, picture: Tensor) -> Tensor:
        """From (1, 3, H, W) in [0, 1] to the encoder's size."""
        change = transformation(self.transformation, self.seed)
        seen = self.preprocess.pixels(picture)
        assert isinstance(seen, Tensor)  # a detector's encoder has one input
        written = (seen.detach()[0] * 255).round().to(torch.uint8)
        exact = to_tensor(change.exact(to_image(written))).to(seen)[None] / 255
        smooth = change.surrogate(seen) if change.surrogate else seen
        return smooth + (exact - smooth).detach()
