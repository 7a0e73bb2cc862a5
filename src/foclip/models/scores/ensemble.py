"""Ensemble scores as one, so that a picture is fooled for all of them at once."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foclip.errors import UsageError
from foclip.models.scores.score import Prompts, Score


class Ensemble(Score):
    """Ensemble scores as one, each with its own model and preprocessing.

    A subclass adds `combine`, and sets `name`.

    Args:
        scores: M ≥ 1 scores with one scale, on one device.

    Raises:
        UsageError: There is none, or they differ in scale or device.
    """

    def __init__(self, scores: Sequence[Score]) -> None:
        if not scores:
            raise UsageError(f"scores: the {self.name} of several needs at least one")
        if len({(score.scale, score.device) for score in scores}) > 1:
            found = ", ".join(f"{score.model}: {score.scale:g}, {score.device}" for score in scores)
            raise UsageError(f"scores: all must have one scale and be on one device ({found})")
        self.scores = tuple(scores)
        first = scores[0]
        self.scale, self.floor, self.temperature = first.scale, first.floor, first.temperature
        self.model = " + ".join(score.model for score in scores)
        self.device = first.device

    @abstractmethod
    def combine(self, values: Tensor) -> Tensor:
        """Values of all scores (M, …) as one (…), differentiably."""

    @property
    def fingerprint(self) -> str:
        each = " ".join(score.fingerprint for score in self.scores)
        return f"{self.name} {hashlib.sha256(each.encode()).hexdigest()}"

    def rows(self, many: int, few: int) -> int:
        return min(score.rows(many, few) for score in self.scores)

    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        rows, columns = zip(*(score.seen(height, width) for score in self.scores), strict=True)
        return _around(rows), _around(columns)

    def values(self, pixels: Sequence[Tensor], prompts: Sequence[Prompts], rows: int) -> list[Tensor]:
        each = [score.values(pixels, prompts, rows) for score in self.scores]
        return [self.combine(torch.stack(values)) for values in zip(*each, strict=True)]

    def look(self, picture: Image.Image) -> tuple[Any, ...]:
        return tuple(score.look(picture) for score in self.scores)

    def of_looks(self, looks: Sequence[tuple[Any, ...]], prompts: Sequence[Prompts]) -> list[Tensor]:
        each = [score.of_looks(own, prompts) for score, own in zip(self.scores, zip(*looks, strict=True), strict=True)]
        return [self.combine(torch.stack(values)) for values in zip(*each, strict=True)]


class Mean(Ensemble):
    """The mean of the values of scores."""

    name = "mean"

    def combine(self, values: Tensor) -> Tensor:
        return values.mean(dim=0)


class Lower(Ensemble):
    """The lowest of the values of scores, prompt by prompt: what is left if every score must agree."""

    name = "lower"

    def combine(self, values: Tensor) -> Tensor:
        return values.amin(dim=0)


def _around(ranges: Sequence[slice]) -> slice:
    return slice(min(each.start for each in ranges), max(each.stop for each in ranges))
