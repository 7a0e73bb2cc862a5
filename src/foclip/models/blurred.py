"""Encoders that see every picture blurred, so that fine detail cannot raise their scores."""

import copy
import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from foclip.errors import EncoderError
from foclip.models.catalogue import BLURRED
from foclip.models.encoder import Encoder
from foclip.models.registry import load_encoder

if TYPE_CHECKING:
    from typing_extensions import Self

#: Standard deviation of the blur as a share of the shorter side of what the encoder sees: 1.5 of 96 pixels.
SHARE = 1 / 64
#: Where the blur ends, in standard deviations, about: at the nearest whole pixel.
REACH = 3


class BlurredEncoder(Encoder):
    """An encoder that is given what it sees of a picture blurred by a Gaussian.

    Attacks live on fine detail, which a blur takes away (spatial smoothing: Xu et al. 2018, arXiv 1704.01155). It is no
    secret and differentiable, so those who know it attack through it: they must change what is left, and gain less. The
    price is that an encoder knows less of blurred pictures.

    Raises:
        EncoderError: The encoder sees each picture in a shape of its own.
    """

    def __init__(self, encoder: Encoder, share: float = SHARE) -> None:
        if not encoder.fixed_size:
            raise EncoderError(f"{BLURRED}{encoder.name}: it sees each picture in another shape")
        self.encoder, self.name = encoder, f"{BLURRED}{encoder.name}"
        self.device, self.preprocess = encoder.device, encoder.preprocess
        self.sigma = share * min(encoder.image_size)
        self.dtype, self.compiled = encoder.dtype, encoder.compiled

    @property
    def parameter_count(self) -> int:
        return self.encoder.parameter_count

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{BLURRED} {self.sigma} {REACH} {self.encoder.fingerprint}".encode()).hexdigest()

    @property
    def logits(self) -> tuple[float, float] | None:
        return self.encoder.logits

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "Self":
        other = copy.copy(self)
        other.dtype, other.compiled, other.encoder = dtype, compiled, self.encoder.in_precision(dtype, compiled)
        return other

    def tower(self, inputs: Any) -> Tensor:
        return self.encoder.tower(self.blur(inputs))

    def features(self, inputs: Tensor) -> Tensor:
        return self.encoder.features(self.blur(inputs))

    def texts(self, texts: list[str]) -> Tensor:
        return self.encoder.texts(texts)

    def blur(self, inputs: Tensor) -> Tensor:
        """Normalised pictures (B, 3, H, W), blurred; in float32, whatever the tower computes in."""
        width = 2 * max(1, round(REACH * self.sigma)) + 1
        found: Tensor = gaussian_blur(inputs, [width, width], [self.sigma, self.sigma])
        return found


def blurred(encoder: Encoder) -> BlurredEncoder:
    """The encoder, blurred; itself if it is already."""
    return encoder if isinstance(encoder, BlurredEncoder) else BlurredEncoder(encoder)


def load(name: str, device: torch.device) -> BlurredEncoder:
    """`blurred:NAME`: the encoder NAME, blurred; errors as of `foclip.models.load_encoder`."""
    return blurred(load_encoder(name.removeprefix(BLURRED), device))
