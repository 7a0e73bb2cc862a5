"""The caption that a photo has for itself: the one beside its file, or else the one that fits it best."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foclip.data import captions, prompts
from foclip.models.scores import Prompts, Score
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture

#: Captions that a photo without one is compared with.
CANDIDATES = 1000


def candidates() -> list[str]:
    """Captions of ImageNet's classes."""
    return prompts.imagenet(CANDIDATES)


def own_captions(
    lab: StudyContext,
    scores: Sequence[Score],
    looked_at: Sequence[Picture] | None = None,
    paths: Sequence[Path] | None = None,
) -> dict[str, Prompts]:
    """One caption for each picture, by its name.

    The first line of a file `photo.txt` beside `photo.jpg`; where there is none, that of
    `candidates` whose mean over `scores` is highest.

    Args:
        lab: Where scores are kept.
        scores: What captions are to fit on.
        looked_at: The pictures; None for those of the lab.
        paths: Their files; None for those of the lab.
    """
    sources, found = captions.pair(lab.files if paths is None else paths, None, captions.SIDECAR, (), [])
    own = {Path(str(source)).name: texts[:1] for source, texts in zip(sources, found, strict=True)}
    pictures = lab.pictures if looked_at is None else looked_at
    if without := [picture for picture in pictures if picture.name not in own]:
        wanted = candidates()
        figures = np.mean([lab.scores(without, wanted, score) for score in scores], axis=0)
        best = figures.argmax(axis=1).tolist()
        own |= {picture.name: (wanted[place],) for picture, place in zip(without, best, strict=True)}
    return {picture.name: own[picture.name] for picture in pictures}
