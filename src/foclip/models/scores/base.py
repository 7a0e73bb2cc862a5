"""A score over an encoder: embed the picture, compare the embedding with the prompts."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from foclip.models.encoder import Encoder
from foclip.models.preprocess import Preprocess
from foclip.models.registry import load_encoder
from foclip.models.scorer import Inputs, ScoreInfo, Targets

if TYPE_CHECKING:
    from typing_extensions import Self


class EmbeddingScore(ABC):
    """A score that compares a picture's embedding with what it makes of the prompts; an `EmbeddingScorer`.

    A subclass adds `encode_prompts` and `compare`, and sets `info`. What else a scorer tells is its encoder's.
    """

    info: ScoreInfo
    name: ClassVar[str]

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @classmethod
    def load(cls, model: str | Encoder, device: torch.device) -> "Self":
        """The score over an encoder, or over the encoder of this name."""
        return cls(load_encoder(model, device) if isinstance(model, str) else model)

    @property
    def model(self) -> str:
        return self.encoder.name

    @property
    def preprocess(self) -> Preprocess:
        return self.encoder.preprocess

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    @property
    def parameter_count(self) -> int:
        return self.encoder.parameter_count

    @property
    def fingerprint(self) -> str:
        return f"{self.info.name} {self.encoder.fingerprint}"

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """What embeddings are compared with, T prompts along the first axis."""

    @abstractmethod
    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        """Raw scores (…, T) of unit vectors (…, D), differentiably."""

    def embed(self, pixels: Inputs) -> Tensor:
        """Unit vectors (B, D) of what `preprocess` made, differentiably."""
        assert isinstance(pixels, Tensor)
        return self.encoder.embed(pixels)

    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        return self.compare(self.embed(pixels), targets)

    def with_encoder(self, encoder: Encoder) -> "Self":
        """The same score over another encoder, a hardened one, say."""
        other = copy.copy(self)
        other.encoder = encoder
        return other

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "Self":
        """The same score whose image tower computes in another precision, or as `torch.compile` makes it."""
        return self.with_encoder(self.encoder.in_precision(dtype, compiled))
