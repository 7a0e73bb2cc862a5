"""Verdicts on pictures that are their own reference, in memory: for encoders without a detector."""

from collections.abc import Callable, Sequence

from foclip.core.detecting import detection
from foclip.core.scoring import with_prompts
from foclip.data.samples import Sample, in_batches, prepare
from foclip.detection.detector import Detection
from foclip.detection.features import Sensitivity
from foclip.detection.peers import FDR, LEAST, judge_peers
from foclip.detection.probes import ROWS, Prober, Views
from foclip.detection.universal import universal
from foclip.errors import UsageError
from foclip.models.scorer import Scorer
from foclip.outcome import Failure


def require_peers(count: int, model: str) -> None:
    """Raise a `UsageError` unless so many pictures can be their own reference."""
    if count < LEAST:
        raise UsageError(
            f"no detector comes with {model}, and {count} pictures are too few to be their own reference, which takes "
            f"{LEAST}: give more, or make a detector with "
            f"foclip calibrate --model {model} --clean DIR --out detector.json"
        )


def detect_among(
    samples: Sequence[Sample | Failure],
    scorer: Scorer,
    *,
    fdr: float | None = None,  # share of false discoveries that is aimed at; None for 10 %
    seed: int | None = None,  # of the probes' random amounts; None for the usual amounts
    advance: Callable[[float], None] = lambda done: None,  # gets the number of pictures measured so far
) -> list[Detection | Failure]:
    """Tell fooled pictures by what the others look like; a picture without prompts among all, also without prompts.

    Pictures without colour, and pictures with prompts that are too few, are no reference. All arguments but `fdr` are
    as for `foclip.core.detecting.detect`. The results are in the order of the samples; failures are passed on.

    Raises:
        UsageError: The score has no embedding, `fdr` is not in (0, 1), or there are too few pictures.
    """
    if fdr is not None and not 0 < fdr < 1:
        raise UsageError(f"fdr: {fdr} is not in (0, 1)")
    prober, weights = Prober(scorer, seed=seed), universal()
    require_peers(sum(isinstance(sample, Sample) for sample in samples), scorer.model)

    def compute(batch: list[tuple[Sample, Views]]) -> list[tuple[Sample, Sensitivity]]:
        each, views = zip(*batch, strict=True)
        prompts = [sample.prompts for sample in each]
        return list(zip(each, prober.measure(views, prompts, weights.probes, captions=True), strict=True))

    found: list[tuple[Sample, Sensitivity] | Failure] = []
    for item in in_batches(prepare(with_prompts(samples, scorer, optional=True), prober.preprocess), ROWS, compute):
        found.append(item)
        advance(len(found))
    measured = [item[1] for item in found if not isinstance(item, Failure)]
    judged = iter(judge_peers(measured, weights, FDR if fdr is None else fdr))
    by = f"these {len(measured)} pictures"
    return [
        item
        if isinstance(item, Failure)
        else detection(item[0].name, item[0].prompts, item[1], next(judged), by, scorer.model, seed)
        for item in found
    ]
