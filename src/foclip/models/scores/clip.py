"""Scores over an encoder: what they have in common, and CLIPScore, the cosine of a picture and a prompt."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from foclip.errors import UsageError
from foclip.models.encoder import Encoder
from foclip.models.preprocess import Preprocess
from foclip.models.registry import load_encoder
from foclip.models.scorer import Inputs, ScoreInfo, Targets
from foclip.models.surroundings import undisturbed

if TYPE_CHECKING:
    from typing_extensions import Self

#: Weight of CLIPScore in Hessel et al. 2021 (arXiv 2104.08718), equation 1. torchmetrics uses 100.
SCALE = 2.5
#: Cosine below which a picture matches no prompt in any CLIP.
NO_MATCH = 0.1


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
        return self.encoder.embed(pixels)

    @undisturbed()
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


class CLIPScore(EmbeddingScore):
    r"""CLIPScore (Hessel et al. 2021, arXiv 2104.08718, equation 1); its raw scores are cosines.

    .. math:: \text{CLIPScore}(x, p) = w \max(\cos(E(x), E(p)), 0)

    Its temperature is that at which CLIP itself turns cosines into probabilities (a `logit_scale` of 100).
    `scale` is the weight w, above 0: 2.5 (Hessel et al.), 100 in torchmetrics. `prefix` comes before each prompt, with
    a space between: "A photo depicts" in the paper's experiments, nothing in torchmetrics and here.
    """

    name = "clipscore"

    def __init__(self, encoder: Encoder, scale: float = SCALE, prefix: str = "") -> None:
        super().__init__(encoder)
        self.prefix = f"{prefix.rstrip()} " if prefix.strip() else ""
        if not 0 < scale < math.inf:
            raise UsageError(f"scale: {scale} is no number above 0")
        self.info = ScoreInfo(self.name, scale=scale, floor=NO_MATCH * scale)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self.prefix}".rstrip()

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        if self.prefix and not isinstance(prompts, str):
            prompts = [f"{self.prefix}{prompt}" for prompt in prompts]
        return self.encoder.encode_texts(prompts)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        assert isinstance(targets, Tensor)
        return embeddings @ targets.to(embeddings.device).T
