"""Human Preference Score v2 (Wu et al. 2023, arXiv 2306.09341), and its preprocessing, which is like no other."""

import copy
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from foclip.data.images import to_tensor
from foclip.models.encoder import Encoder
from foclip.models.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from foclip.models.scores.clip import CLIPScore

if TYPE_CHECKING:
    from typing_extensions import Self


class HPSPreprocess(Preprocess):
    """The long side is resized in floating point, never rounded, and black is added *before* normalising.

    Resize and padding are torchvision's, as its authors call them, and differentiable as they are.
    """

    def __init__(self, size: tuple[int, int], device: torch.device | str = "cpu") -> None:
        super().__init__(size, CLIP_MEAN, CLIP_STD, "bicubic", "longest", 0, device)
        self.description = f"HPS {self.description}"

    def image(self, picture: Image.Image) -> Tensor:
        """What the encoder sees of one RGB picture: float (3, *size), a little outside [0, 1] at sharp edges."""
        return self.pixels(to_tensor(picture)[None] / 255)[0]

    def pixels(self, pixels: Tensor) -> Tensor:
        height, width = self.resized(*pixels.shape[-2:])
        height, width = max(1, height), max(1, width)
        if pixels.shape[-2:] != (height, width):
            pixels = resize(pixels, [height, width], InterpolationMode.BICUBIC, antialias=True)
        down, across = self.size[0] - height, self.size[1] - width
        around = (across // 2, across - across // 2, down // 2, down - down // 2)
        return torch.nn.functional.pad(pixels, around) if down or across else pixels

    def resampler(self, height: int, width: int) -> None:  # type: ignore[override]  # a `Preprocessor` may have none
        """None: what is never rounded is no map of 8-bit pictures."""


class HPSv2(CLIPScore):
    r"""The cosine of a CLIP ViT-H/14 that was tuned on choices of people; about 0.27 for a fitting pair.

    .. math:: s(x, p) = \max(\cos(E(x), E(p)), 0)

    The longest side goes to 224 pixels in floating point, and black fills the rest. Prompts are read as they are. The
    authors' package fails on pictures with transparency, which here lie over white. Needs: --model
    ViT-H-14/HPS_v2_compressed.pt of xswu/HPSv2 (Apache-2.0).
    """

    name = "hpsv2"

    def __init__(self, encoder: Encoder) -> None:
        #: What other scores of one call may share: the encoder with pictures of its own.
        self.plain = encoder
        other = copy.copy(encoder)
        other.preprocess = HPSPreprocess(encoder.image_size, encoder.device)
        super().__init__(other, scale=1.0)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self.preprocess.description}"

    def with_encoder(self, encoder: Encoder) -> "Self":
        return type(self)(encoder)


class HPSv21(HPSv2):
    """HPSv2 with the weights of its second release, trained on better data: the same network, formula and pictures.

    Needs: --model ViT-H-14/HPS_v2.1_compressed.pt of xswu/HPSv2 (Apache-2.0).
    """

    name = "hpsv2.1"
