"""Several encoders as one, so that a picture is fooled for all of them at once."""

import hashlib
import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from foclip.encoders.dual import DualEncoder
from foclip.encoders.encoder import Encoder
from foclip.errors import UsageError


class Ensemble(DualEncoder):
    r"""Encoders side by side; its cosine is the mean of theirs.

    Its unit vector is the members' unit vectors, concatenated and divided by
    the root of their number M, for pictures and prompts alike:

    .. math:: \cos(x, p) = \frac{1}{M} \sum_m \cos(E_m(x), E_m(p))

    Args:
        encoders: The members, M ≥ 1, on one device. Each keeps its own preprocessing.

    Raises:
        UsageError: There is no member, or they are on different devices.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        if not encoders:
            raise UsageError("encoders: an ensemble needs at least one")
        if len({encoder.device for encoder in encoders}) > 1:
            devices = ", ".join(f"{encoder.name} on {encoder.device}" for encoder in encoders)
            raise UsageError(f"encoders: all must be on one device ({devices})")
        self.encoders = tuple(encoders)
        self.name = " + ".join(encoder.name for encoder in encoders)
        self.device = encoders[0].device

    @property
    def parameters(self) -> int:
        return sum(encoder.parameters for encoder in self.encoders)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(" ".join(encoder.fingerprint for encoder in self.encoders).encode()).hexdigest()

    def preprocess(self, pixels: Tensor) -> Tensor:
        """The members' inputs for pixels (B, 3, H, W), each flattened, side by side: (B, N)."""
        return torch.cat([encoder.preprocess(pixels).flatten(1) for encoder in self.encoders], dim=1)

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        """Unit vectors (B, D) of inputs (B, N), differentiably."""
        shapes = [(3, *encoder.image_size) for encoder in self.encoders]
        parts = torch.split(inputs, [math.prod(shape) for shape in shapes], dim=1)
        return _side_by_side(
            [
                encoder.encode_inputs(part.view(-1, *shape))
                for encoder, part, shape in zip(self.encoders, parts, shapes, strict=True)
            ]
        )

    def encode_pictures(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        return _side_by_side([encoder.encode_pictures(pictures, batch_size) for encoder in self.encoders])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return _side_by_side([encoder.encode_texts(texts) for encoder in self.encoders])


def _side_by_side(vectors: Sequence[Tensor]) -> Tensor:
    """Unit vectors (B, ΣD) of members' unit vectors (B, D)."""
    return torch.cat(list(vectors), dim=1) / math.sqrt(len(vectors))
