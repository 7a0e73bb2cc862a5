"""What everything here needs of an encoder: pictures and prompts to unit vectors in one space.

Pictures come in three forms: files as decoded (`encode_pictures`), pixels that an attack moves
(`encode_pixels`, differentiable), and the 8-bit picture that the model sees, after its resize
(`encode_resized`). Libraries pick other kernels for another batch size, which round differently; where a
result must not depend on what else is in its batch, passes therefore always have the
same number of `rows`, padded with black.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foclip.errors import CompileWarning, UsageError
from foclip.models.preprocessing import Preprocessing

#: Above this many parameters a CPU gains little from a batch.
LARGE_MODEL = 50_000_000

_passes: ContextVar[tuple[torch.dtype | None, bool]] = ContextVar("passes", default=(None, False))


@contextmanager
def passes_in(dtype: torch.dtype | None, compiled: bool = False) -> Iterator[None]:
    """Image towers compute in a lower precision, where autocast knows how to, or as `torch.compile` makes them.

    Only within this thread, and only the tower: resizing and rounding to 8 bits need all of float32.

    Args:
        dtype: The precision; None for float32.
        compiled: Whether towers are compiled; those that cannot be go on as they are, and a `CompileWarning` says so.
    """
    before = _passes.set((dtype, compiled))
    try:
        yield
    finally:
        _passes.reset(before)


class Encoder(ABC):
    """A frozen dual encoder in evaluation mode; one subclass per family of models.

    Attributes:
        name: The name it was loaded by.
        device: Where its vectors are.
        image_size: (height, width) of the image tower's input.
        preprocess: From pixels (B, 3, H, W) in [0, 1] to the tower's input, differentiable.
    """

    name: str
    device: torch.device
    image_size: tuple[int, int]
    preprocess: Preprocessing

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; what was compiled is compiled there anew."""
        return {name: value for name, value in vars(self).items() if name != "_compiled_features"}

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """Number of parameters of both towers."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over weights and preprocessing: tells two encoders of one name apart."""

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """The image tower's vectors (B, D) of preprocessed pictures (B, 3, *image_size), of any length."""

    def lower(self, dtype: torch.dtype) -> None:  # noqa: B027 what an encoder may do, and need not
        """Make ready for passes under autocast to `dtype`."""

    def tower(self, inputs: Tensor) -> Tensor:
        """The image tower: float32 unit vectors (B, D) of preprocessed pictures, differentiably."""
        dtype, compiled = _passes.get()
        if dtype is not None:
            self.lower(dtype)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            found = (self._compiled_features if compiled else self.features)(inputs)
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

    @abstractmethod
    def prepare(self, picture: Image.Image) -> Tensor:
        """The tower's input (3, *image_size) for one RGB picture, by the model's own preprocessing."""

    @abstractmethod
    def resize(self, picture: Image.Image) -> Image.Image:
        """The part of `prepare` from picture to 8-bit picture: resize and crop."""

    @abstractmethod
    def normalize(self, levels: Tensor) -> Tensor:
        """The rest of `prepare`: uint8 (B, 3, *image_size) to the tower's input."""

    @abstractmethod
    def _texts(self, texts: list[str]) -> Tensor:
        """Unit vectors (T, D) of texts."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of prompts.

        A prompt longer than the model's context keeps its beginning and its
        end-of-text token, and a `PromptTruncationWarning` says so.

        Args:
            texts: T prompts.

        Returns:
            (T, D), float32, each row of length 1.

        Raises:
            UsageError: It is one string, or there is none.
        """
        if isinstance(texts, str) or not texts:
            raise UsageError("texts: give a list of prompts, at least one")
        return self._texts(list(texts))

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Unit vectors (B, D) of RGB pictures through the model's own preprocessing."""
        batches = [
            self.tower(torch.stack([self.prepare(picture) for picture in pictures[i : i + batch_size]]).to(self.device))
            for i in range(0, len(pictures), batch_size)
        ]
        return torch.cat(batches)

    def encode_pixels(self, pixels: Tensor | Sequence[Tensor], rows: int | None = None) -> Tensor:
        """Unit vectors of pictures, differentiable with respect to their pixels.

        Args:
            pixels: float32 (B, 3, H, W), or B tensors (3, H_i, W_i) of any sizes; RGB in [0, 1].
            rows: Rows of the pass, at least B; None for B.

        Returns:
            (B, D), float32, each row of length 1.
        """
        parts = [pixels] if isinstance(pixels, Tensor) else [picture[None] for picture in pixels]
        inputs = torch.cat([self.preprocess(part.to(self.device)) for part in parts])
        return self.tower(_padded(inputs, rows or len(inputs)))[: len(inputs)]

    @torch.inference_mode()
    def encode_resized(self, levels: Tensor, rows: int) -> Tensor:
        """Unit vectors (N, D) of what `resize` made, in passes of `rows` rows.

        Args:
            levels: uint8 (N, 3, *image_size).
            rows: Rows of each pass.
        """
        passes = torch.split(_padded(levels, -(-len(levels) // rows) * rows), rows)
        return torch.cat([self.tower(self.normalize(part.to(self.device))) for part in passes])[: len(levels)]

    def rows(self, many: int, few: int) -> int:
        """`many` rows for a pass, or `few` if it is a large model on a CPU, which gains nothing from a batch."""
        return few if self.device.type == "cpu" and self.parameter_count > LARGE_MODEL else many


def _padded(batch: Tensor, rows: int) -> Tensor:
    if len(batch) == rows:
        return batch
    return torch.cat([batch, batch.new_zeros(rows - len(batch), *batch.shape[1:])])
