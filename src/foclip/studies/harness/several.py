"""Several scores of one study, in one unit: standard deviations of each among clean photographs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foclip.data.prompts import Prompts
from foclip.errors import FoclipError
from foclip.models import registry
from foclip.models.scorer import Scorer
from foclip.studies.harness import pictures as photos
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Floats

#: What scores with prompts are asked with; others are asked with their own prompts, or none.
CAPTION = "a photo of a cat."
#: Photographs of the user's folder that are fooled and, after these, clean ones; of the shipped ones, those fooled.
FOOLED, CLEAN, SHIPPED = 16, 200, 4


@dataclass(frozen=True)
class Asked:
    """A score, the prompts that it is asked with, and its mean and standard deviation among clean photographs."""

    scorer: Scorer
    prompts: Prompts
    clean: Floats  # its mean over the prompts for each clean photograph

    @property
    def mean(self) -> float:
        return float(self.clean.mean())

    @property
    def deviation(self) -> float:
        return float(self.clean.std(ddof=1))

    @property
    def most(self) -> float:
        """What no score is above; infinite for some."""
        return self.scorer.info.scale * self.scorer.info.highest

    def figures(self, context: StudyContext, pictures: Sequence[Picture]) -> Floats:
        """The score of each picture."""
        return figures(context, pictures, self.scorer)

    def units(self, values: Floats) -> Floats:
        """Scores in standard deviations above the mean of clean photographs."""
        return (values - self.mean) / self.deviation

    def above(self, values: Floats) -> Floats:
        """Share of clean photographs below each score."""
        return np.asarray((self.clean[None] < values[:, None]).mean(axis=1))


def split(context: StudyContext) -> tuple[list[Picture], list[Picture]]:
    """Photographs to fool and clean ones, of the user's folder; or some of those at hand and crops of the others."""
    if folder := context.settings.images:
        found = photos.read(photos.choose(folder, FOOLED + CLEAN, context.settings.seed), context.side, [])
        count = min(FOOLED, len(found) // 2)
        return found[:count], found[count:]
    fooled = context.pictures[:SHIPPED]
    own = {picture.photo for picture in fooled}
    return fooled, [picture for picture in context.examples if picture.photo not in own]


def asked(context: StudyContext, clean: Sequence[Picture]) -> tuple[dict[str, Asked], list[str]]:
    """The scores that the encoder of a study can give, by name, and the names of those that need another model.

    One with weights of its own is left out: over another encoder its formula means nothing.
    """
    own, found, missing = context.score, dict[str, Asked](), list[str]()
    encoder: Any = getattr(own, "encoder", None)  # a score with a network of its own has none
    for name in registry.available():
        try:
            if name != own.info.name and (encoder is None or registry.needs(name).startswith("--model")):
                missing.append(name)
                continue
            scorer: Scorer = own if name == own.info.name else registry.load(name, encoder)
        except FoclipError:  # no head for this encoder, say
            missing.append(name)
            continue
        found[name] = Asked(scorer, prompts_of(scorer), figures(context, clean, scorer))
    return found, missing


def prompts_of(scorer: Scorer) -> Prompts:
    """What a score is asked with."""
    return (CAPTION,) if scorer.info.prompts == "required" else scorer.info.default_prompts


def figures(context: StudyContext, pictures: Sequence[Picture], scorer: Scorer) -> Floats:
    """The mean of a score over its prompts for each picture, (P,)."""
    found: Floats = context.scores(pictures, [prompts_of(scorer)] * len(pictures), scorer).mean(axis=1)
    return np.asarray(found)
