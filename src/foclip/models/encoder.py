"""What everything here needs of an encoder: pictures and prompts to unit vectors in one space."""

import copy
import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from foclip.errors import CompileWarning, UsageError
from foclip.models.preprocess import Preprocess
from foclip.models.scorer import Inputs
from foclip.models.surroundings import undisturbed

if TYPE_CHECKING:
    from typing_extensions import Self


def digest(told: str, model: nn.Module) -> str:
    """SHA-256 over the weights of a model and what else is told of it."""
    found = hashlib.sha256(told.encode())
    for key, value in sorted(model.state_dict().items()):
        found.update(key.encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class Encoder(ABC):
    """A frozen dual encoder in evaluation mode; one subclass per family of models."""

    name: str  # the name it was loaded by
    device: torch.device  # where its vectors are
    preprocess: Preprocess
    dtype: torch.dtype | None = None  # of the image tower, where autocast knows how to; None for float32
    compiled: bool = False  # whether the image tower runs as `torch.compile` makes it
    fixed_size: bool = True  # whether the image tower sees all pictures in one shape

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; what was compiled is compiled there anew."""
        return {name: value for name, value in vars(self).items() if name != "_compiled_features"}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Self":
        """Itself, since it is frozen: copies of a metric share its weights."""
        return self

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image tower's input."""
        return self.preprocess.size

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """Number of parameters of both towers."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over weights and preprocessing: tells two encoders of one name apart."""

    @property
    def logits(self) -> tuple[float, float] | None:
        """Scale and bias that turn its cosines into logits, as it was trained; None if it has none."""
        return None

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """The image tower's vectors (B, D) of normalised pictures (B, 3, *image_size), of any length."""

    @abstractmethod
    def texts(self, texts: list[str]) -> Tensor:
        """Unit vectors (T, D) of texts."""

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "Self":
        """The same encoder, with the same weights, whose image tower computes in another precision, or compiled."""
        other = copy.copy(self)
        other.dtype, other.compiled = dtype, compiled
        return other

    def tower(self, inputs: Any) -> Tensor:
        """Float32 unit vectors (B, D) of normalised pictures (B, 3, *image_size), differentiably."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            found = (self._compiled_features if self.compiled else self.features)(inputs)
        return torch.nn.functional.normalize(found.float(), dim=-1)

    @cached_property
    def _compiled_features(self) -> Callable[[Tensor], Tensor]:
        """`features`, compiled when first called for inputs of some shape and precision; itself where that fails."""
        # On a GPU launching small kernels one by one takes longer than they do: CUDA graphs launch all at once.
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        compiled: Callable[[Tensor], Tensor] = torch.compile(self.features, dynamic=False, mode=mode)

        def features(inputs: Tensor) -> Tensor:
            nonlocal compiled
            try:
                return compiled(inputs)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = str(error).partition("\n")[0] or type(error).__name__
                warnings.warn(f"{self.name}: torch.compile failed, going on without ({reason})", CompileWarning, 2)
                compiled = self.features
            return compiled(inputs)

        return features

    @undisturbed()
    def embed(self, pixels: Inputs) -> Tensor:
        """Unit vectors (B, D), float32, of float pixels (B, 3, H, W) in [0, 1], or of preprocessed uint8 ones."""
        assert isinstance(pixels, Tensor)
        seen = self.preprocess.pixels(pixels) if pixels.is_floating_point() else pixels
        return self.tower(self.preprocess.normalize(seen.to(self.device)))

    @undisturbed()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (T, D) of T prompts, float32; a `UsageError` if it is one string, or there is none.

        A prompt longer than the model's context keeps its beginning and its end-of-text token, and a
        `PromptTruncationWarning` says so.
        """
        if isinstance(texts, str) or not texts:
            raise UsageError("texts: give a list of prompts, at least one")
        return self.texts(list(texts))

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Unit vectors (B, D) of RGB pictures through the model's own preprocessing."""
        batches = (pictures[first : first + batch_size] for first in range(0, len(pictures), batch_size))
        return torch.cat([self.embed(torch.stack([*map(self.preprocess.image, batch)])) for batch in batches])
