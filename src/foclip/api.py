"""Functions of `import foclip` whose arguments are given as people have them: files, lists of prompts, names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from foclip.core import detecting, peers, scoring
from foclip.core.scoring import Scored, ScoredBySeveral, samples_for
from foclip.data.images import Source
from foclip.data.samples import PromptsOf, collect_samples
from foclip.detection.detector import Detection, Detector, Method, shipped_or_none
from foclip.detection.probes import over_hardened, require_embedding
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.registry import DEFAULT, load_encoder, resolve
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.outcome import Outcome, Progress, no_progress


def score(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    *,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    captions: str | Path | None = None,
    hardened: str | Encoder | None = None,
    progress: Progress = no_progress,
) -> Outcome[Scored]:
    """Score pictures for prompts, with CLIPScore unless another score is named.

    Args:
        pictures: Files, folders, PIL pictures or pixels (3, H, W), uint8 or float in [0, 1].
        prompts: For all pictures, a list of prompts or the name of a set, or one list per picture; None for the score's
            own.
        model: A scorer, an encoder, or the name of one.
        score: Name of the score (`foclip scores` lists them), unless `model` is a scorer.
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        hardened: A hardened encoder, or its name, which scores each picture, too.
        progress: Shows progress; `foclip.print_progress` prints it.

    Returns:
        `Scored` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts, model or score are unusable.
        UsageError: The score has no encoder that another could replace, or `hardened` is no version of its encoder.
    """
    scorer, second = resolve(model, score), None
    if hardened is not None:
        if not isinstance(scorer, EmbeddingScorer):
            raise UsageError(f"hardened: {scorer.info.name} has no encoder that a hardened one could replace")
        encoder = load_encoder(hardened, scorer.device) if isinstance(hardened, str) else hardened
        second = over_hardened(scorer, encoder)
    samples = samples_for(scorer, pictures, prompts, captions)
    found = scoring.score(samples, scorer, second)
    return Outcome.of(found, samples.failures, progress("scoring", len(samples)))


def score_by_several(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    *,
    scorers: Mapping[str, Scorer],
    captions: str | Path | None = None,
    progress: Progress = no_progress,
) -> Outcome[ScoredBySeveral]:
    """Score pictures by several scores in one go; scores over one encoder share its passes.

    Args:
        pictures: As of `score`.
        prompts: As of `score`; scores that take none are not asked with them.
        scorers: Scorers by what their figures are to be called.
        captions: As of `score`.
        progress: Shows progress; `foclip.print_progress` prints it.

    Returns:
        `ScoredBySeveral` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts are unusable, or no scorer is given.
    """
    if not scorers:
        raise UsageError("scorers: give at least one")
    samples = collect_samples(pictures, prompts, captions, optional=True)
    found = scoring.score_by_several(samples, scorers)
    return Outcome.of(found, samples.failures, progress("scoring", len(samples)))


def detect(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    *,
    detector: Detector | Path | str | None = None,
    method: Method = "combined",
    fpr: float | None = None,
    fdr: float | None = None,
    captions: str | Path | None = None,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    hardened: Sequence[str | Encoder] = (),
    seed: int | None = None,
    progress: Progress = no_progress,
) -> Outcome[Detection]:
    """Tell fooled pictures, with the prompts of a score or without any.

    Args:
        pictures: As for `score`.
        prompts: As for `score`; there may be none.
        detector: Or its file; None for the one that comes with the encoder. Without any, the pictures are their own
            reference: they are measured first, and judged together (`foclip.detection.peers`).
        method: "combined", or "rule" for the paper's two thresholds.
        fpr: Bound on false alarms; None for the detector's own.
        fdr: Without a detector, the share of false discoveries that is aimed at; None for 10 %.
        captions: As for `score`.
        model: A scorer over an encoder, an encoder, or the name of one.
        score: As for `score`.
        hardened: Hardened encoders of the detector, or their names, unless they are embedded ones.
        seed: Seed of the probes' random amounts (of a shift, a crop, a quality). Keep it from those who send pictures:
            attackers who know the detector itself can pass the usual amounts, but hardly any others
            (`foclip.detection.adaptive`). The bound on false alarms was made for the usual amounts, which None stands
            for.
        progress: As for `score`.

    Returns:
        `Detection` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts, model or score are unusable.
        UsageError: The score has no embedding; no detector comes with the encoder, and there are too few pictures to be
            their own reference, or what was asked for takes a detector; the detector belongs to another encoder or
            cannot promise `fpr`; or the rule is to decide with random amounts.
    """
    scorer = require_embedding(resolve(model, score))
    if not isinstance(detector, Detector):
        detector = shipped_or_none(scorer.encoder) if detector is None else Detector.load(Path(detector))
    samples = samples_for(scorer, pictures, prompts, captions, optional=True)
    if detector is None:
        given = {"method": method != "combined", "fpr": fpr is not None, "hardened": bool(hardened)}
        if named := [name for name, is_given in given.items() if is_given]:
            raise UsageError(
                f"{named[0]}: this takes a detector, and none comes with {scorer.encoder.name}: make one with "
                f"foclip calibrate --model {scorer.encoder.name} --clean DIR --out detector.json"
            )
        judged = peers.detect_among(
            samples.results, scorer, fdr=fdr, seed=seed, advance=progress("detecting", len(samples))
        )
        return Outcome.of(judged, samples.failures)
    if fdr is not None:
        raise UsageError(f"fdr: the detector {detector.name} keeps to a bound on false alarms, fpr")
    found = detecting.detect(samples, detector, scorer, method=method, fpr=fpr, hardened=hardened, seed=seed)
    return Outcome.of(found, samples.failures, progress("detecting", len(samples)))
