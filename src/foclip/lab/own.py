"""The caption that a photo has for itself: the one beside its file, or else the one that fits it best."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foclip import captions, prompts
from foclip.lab.lab import Lab
from foclip.scores import Prompts, Score

#: Captions that a photo without one is compared with.
CANDIDATES = 1000


def candidates() -> list[str]:
    """Captions of ImageNet's classes."""
    return prompts.imagenet(CANDIDATES)


def own_captions(lab: Lab, scores: Sequence[Score]) -> dict[str, Prompts]:
    """One caption for each picture of a lab, by the picture's name.

    The first line of a file `photo.txt` beside `photo.jpg`; where there is none, that of
    `candidates` whose mean over `scores` is highest.
    """
    wanted = candidates()
    figures = np.mean([lab.scores(lab.pictures, wanted, score) for score in scores], axis=0)
    best = {
        picture.name: (wanted[place],)
        for picture, place in zip(lab.pictures, figures.argmax(axis=1).tolist(), strict=True)
    }
    sources, found = captions.pair(lab.files, None, captions.SIDECAR, (), [])
    beside = {Path(str(source)).name: own[:1] for source, own in zip(sources, found, strict=True)}
    return {name: beside.get(name, fitting) for name, fitting in best.items()}
