"""Scores of a stream of pictures, in memory: no files are written, and nothing is shared between streams."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from foclip.data.images import Source
from foclip.data.prompts import Prompts
from foclip.data.samples import PromptsOf, Sample, collect_samples, in_batches, prepare
from foclip.errors import UsageError
from foclip.models.batching import TargetCache, read_alike, read_figures
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


@dataclass(frozen=True)
class ScoredBySeveral:
    """One picture by several scores."""

    image: str  #: Its file, or its place among the pictures.
    scores: dict[str, float]  #: Mean over the prompts, by what the score was called.
    prompts: list[str]  #: The prompts.
    models: dict[str, str]  #: Names of the models behind the scores.


def score_by_several(
    samples: Iterable[Sample | Failure], scorers: Mapping[str, Scorer]
) -> Iterator[ScoredBySeveral | Failure]:
    """Score pictures by several scores; those over one encoder share its passes. Otherwise as `score`.

    A picture is preprocessed once for each encoder. Each score is asked with its own default prompts where a sample has
    none; where one of them needs prompts, a sample without any is a failure.
    """
    groups = defaultdict[int, list[str]](list)
    for name, scorer in scorers.items():
        groups[id(getattr(scorer, "encoder", scorer))].append(name)
    alike, caches = list(groups.values()), {name: TargetCache(scorer) for name, scorer in scorers.items()}
    models = {name: scorer.model for name, scorer in scorers.items()}

    def preprocess(picture: Image.Image) -> list[Inputs]:
        return [scorers[names[0]].preprocess.image(picture) for names in alike]

    def compute(batch: list[tuple[Sample, list[Inputs]]]) -> Iterator[ScoredBySeveral]:
        found: dict[str, list[list[float]]] = {}
        for place, names in enumerate(alike):
            asked = [[caches[name](_asked(sample, scorers[name]) or ()) for sample, _ in batch] for name in names]
            images = [inputs[place] for _, inputs in batch]
            found |= zip(names, read_alike([scorers[name] for name in names], images, asked), strict=True)
        for place, (sample, _) in enumerate(batch):
            scores = {name: mean(found[name][place]) for name in scorers}
            yield ScoredBySeveral(sample.name, scores, list(sample.prompts), models)

    def complete() -> Iterator[Sample | Failure]:
        for sample in samples:
            if isinstance(sample, Failure):
                yield sample
            elif lacking := [name for name, scorer in scorers.items() if _asked(sample, scorer) is None]:
                yield Failure(sample.name, f"{sample.name}: no prompts, and {lacking[0]} needs some")
            else:
                yield sample

    yield from in_batches(prepare(complete(), preprocess), CHUNK, compute)


def _asked(sample: Sample, scorer: Scorer) -> Prompts | None:
    """The prompts that a score is asked with for a sample; None if it needs some and there are none."""
    info = scorer.info
    if info.prompts == "none":
        return ()
    asked = sample.prompts or info.default_prompts
    return asked if asked or info.prompts != "required" else None


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
        elif (asked := _asked(sample, scorer)) is None and not optional:
            yield Failure(sample.name, f"{sample.name}: no prompts, and {info.name} needs some")
        else:
            yield sample if asked is None or asked == sample.prompts else replace(sample, prompts=asked)


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
