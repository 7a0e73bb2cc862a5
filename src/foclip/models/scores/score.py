"""What a score is: pictures and prompts to values, differentiably, with all that belongs to it.

A score has a *value* for each picture and prompt, which attacks raise and which may be negative,
and the figure people read, `scale` · max(value, 0). How the figure is read (the level below which it means
"no match", the temperature at which values become probabilities) is the score's own
affair, so nothing else here knows of cosines.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from foclip.data.images import to_tensor
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.resampler import Resampler

if TYPE_CHECKING:
    from typing_extensions import Self

#: Prompt sets whose vectors are remembered.
REMEMBERED = 1024

#: Rows of a pass that reads pictures. One picture alone is a pass too, so more would cost it much.
READ = 8

Prompts = tuple[str, ...]


class Score(ABC):
    """A score of pictures for prompts.

    Attributes:
        name: What `--score` calls it.
        prompts: The prompts it is asked with unless others are given; empty for none.
        scale: Factor of the figure over the value.
        floor: Figure below which a picture matches none of its prompts, so that relative changes are noise.
        temperature: Temperature at which the softmax over values gives probabilities of prompts.
        model: What results call the model behind it.
        device: Where it is computed.
    """

    name: ClassVar[str]
    prompts: ClassVar[Prompts] = ()
    scale: float
    floor: float
    temperature: float
    model: str
    device: torch.device

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of score, weights and preprocessing: what values depend on besides pictures and prompts."""

    @abstractmethod
    def rows(self, many: int, few: int) -> int:
        """`many` pictures for a pass, or `few` where a batch gains nothing."""

    @abstractmethod
    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of height × width that its values depend on."""

    def resampler(self, height: int, width: int) -> Resampler | None:
        """How a picture of height × width becomes what the one model behind the score sees; None for several models."""
        return None

    @abstractmethod
    def values(self, pixels: Sequence[Tensor], prompts: Sequence[Prompts], rows: int) -> list[Tensor]:
        """Values of pictures, differentiable with respect to their pixels.

        Args:
            pixels: B tensors float32 (3, H_i, W_i), RGB in [0, 1], of any sizes.
            prompts: The prompts of each.
            rows: Rows of the pass, at least B, so that a value does not depend on B.

        Returns:
            B tensors (1, T_i).
        """

    @abstractmethod
    def look(self, picture: Image.Image) -> Any:
        """What the model sees of an RGB picture, by its own preprocessing: small, whatever the picture's size."""

    @abstractmethod
    def of_looks(self, looks: Sequence[Any], prompts: Sequence[Prompts]) -> list[Tensor]:
        """Values (T_i,) of what `look` made of B pictures, each with its prompts.

        Every pass has the same number of rows (`READ`), so values do not depend on B.
        """

    def of_picture(self, picture: Image.Image, prompts: Prompts) -> Tensor:
        """Values (T,) of one RGB picture through the model's own preprocessing."""
        return self.of_looks([self.look(picture)], [prompts])[0]

    def figures(self, values: Tensor) -> Tensor:
        """The figures of values of any shape: `scale` · max(value, 0)."""
        return self.scale * values.clamp(min=0)

    def read(self, picture: Image.Image, prompts: Prompts) -> list[float]:
        """The figure of one RGB picture with each prompt; not even by rounding does it depend on what else is read."""
        return self.read_looks([self.look(picture)], [prompts])[0]

    def read_looks(self, looks: Sequence[Any], prompts: Sequence[Prompts]) -> list[list[float]]:
        """The figures of what `look` made of pictures: for each the very ones that `read` gives."""
        return [self.figures(values).tolist() for values in self.of_looks(looks, prompts)]


class EncoderScore(Score):
    """A score that compares a picture's embedding with what it makes of the prompts.

    A subclass adds `targets` and `compare`, and sets `name`, `scale`, `floor` and `temperature`.

    Args:
        encoder: The encoder behind it.

    Attributes:
        encoder: That encoder.
    """

    scale = 1.0
    temperature = 0.01

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.model, self.device = encoder.name, encoder.device
        self._remember()

    def _remember(self) -> None:
        # What a caller's inference mode made could not take part in an attack later.
        self.remembered = lru_cache(maxsize=REMEMBERED)(torch.inference_mode(False)(self.targets))

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; what is remembered is made there anew."""
        return {name: value for name, value in vars(self).items() if name != "remembered"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._remember()

    @abstractmethod
    def targets(self, prompts: Prompts) -> Tensor:
        """What embeddings are compared with, T along the first axis; asked for once per prompt set."""

    @abstractmethod
    def compare(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Values (…, T) of unit vectors (…, D), differentiably."""

    def over(self, encoder: Encoder) -> "Self":
        """The same score over another encoder, a hardened twin of this one's, say."""
        other = copy.copy(self)
        EncoderScore.__init__(other, encoder)
        return other

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {self.encoder.fingerprint}"

    def rows(self, many: int, few: int) -> int:
        return self.encoder.rows(many, few)

    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        return self.encoder.preprocess.seen(height, width)

    def resampler(self, height: int, width: int) -> Resampler | None:
        return Resampler(self.encoder.preprocess, height, width)

    def values(self, pixels: Sequence[Tensor], prompts: Sequence[Prompts], rows: int) -> list[Tensor]:
        embeddings = self.encoder.encode_pixels(pixels, rows)
        each = zip(torch.split(embeddings, 1), prompts, strict=True)
        return [self.compare(embedding, self.remembered(own)) for embedding, own in each]

    def look(self, picture: Image.Image) -> Tensor:
        return to_tensor(self.encoder.resize(picture))

    def of_looks(self, looks: Sequence[Tensor], prompts: Sequence[Prompts]) -> list[Tensor]:
        embeddings = self.encoder.encode_resized(torch.stack(list(looks)), self.rows(READ, 1))
        return [
            self.compare(embedding, self.remembered(own))[0]
            for embedding, own in zip(torch.split(embeddings, 1), prompts, strict=True)
        ]


def as_prompts(prompts: Sequence[str]) -> Prompts:
    """Prompts of one picture as a tuple.

    Raises:
        UsageError: It is one string, or there is none.
    """
    if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError("prompts: give a list of strings, at least one")
    return tuple(prompts)
