"""Small changes of a picture that tell fooled ones: exact, with a differentiable surrogate beside.

FoCLIP (arXiv 2511.06947) looks at the picture in gray; other small changes ("squeezers", Xu et al.
2018, arXiv 1704.01155) are here too. All are applied to what the model sees, the picture after its resize: a blur of
half a pixel then means the same for a thumbnail and for a 50-megapixel photo.

A detector uses the exact form, on 8-bit pictures. An attacker who knows the detector needs a gradient: `View` is exact
in its forward pass, to the last bit, and goes back through the surrogate, or unchanged where there is none
(backward pass differentiable approximation, Athalye et al. 2018, arXiv 1802.00420).
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.nn import functional

from foclip.encoders.preprocessing import Preprocessing
from foclip.images import to_gray, to_image, to_tensor


def luma(pixels: Tensor) -> Tensor:
    """BT.601 luma in three channels, of float (B, 3, H, W)."""
    weights = pixels.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("bchw,c->bhw", pixels, weights)[:, None].expand_as(pixels)


def jpeg(picture: Image.Image) -> Image.Image:
    """Saved as JPEG of quality 90 and read again."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    return Image.open(buffer).convert("RGB")


def bit_depth(picture: Image.Image) -> Image.Image:
    """The upper 4 of 8 bits."""
    return ImageOps.posterize(picture, 4)


def blur(picture: Image.Image) -> Image.Image:
    """Gaussian blur with a standard deviation of half a pixel."""
    return picture.filter(ImageFilter.GaussianBlur(0.5))


def gaussian(pixels: Tensor) -> Tensor:
    """The same blur of float (B, 3, H, W)."""
    kernel = torch.exp(-2 * torch.arange(-2.0, 3.0, device=pixels.device).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1).expand(3, 1, 1, -1)
    padded = functional.pad(pixels, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def rescale(picture: Image.Image) -> Image.Image:
    """Half the size and back, bilinear."""
    width, height = picture.size
    half = picture.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.BILINEAR)
    return half.resize(picture.size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Transformation:
    """A small change of a picture.

    Attributes:
        exact: From an 8-bit RGB picture to another of its size.
        surrogate: The same for float pixels (B, 3, H, W), differentiable; None where the gradient passes unchanged.
    """

    exact: Callable[[Image.Image], Image.Image]
    surrogate: Callable[[Tensor], Tensor] | None = None


def _channel_as_luma(channel: int) -> Transformation:
    """One channel replaced by luma."""

    def exact(picture: Image.Image) -> Image.Image:
        bands = list(picture.split())
        bands[channel] = picture.convert("L")
        return Image.merge("RGB", bands)

    def surrogate(pixels: Tensor) -> Tensor:
        bands = list(pixels.unbind(dim=1))
        bands[channel] = luma(pixels)[:, 0]
        return torch.stack(bands, dim=1)

    return Transformation(exact, surrogate)


#: Every transformation by name.
TRANSFORMATIONS: Mapping[str, Transformation] = {
    "gray": Transformation(to_gray, luma),
    "red": _channel_as_luma(0),
    "green": _channel_as_luma(1),
    "blue": _channel_as_luma(2),
    "jpeg": Transformation(jpeg),
    "bits": Transformation(bit_depth),
    "blur": Transformation(blur, gaussian),
    "rescale": Transformation(rescale),
}


@dataclass(frozen=True)
class View:
    """A view of `foclip.attacks.Attack`: the picture as a detector sees it under a transformation.

    Attributes:
        transformation: Name in `TRANSFORMATIONS`.
        preprocessing: The encoder's; the detector looks at pictures of its size.
    """

    transformation: str
    preprocessing: Preprocessing = field(repr=False)

    def __call__(self, picture: Tensor) -> Tensor:
        """Exact forward, smooth backward; (1, 3, H, W) in [0, 1] to the encoder's size."""
        change = TRANSFORMATIONS[self.transformation]
        picture = self.preprocessing.resize(picture)
        levels = (picture.detach()[0] * 255).round().to(torch.uint8)
        exact = to_tensor(change.exact(to_image(levels))).to(picture)[None] / 255
        smooth = change.surrogate(picture) if change.surrogate else picture
        return smooth + (exact - smooth).detach()
