"""Detect fooled pictures: what the command line, metrics and the library's face call."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image

from foclip.data import images
from foclip.data.captions import PromptsOf, pair
from foclip.data.images import Source
from foclip.detection.detector import By, Detector, shipped
from foclip.detection.hardened import hardened_of
from foclip.detection.probes import FEW_ROWS, NO_HARDENED, ROWS, SOME_ROWS, HardenedScores, ProbeSession, Sensitivity
from foclip.detection.verdict import Detection, Verdict
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, Prompts, resolve
from foclip.outcome import Failure, Outcome, Progress, no_progress

#: Pictures held in memory at a time.
CHUNK = 64


def detect(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    *,
    detector: Detector | Path | str | None = None,
    by: By = "combined",
    fpr: float | None = None,
    captions: str | Path | None = None,
    model: str | Encoder | EmbeddingScore = "mini",
    score: str = DEFAULT,
    twins: Sequence[str | Encoder] = (),
    draw: int | None = None,
    progress: Progress = no_progress,
) -> Outcome[Detection]:
    """Tell fooled pictures, with the prompts of a score or without any.

    Args:
        pictures: Files, PIL pictures or pixels (3, H, W), uint8 or float in [0, 1].
        prompts: For all pictures, a list of prompts or the name of a set, or one list per picture;
            None for the score's own, or none.
        detector: Or its file; None for the one that comes with the encoder.
        by: "combined", or "rule" for the paper's two thresholds.
        fpr: Bound on false alarms; None for the detector's own.
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        model: An encoder, its name, or a score over one.
        score: Name of the score, unless `model` is one.
        twins: Hardened twins that the detector looks through, or their names, unless they are embedded ones.
        draw: A number with which the amounts of probes (of a shift, a crop, a quality) are drawn, known to nobody who
            sends pictures: one who knows the detector itself can pass the usual probes, hardly any others
            (`foclip.detection.adaptive`). The bound on false alarms was made for the usual ones, which None stands for.
        progress: Progress.

    Returns:
        `Detection` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts, model or score are unusable.
        UsageError: The detector belongs to another encoder or cannot promise `fpr`, or the rule's probe is to be drawn.
    """
    check_draw(draw, by)
    chosen = resolve(model, score)
    if not isinstance(detector, Detector):
        detector = shipped(chosen.encoder) if detector is None else Detector.load(Path(detector))
    detector.check(chosen.encoder)
    through = hardened_of(detector, chosen, twins) if by == "combined" else None
    failures: list[Failure] = []
    sources, own = pair(pictures, prompts, captions, chosen.prompts, failures, optional=True)
    for with_prompts in {bool(asked) and detector.score == chosen.name for asked in own}:
        detector.promise(by, with_prompts, fpr)
    report = progress("detecting", len(sources))
    results = []
    entries = images.readable(sources, failures)
    while chunk := list(islice(entries, CHUNK)):
        numbers, read = zip(*chunk, strict=True)
        found = predict(detector, chosen, read, [own[number] for number in numbers], by, fpr, through, draw)
        for number, (sensitivity, verdict) in zip(numbers, found, strict=True):
            name = images.name(sources[number], number + 1)
            results.append(
                Detection.of(
                    name,
                    sensitivity,
                    verdict,
                    detector=detector.name,
                    prompts=own[number],
                    model=chosen.model,
                    seed=draw,
                )
            )
        report(numbers[-1] + 1)
    return Outcome(results, failures)


def check_draw(draw: int | None, by: By) -> None:
    """Refuse to draw probes that have no amount.

    Raises:
        UsageError: The rule decides, which looks at gray alone.
    """
    if draw is not None and by == "rule":
        raise UsageError("draw: the rule looks at gray alone, where there is nothing to draw; leave one of them out")


def predict(
    detector: Detector,
    score: EmbeddingScore,
    pictures: Sequence[Image.Image],
    prompts: Sequence[Prompts],
    by: By = "combined",
    fpr: float | None = None,
    twins: HardenedScores | None = None,
    draw: int | None = None,
) -> Iterator[tuple[Sensitivity, Verdict]]:
    """Sensitivity and verdict of each RGB picture with its prompts; drops of a score it does not know do not count.

    Every picture takes the probes that are due, and no more.

    Args:
        detector: A detector of the score's encoder.
        score: The score.
        pictures: RGB pictures of any sizes; those of the model's own size are looked at as they are.
        prompts: The prompts of each; an empty tuple for none.
        by: As for `detect`.
        fpr: As for `detect`.
        twins: What the detector looks through; None for embedded twins.
        draw: As for `detect`.
    """
    if not pictures:
        return
    with_prompts = [bool(asked) and detector.score == score.name for asked in prompts]
    combined = by == "combined"
    if twins is None:
        twins = hardened_of(detector, score) if combined else NO_HARDENED
    seen = ProbeSession(score, pictures, prompts, twins, guess=combined and not all(with_prompts), draw=draw)

    def known(place: int) -> Sensitivity:
        return seen.found[place] if with_prompts[place] else seen.found[place].without_prompts()

    waiting: Iterable[int] = range(len(pictures))
    while due := {place: probe for place in waiting if (probe := detector.due(known(place), by))}:
        for probe in dict.fromkeys(due.values()):
            places = [place for place, wanted in due.items() if wanted == probe]
            first = [place for place in places if probe == detector.first(by, with_prompts[place])]
            seen.probe(probe, first, SOME_ROWS if combined else ROWS)  # the rule looks at every picture
            seen.probe(probe, [place for place in places if place not in first], FEW_ROWS)
        waiting = due
    for place, sensitivity in enumerate(seen.found):
        yield sensitivity, detector.judge(known(place), by, fpr)
