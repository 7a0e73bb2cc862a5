"""Old names on top of the new ones, while callers are being moved. This module goes before the redesign is done."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foclip.data.images import to_image
from foclip.models import batching

passes: ContextVar[tuple[torch.dtype | None, bool]] = ContextVar("passes", default=(None, False))


@contextmanager
def passes_in(dtype: torch.dtype | None, compiled: bool = False) -> Iterator[None]:
    before = passes.set((dtype, compiled))
    try:
        yield
    finally:
        passes.reset(before)


class LegacyScore:
    """Old methods of scores."""

    info: Any
    preprocess: Any

    scale = property(lambda self: self.info.scale)
    floor = property(lambda self: self.info.floor)
    temperature = property(lambda self: self.info.temperature)
    prompts = property(lambda self: self.info.default_prompts)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("remembered", "_cache")}

    def __getattr__(self, name: str) -> Any:
        if name == "remembered":
            self.__dict__["remembered"] = batching.TargetCache(self)  # type: ignore[arg-type]
            return self.__dict__["remembered"]
        raise AttributeError(name)

    def rows(self, many: int, few: int) -> int:
        return batching.pass_rows(self, many, few)  # type: ignore[arg-type]

    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        found: tuple[slice, slice] = self.preprocess.region(height, width)
        return found

    def resampler(self, height: int, width: int) -> Any:
        return self.preprocess.resampler(height, width)

    def values(self, pixels: Sequence[Tensor], prompts: Sequence[Any], rows: int) -> list[Tensor]:
        device: Any = self.device  # type: ignore[attr-defined]
        inputs = [self.preprocess.pixels(picture[None].to(device)) for picture in pixels]
        return batching.raw_scores(self, inputs, [self.remembered(own) for own in prompts], rows)  # type: ignore[arg-type]

    def targets(self, prompts: Any) -> Any:
        return self.encode_prompts(prompts)  # type: ignore[attr-defined]

    def look(self, picture: Image.Image) -> Any:
        return self.preprocess.image(picture)

    def of_looks(self, looks: Sequence[Any], prompts: Sequence[Any]) -> list[Tensor]:
        return batching.read_scores(self, looks, [self.remembered(own) for own in prompts])  # type: ignore[arg-type]

    def of_picture(self, picture: Image.Image, prompts: Any) -> Tensor:
        return self.of_looks([self.look(picture)], [prompts])[0]

    def figures(self, values: Tensor) -> Tensor:
        return batching.figures(self, values)  # type: ignore[arg-type]

    def read(self, picture: Image.Image, prompts: Any) -> list[float]:
        return self.read_looks([self.look(picture)], [prompts])[0]

    def read_looks(self, looks: Sequence[Any], prompts: Sequence[Any]) -> list[list[float]]:
        return [self.figures(values).tolist() for values in self.of_looks(looks, prompts)]

    def over(self, encoder: Any) -> Any:
        return self.with_encoder(encoder)  # type: ignore[attr-defined]


class LegacyEncoder:
    """Old methods of encoders."""

    preprocess: Any

    def resize(self, picture: Image.Image) -> Image.Image:
        if picture.size == (self.preprocess.size[1], self.preprocess.size[0]):
            return picture
        return to_image(self.preprocess.image(picture))

    def rows(self, many: int, few: int) -> int:
        return batching.pass_rows(self, many, few)  # type: ignore[arg-type]

    def encode_pixels(self, pixels: Tensor | Sequence[Tensor], rows: int | None = None) -> Tensor:
        parts = [pixels] if isinstance(pixels, Tensor) else [picture[None] for picture in pixels]
        device: Any = self.device  # type: ignore[attr-defined]
        inputs = torch.cat([self.preprocess.pixels(part.to(device)) for part in parts])
        found: Tensor = self.embed(batching._padded(inputs, rows or len(inputs)))  # type: ignore[attr-defined]
        return found[: len(inputs)]

    def encode_resized(self, levels: Tensor, rows: int) -> Tensor:
        return batching.embeddings(self, levels, rows)  # type: ignore[arg-type]

    def prepare(self, picture: Image.Image) -> Tensor:
        return torch.as_tensor(self.preprocess.normalize(self.preprocess.image(picture)[None])[0])

    def normalize(self, levels: Tensor) -> Tensor:
        return torch.as_tensor(self.preprocess.normalize(levels))
