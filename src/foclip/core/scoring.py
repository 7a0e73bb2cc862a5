"""Score pictures: what the command line, the library's face and everyone else call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from foclip.data import images
from foclip.data.captions import PromptsOf, pair
from foclip.data.images import Source
from foclip.models import Encoder, load_encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, resolve
from foclip.outcome import Failure, Outcome, Progress, no_progress

T = TypeVar("T")

#: Pictures that are scored together.
CHUNK = 32


@dataclass(frozen=True)
class Scored:
    """The figures of one picture.

    Attributes:
        image: Its file, or its place among the pictures.
        score: Mean figure over the prompts.
        scores: Figure per prompt.
        prompts: The prompts.
        model: Name of the encoder.
        twin_score: Mean figure on the hardened twin; None without one.
        gap: Score minus twin score: what a fooled picture has and a genuine one has not.
    """

    image: str
    score: float
    scores: list[float]
    prompts: list[str]
    model: str
    twin_score: float | None = None
    gap: float | None = None


def score(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    *,
    model: str | Encoder | EmbeddingScore = "mini",
    score: str = DEFAULT,
    captions: str | Path | None = None,
    twin: str | Encoder | None = None,
    progress: Progress = no_progress,
) -> Outcome[Scored]:
    """Score pictures for prompts, CLIPScore unless another score is named.

    Args:
        pictures: Files, PIL pictures or pixels (3, H, W), uint8 or float in [0, 1].
        prompts: For all pictures, a list of prompts or the name of a set, or one list per picture;
            None for the score's own.
        model: An encoder, its name, or a score over one.
        score: Name of the score (`foclip scores` lists them), unless `model` is one.
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        twin: The encoder's hardened twin, or its name, which scores each picture beside it.
        progress: Progress.

    Returns:
        `Scored` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts, model or score are unusable.
    """
    chosen = resolve(model, score)
    beside = None if twin is None else chosen.over(load_encoder(twin, chosen.device) if isinstance(twin, str) else twin)
    failures: list[Failure] = []
    sources, own = pair(pictures, prompts, captions, chosen.prompts, failures)
    report = progress("scoring", len(sources))
    scores = [chosen, beside] if beside else [chosen]

    def look(picture: Image.Image) -> tuple[Any, ...]:
        return tuple(each.look(picture) for each in scores)

    results = []
    for some in _groups(images.each(sources, failures, look, 2 * CHUNK), CHUNK):
        numbers, looks = zip(*some, strict=True)
        asked = [own[number] for number in numbers]
        found = [each.read_looks(seen, asked) for each, seen in zip(scores, zip(*looks, strict=True), strict=True)]
        for number, figures, *others in zip(numbers, *found, strict=True):
            name = images.name(sources[number], number + 1)
            scored = Scored(name, mean(figures), figures, list(own[number]), chosen.model)
            for twin_score in map(mean, others):
                scored = replace(scored, twin_score=twin_score, gap=scored.score - twin_score)
            results.append(scored)
            report(number + 1)
    return Outcome(results, failures)


def _groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(items, size)):
        yield some


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
