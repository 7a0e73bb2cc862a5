"""Verdicts on a stream of pictures, in memory: no files are written, and nothing is shared between streams."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from foclip.core.scoring import with_prompts
from foclip.data.prompts import Prompts
from foclip.data.samples import Sample, in_batches, prepare
from foclip.detection.detector import Detection, Detector, Method, Verdict, hardened_of
from foclip.detection.features import Sensitivity
from foclip.detection.probes import HardenedScores, Prober, ProbeSession, Views, require_embedding
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.batching import pass_rows
from foclip.models.scorer import Scorer, Targets
from foclip.models.surroundings import undisturbed
from foclip.outcome import Failure

#: Pictures that are judged together, so that those in doubt fill passes; fewer where a batch gains nothing. Only what
#: the encoders see of them is kept.
CHUNK, SMALL_CHUNK = 256, 64


class BatchDetector:
    """Judges batches of pictures with a detector. It belongs to one stream of pictures, with what that remembers.

    Every picture takes the probes that it needs, and no more. A detector knows the drops of one score; pictures that
    are scored with another score of its encoder are judged without prompts. `preprocess` makes of a picture what
    `__call__` needs of it.

    Raises:
        UsageError: The score has no embedding, the detector belongs to another encoder, its hardened encoders are
            missing, it cannot promise `fpr`, or `seed` is for probes without amounts.
    """

    def __init__(
        self,
        detector: Detector,  # a detector of the score's encoder
        scorer: Scorer,
        method: Method = "combined",  # or "rule" for the paper's two thresholds
        fpr: float | None = None,  # bound on false alarms; None for the detector's own
        # the detector's hardened encoders, or their names, unless they are embedded ones; or what `hardened_of` gives
        hardened: Sequence[str | Encoder] | HardenedScores = (),
        seed: int | None = None,  # of the probes' random amounts; None for the usual amounts
        targets: Callable[[Prompts], Targets] | None = None,  # gives the targets of prompts; None for its own cache
    ) -> None:
        if seed is not None and method == "rule":
            raise UsageError("seed: the rule's only probe is gray, which has no random amount; leave one of them out")
        own = require_embedding(scorer)
        detector.check(own.encoder)
        knows = detector.score == own.info.name
        self.parts = {known: detector.part(method, known, fpr) for known in {knows, False}}
        needed = {probe for part in self.parts.values() for probe in part.statistic.probes}
        scores: HardenedScores = {}
        if needed & detector.hardened.keys():
            scores = hardened if isinstance(hardened, Mapping) else hardened_of(detector, own, hardened)
        self.detector, self.scorer, self.method, self.fpr, self.seed = detector, own, method, fpr, seed
        self._prober, self._captions = Prober(own, scores, seed, targets), method == "combined"
        self.preprocess = self._prober.preprocess

    @undisturbed()
    def __call__(self, views: Sequence[Views], prompts: Sequence[Prompts]) -> list[tuple[Sensitivity, Verdict]]:
        """Sensitivity and verdict of each picture, of which `preprocess` made a view; no prompts are an empty tuple."""
        if not views:
            return []
        known = [bool(asked) and True in self.parts for asked in prompts]
        statistics = [self.parts[each].statistic for each in known]
        session = ProbeSession(self._prober, views, prompts, self._captions and not all(known))

        def measured(place: int) -> Sensitivity:
            return session.found[place] if known[place] else session.found[place].without_prompts()

        waiting: Iterable[int] = range(len(views))
        while due := {place: some for place in waiting if (some := statistics[place].next_probes(measured(place)))}:
            for probes in dict.fromkeys(due.values()):
                places = [place for place, wanted in due.items() if wanted == probes]
                session.probe(probes, places, statistics[places[0]].rows)
            waiting = due
        judge = self.detector.judge
        return [(found, judge(measured(place), self.method, self.fpr)) for place, found in enumerate(session.found)]

    def detections(self, names: Sequence[str], views: Sequence[Views], prompts: Sequence[Prompts]) -> list[Detection]:
        """The records of the verdicts; `names` are what results call the pictures."""
        model, by = self.scorer.model, self.detector.name
        return [
            detection(name, asked, measured, verdict, by, model, self.seed)
            for name, asked, (measured, verdict) in zip(names, prompts, self(views, prompts), strict=True)
        ]


def detection(
    name: str, prompts: Prompts, measured: Sensitivity, verdict: Verdict, detector: str, model: str, seed: int | None
) -> Detection:
    """The record of a verdict."""
    return Detection(
        image=name,
        tampered=verdict.verdict == "tampered",
        verdict=verdict.verdict,
        score=measured.score,
        gray_score=measured.scores.get("gray"),
        probe_score=measured.scores.get(verdict.probe or ""),
        drop=measured.drops.get(verdict.probe or ""),
        drift=measured.drifts.get(verdict.probe or ""),
        p_value=verdict.p_value,
        q_value=verdict.q_value,
        decided_by=verdict.decided_by,
        probe=verdict.probe,
        probes=list(measured.drifts),
        zero_shot_caption=None if prompts else measured.zero_shot_caption,
        detector=detector,
        prompts=list(prompts),
        model=model,
        seed=seed,
    )


def detect(
    samples: Iterable[Sample | Failure],
    detector: Detector,
    scorer: Scorer,
    *,
    method: Method = "combined",
    fpr: float | None = None,
    hardened: Sequence[str | Encoder] = (),
    seed: int | None = None,
) -> Iterator[Detection | Failure]:
    """Tell fooled pictures, with their prompts or without any.

    Pictures are decoded ahead on threads (`foclip.data.samples.prepare`), and only what the encoders see of them is
    kept. A verdict does not depend on the other pictures. The scorer's default prompts stand in for missing ones. All
    other arguments are as for `BatchDetector`.

    Returns:
        An iterator that gives for each sample its verdict or a failure, in order; failures are passed on. Errors are
        raised before a picture is read.
    """
    judge = BatchDetector(detector, scorer, method, fpr, hardened, seed)

    def compute(batch: list[tuple[Sample, Views]]) -> list[Detection]:
        each, views = zip(*batch, strict=True)
        return judge.detections([sample.name for sample in each], views, [sample.prompts for sample in each])

    size = pass_rows(judge.scorer, CHUNK, SMALL_CHUNK)
    return in_batches(prepare(with_prompts(samples, scorer, optional=True), judge.preprocess), size, compute)
