"""What attacks, scores and files need of an encoder, be it one model or several."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor


class DualEncoder(ABC):
    """Pictures and prompts to unit vectors in one space.

    Attributes:
        name: What results call it.
        device: Where its vectors are.
        preprocess: What `encode_inputs` takes, made of pixels (B, 3, H, W) in [0, 1], differentiably.
    """

    name: str
    device: torch.device
    preprocess: Callable[[Tensor], Tensor]

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of parameters of all towers."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over all weights: tells two encoders of one name apart."""

    @abstractmethod
    def encode_inputs(self, inputs: Tensor) -> Tensor:
        """Unit vectors (B, D) of preprocessed pictures, differentiably."""

    @abstractmethod
    def encode_pictures(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Unit vectors (B, D) of PIL pictures through the models' own preprocessing."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (T, D) of prompts."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit vectors of pictures, differentiable with respect to their pixels.

        Args:
            pixels: float32 (B, 3, H, W), RGB in [0, 1], any H and W.

        Returns:
            (B, D), float32, each row of length 1.
        """
        return self.encode_inputs(self.preprocess(pixels.to(self.device)))
