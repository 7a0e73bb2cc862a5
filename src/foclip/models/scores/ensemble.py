"""Several scores as one, so that a picture is fooled for all of them at once."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from foclip.errors import UsageError
from foclip.models.scorer import EmbeddingScorer, Inputs, Preprocessor, Targets
from foclip.models.surroundings import undisturbed


class EnsemblePreprocess:
    """What each of several models sees of a picture, as a tuple; a `Preprocessor`."""

    def __init__(self, members: Sequence[Preprocessor]) -> None:
        self.members = tuple(members)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the model with the largest input sees."""
        return max(member.size for member in self.members)

    def image(self, picture: Image.Image) -> tuple[Any, ...]:
        made = {id(member): member.image(picture) for member in dict.fromkeys(self.members)}
        return tuple(made[id(member)] for member in self.members)

    def pixels(self, pixels: Tensor) -> tuple[Any, ...]:
        made = {id(member): member.pixels(pixels) for member in dict.fromkeys(self.members)}
        return tuple(made[id(member)] for member in self.members)

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns that any of the models sees."""
        each = zip(*(member.region(height, width) for member in self.members), strict=True)
        rows, columns = (slice(min(some.start for some in seen), max(some.stop for some in seen)) for seen in each)
        return rows, columns

    def resampler(self, height: int, width: int) -> None:
        """None: several models see several small pictures."""


class Ensemble(ABC):
    """Several scores as one, each with its own model and preprocessing. A subclass adds `combine`, and sets `name`."""

    name: ClassVar[str]
    one_scale: ClassVar[bool] = True  # whether raw scores are combined as they are

    def __init__(self, scorers: Sequence[EmbeddingScorer]) -> None:
        if not scorers:
            raise UsageError(f"scorers: the {self.name} of several needs at least one")
        if without := [scorer.info.name for scorer in scorers if not isinstance(scorer, EmbeddingScorer)]:
            raise UsageError(f"scorers: {', '.join(without)} compares no embeddings; ensembles take scores that do")
        if len({(self.one_scale and scorer.info.scale, scorer.device) for scorer in scorers}) > 1:
            found = ", ".join(f"{scorer.model}: {scorer.info.scale:g}, {scorer.device}" for scorer in scorers)
            raise UsageError(f"scorers: all must have one scale and be on one device ({found})")
        self.scorers = tuple(scorers)
        self.info = replace(scorers[0].info, name=self.name)
        self.model = " + ".join(scorer.model for scorer in scorers)
        self.device = scorers[0].device
        self.preprocess = EnsemblePreprocess([scorer.preprocess for scorer in scorers])
        self.parameter_count = max(scorer.parameter_count for scorer in scorers)

    @abstractmethod
    def combine(self, raw: Tensor) -> Tensor:
        """Raw scores of all M members (M, …) as one (…), differentiably."""

    @property
    def fingerprint(self) -> str:
        each = " ".join(scorer.fingerprint for scorer in self.scorers)
        return f"{self.name} {hashlib.sha256(each.encode()).hexdigest()}"

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Any, ...]:
        return tuple(scorer.encode_prompts(prompts) for scorer in self.scorers)

    def embed(self, pixels: Inputs) -> tuple[Tensor, ...]:
        """The unit vectors (B, D_m) of each member; those over one encoder share its pass."""
        kinds = [(id(scorer.encoder), id(scorer.preprocess)) for scorer in self.scorers]
        made = dict[tuple[int, int], Tensor]()
        for kind, scorer, own in zip(kinds, self.scorers, pixels, strict=True):
            if kind not in made:
                made[kind] = scorer.embed(own)
        return tuple(made[kind] for kind in kinds)

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> Tensor:
        """Raw scores (…, T) of the unit vectors of all members."""
        each = zip(self.scorers, embeddings, targets, strict=True)
        return self.combine(torch.stack([scorer.compare(own, asked) for scorer, own, asked in each]))

    @undisturbed()
    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        return self.compare(self.embed(pixels), targets)

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "Ensemble":
        return type(self)([scorer.in_precision(dtype, compiled) for scorer in self.scorers])


class MeanEnsemble(Ensemble):
    """The mean of the raw scores."""

    name = "mean"

    def combine(self, raw: Tensor) -> Tensor:
        return raw.mean(dim=0)


class MinEnsemble(Ensemble):
    """The lowest of the raw scores, prompt by prompt: what is left if every score must agree."""

    name = "lower"

    def combine(self, raw: Tensor) -> Tensor:
        return raw.amin(dim=0)
