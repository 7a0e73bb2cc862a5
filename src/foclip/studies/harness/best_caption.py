"""The best caption of a photo: the one in the text file of the same name, or else the one that scores highest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foclip.data import captions, prompts
from foclip.data.prompts import Prompts
from foclip.models.scorer import Scorer
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture

#: Number of captions that compete for a photo without a text file.
CANDIDATES = 1000


def candidates() -> list[str]:
    """Captions of ImageNet's classes."""
    return prompts.imagenet(CANDIDATES)


def best_captions(
    context: StudyContext,
    scores: Sequence[Scorer],
    pictures: Sequence[Picture] | None = None,
    paths: Sequence[Path] | None = None,
) -> dict[str, Prompts]:
    """One caption for each picture, by the picture's name.

    It is the first line of `photo.txt` in the folder of `photo.jpg`. Without such a file it is the caption among
    `candidates` with the highest mean over `scores`.

    Args:
        context: Caches the scores.
        scores: The scores that choose a caption.
        pictures: The pictures; None for those of the context.
        paths: Their files; None for those of the context.
    """
    paths = context.files if paths is None else paths
    beside, _ = captions.captions_of(paths, captions.SIDECAR)
    best = {paths[place].name: tuple(texts[:1]) for place, texts in beside.items()}
    pictures = context.pictures if pictures is None else pictures
    if without := [picture for picture in pictures if picture.name not in best]:
        wanted = candidates()
        figures = np.mean([context.scores(without, wanted, score) for score in scores], axis=0)
        places = figures.argmax(axis=1).tolist()
        best |= {picture.name: (wanted[place],) for picture, place in zip(without, places, strict=True)}
    return {picture.name: best[picture.name] for picture in pictures}
