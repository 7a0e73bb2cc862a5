"""What everything else knows of a score.

A `Scorer` gives each picture and prompt a raw score, which attacks raise and which may be negative. People read the
figure, scale · max(raw score, 0); of a reward, whose mean is 0, also below it. An `EmbeddingScorer` compares a
picture's embedding with the prompts, as CLIPScore does; only such a scorer has an embedding shift and can caption a
picture zero-shot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from foclip.data.prompts import Prompts

if TYPE_CHECKING:
    from typing_extensions import Self

    from foclip.models.encoder import Encoder
    from foclip.models.preprocess import Resampler

#: Pictures as the model sees them: (B, 3, h, w), float in [0, 1] or uint8; a tuple of such where several models look.
Inputs = Tensor | tuple[Tensor, ...]
#: Prompts, encoded once: T along the first axis; a tuple of such where several models look.
Targets = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class ScoreInfo:
    """What is to be known of a score."""

    name: str  # what `--score` calls it
    scale: float = 1.0  # the figure is scale · max(raw score, lowest)
    floor: float = 0.1  # figure below which a picture matches none of its prompts, so that relative changes are noise
    temperature: float = 0.01  # of the softmax over raw scores that gives probabilities of prompts
    prompts: Literal["required", "optional", "none"] = "required"  # whether a picture needs prompts
    default_prompts: Prompts = ()  # what it is asked with unless others are given, if they are optional
    lowest: float = 0.0  # raw scores below it count as it; -inf for rewards, whose mean is 0
    highest: float = 1.0  # no raw score is above it; inf for what a head or a reward gives


@runtime_checkable
class Preprocessor(Protocol):
    """From pictures of any size to what the model sees: once exact, on PIL pictures, and once differentiable."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the model sees."""

    def image(self, picture: Image.Image) -> Inputs:
        """What the model sees of one RGB picture, by its authors' own resize and crop: uint8 (3, h, w)."""

    def pixels(self, pixels: Tensor) -> Inputs:
        """The same of pixels, float (B, 3, H, W) in [0, 1], differentiably: float (B, 3, h, w) in [0, 1]."""

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of height × width that the model sees; the rest is cut away."""

    def resampler(self, height: int, width: int) -> "Resampler | None":
        """Resize and crop of pictures of height × width as a linear map; None if it is none."""


@runtime_checkable
class Scorer(Protocol):
    """A score of pictures for prompts."""

    info: ScoreInfo

    @property
    def model(self) -> str: ...  # name of the model behind it
    @property
    def preprocess(self) -> Preprocessor: ...
    @property
    def device(self) -> torch.device: ...  # where it computes
    @property
    def parameter_count(self) -> int: ...  # of the model; a large one gains nothing from a batch on a CPU
    @property
    def fingerprint(self) -> str: ...  # digest of all that raw scores depend on besides the inputs: score, weights, …

    def encode_prompts(self, prompts: Sequence[str]) -> Targets:
        """What pictures are compared with, T prompts along the first axis. A score without prompts is given none."""

    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        """Raw scores (B, T), differentiable with respect to `pixels`; T is 1 for a score without prompts.

        `pixels` is what `preprocess` made, float (B, 3, h, w) in [0, 1], or uint8 as written in a file.
        """


@runtime_checkable
class EmbeddingScorer(Scorer, Protocol):
    """A score that compares the embedding that its encoder makes of a picture with its prompts."""

    @property
    def encoder(self) -> "Encoder": ...

    def embed(self, pixels: Inputs) -> Tensor:
        """Unit vectors (B, D) of what `preprocess` made, differentiably."""

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        """Raw scores (…, T) of unit vectors (…, D), differentiably."""

    def with_encoder(self, encoder: "Encoder") -> "Self":
        """The same score over another encoder, a hardened one, say."""

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "Self":
        """The same score whose image tower computes in another precision, or as `torch.compile` makes it."""
