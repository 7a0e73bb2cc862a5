"""Scores of a stream of pictures, in memory: no files are written, and nothing is shared between streams."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from foclip.data.images import Source
from foclip.data.samples import PromptsOf, Sample, collect_samples, in_batches, prepare
from foclip.errors import UsageError
from foclip.models.batching import TargetCache, read_figures
from foclip.models.scorer import Inputs, Scorer
from foclip.outcome import Failure, Outcome, mean

#: Pictures that are scored together.
CHUNK = 32


@dataclass(frozen=True)
class Scored:
    """The score of one picture."""

    image: str  #: Its file, or its place among the pictures.
    score: float  #: Mean over the prompts.
    scores: list[float]  #: Score with each prompt; one score if the scorer takes no prompts.
    prompts: list[str]  #: The prompts.
    model: str  #: Name of the model.
    hardened_score: float | None = None  #: Mean score over the hardened encoder; None without one.
    gap: float | None = None  #: Score minus hardened score. It is large for a picture that fooled the encoder.


def score(
    samples: Iterable[Sample | Failure], scorer: Scorer, hardened: Scorer | None = None
) -> Iterator[Scored | Failure]:
    """Score pictures as files hold them, through the model's own preprocessing.

    Pictures are decoded ahead on threads (`foclip.data.samples.prepare`). Not even by rounding does a score depend on
    the other pictures. `hardened` is the same score over a hardened encoder, which scores each picture, too.

    Yields:
        For each sample its score or a failure, in order; failures among the samples are passed on.
    """
    scorers = [scorer] if hardened is None else [scorer, hardened]
    targets = [TargetCache(each) for each in scorers]

    def preprocess(picture: Image.Image) -> list[Inputs]:
        return [each.preprocess.image(picture) for each in scorers]

    def compute(batch: list[tuple[Sample, list[Inputs]]]) -> Iterator[Scored]:
        figures = [
            read_figures(each, [inputs[place] for _, inputs in batch], [cache(s.prompts) for s, _ in batch])
            for place, (each, cache) in enumerate(zip(scorers, targets, strict=True))
        ]
        for (sample, _), scores, *others in zip(batch, *figures, strict=True):
            scored = Scored(sample.name, mean(scores), scores, list(sample.prompts), scorer.model)
            for other in map(mean, others):
                scored = replace(scored, hardened_score=other, gap=scored.score - other)
            yield scored

    yield from in_batches(prepare(with_prompts(samples, scorer), preprocess), CHUNK, compute)


def with_prompts(
    samples: Iterable[Sample | Failure], scorer: Scorer, optional: bool = False
) -> Iterator[Sample | Failure]:
    """Samples with the prompts that a scorer takes.

    A scorer's default prompts stand in for those of a sample that has none. A sample without any is a failure, unless
    the scorer needs none or `optional` says that the caller needs none.
    """
    info = scorer.info
    for sample in samples:
        if isinstance(sample, Failure):
            yield sample
        elif info.prompts == "none":
            yield replace(sample, prompts=()) if sample.prompts else sample
        elif not sample.prompts and info.default_prompts:
            yield replace(sample, prompts=info.default_prompts)
        elif not sample.prompts and info.prompts == "required" and not optional:
            yield Failure(sample.name, f"{sample.name}: no prompts, and {info.name} needs some")
        else:
            yield sample


def samples_for(
    scorer: Scorer,
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    captions: str | Path | None = None,
    *,
    optional: bool = False,
    exclude: Path | None = None,
) -> Outcome[Sample]:
    """`collect_samples` with what a scorer says of prompts: its defaults, and whether it needs any.

    A `UsageError` says if it takes none, but there are some.
    """
    info = scorer.info
    if info.prompts == "none" and not (prompts is None and captions is None):
        raise UsageError(f"prompts: {info.name} takes none; leave them out")
    optional, default = optional or info.prompts != "required", info.default_prompts
    return collect_samples(pictures, prompts, captions, default=default, optional=optional, exclude=exclude)
