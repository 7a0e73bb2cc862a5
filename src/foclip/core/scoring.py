"""Score pictures: what the command line, the library's face and everyone else call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from foclip.data.images import Source
from foclip.data.samples import PromptsOf, Sample, collect_samples, in_batches, prepare
from foclip.models import Encoder, load_encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, resolve
from foclip.outcome import Failure, Outcome, Progress, no_progress

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
    samples = collect_samples(pictures, prompts, captions, default=chosen.prompts)
    report = progress("scoring", len(samples))
    scores = [chosen, beside] if beside else [chosen]

    def look(picture: Image.Image) -> tuple[Any, ...]:
        return tuple(each.look(picture) for each in scores)

    def compute(batch: list[tuple[Sample, tuple[Any, ...]]]) -> Iterator[Scored]:
        read, looks = zip(*batch, strict=True)
        asked = [sample.prompts for sample in read]
        found = [each.read_looks(seen, asked) for each, seen in zip(scores, zip(*looks, strict=True), strict=True)]
        for sample, figures, *others in zip(read, *found, strict=True):
            scored = Scored(sample.name, mean(figures), figures, list(sample.prompts), chosen.model)
            for twin_score in map(mean, others):
                scored = replace(scored, twin_score=twin_score, gap=scored.score - twin_score)
            yield scored

    results, failures = [], samples.failures
    for number, found in enumerate(in_batches(prepare(samples, look), CHUNK, compute), start=1):
        if isinstance(found, Failure):
            failures.append(found)
        else:
            results.append(found)
            report(number)
    return Outcome(results, failures)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
