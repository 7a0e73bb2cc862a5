"""A calibrated detector: statistics, the clean pictures they were calibrated on, and a bound on false alarms."""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from foclip import files
from foclip.detection.cascade import Cascade
from foclip.detection.conformal import Calibrated, Ranking
from foclip.detection.features import CASCADE, FORMER, LAST, UNIVERSAL, Sensitivity, feature_names, split_name
from foclip.detection.probes import HardenedScores, over_hardened
from foclip.detection.rule import DriftThreshold, TwoThresholds
from foclip.detection.transformations import transformation
from foclip.detection.universal import Reference
from foclip.errors import UsageError
from foclip.files import Share, from_json
from foclip.models import Encoder, embedded
from foclip.models.catalogue import unblurred
from foclip.models.registry import shared_encoder
from foclip.models.scorer import EmbeddingScorer

#: Which statistic decides: the combined one, or the paper's two thresholds.
Method = Literal["combined", "rule"]
#: Version of the file's format.
FORMAT = 1
#: Detectors of the embedded encoders.
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Verdict:
    """What a detector says of a measured picture; names as in `Detection`, and the value of the `statistic` if any."""

    verdict: str
    p_value: float | None
    statistic: float | None
    decided_by: str
    probe: str | None = None
    q_value: float | None = None


@dataclass(frozen=True)
class Detection:
    """The verdict on one picture, and what it rests on. Every output has these names."""

    image: str  #: Its file, or its place among the pictures.
    tampered: bool  #: Whether it was called tampered.
    #: "tampered", "clean", or "undecidable" for a picture without colour in which nothing else is suspicious: no such
    #: picture was calibrated on, and the paper's rule cannot tell anything of it.
    verdict: str
    score: float | None  #: Mean figure over the prompts; None without prompts.
    gray_score: float | None  #: That of the picture in gray; None if the probe "gray" was not taken.
    probe_score: float | None  #: That under `probe`, or with the hardened encoder; None without prompts or probe.
    #: Score lost under `probe`, relatively (`foclip.detection.features`); None without prompts or probe.
    drop: float | None
    drift: float | None  #: How far the embedding moves under `probe`; None without probe.
    p_value: float | None  #: Of the statistic that decided; None if undecidable.
    #: "combined", "rule", or "peers" where the pictures are their own reference; "without prompts" if there were none.
    decided_by: str
    #: The probe that told most. None if none was taken, since the score is too low to have gained anything.
    probe: str | None
    probes: list[str]  #: All probes taken, in their order.
    zero_shot_caption: str | None  #: Without prompts, the caption that the picture fits best; it stood in for them.
    detector: str  #: Name of the detector.
    prompts: list[str]  #: Its prompts; empty without.
    model: str  #: Name of the encoder.
    seed: int | None = None  #: Seed of the probes' random amounts; None for the usual amounts.
    #: Estimated share of false discoveries if it and all that are more suspicious are called tampered. Only where the
    #: pictures are their own reference (`foclip.detection.peers`); None where a detector judges.
    q_value: float | None = None


#: Names of the fields of a verdict, in their order.
FIELDS = tuple(field.name for field in fields(Detection))


@dataclass(frozen=True, kw_only=True)
class Detector(ABC):
    """What `foclip calibrate` writes and `foclip detect` reads."""

    name: str  #: A name for it.
    score: str  #: Name of the score whose drops it knows; it judges any other one of its encoder without prompts.
    model: str  #: Name of the encoder.
    fingerprint: str  #: SHA-256 of the encoder's weights and preprocessing; a detector works with no others.
    fpr: Share  #: Bound on the false-alarm rate that it was made for.
    #: Fingerprints of the hardened encoders that are among the probes, by their names.
    hardened: dict[str, str] = field(default_factory=dict)
    #: Prompts, attacks, number of pictures, versions: what made it.
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def check(self, encoder: Encoder) -> None:
        """Raise a `UsageError` for any encoder but the one it was calibrated on."""
        if encoder.fingerprint != self.fingerprint:
            raise UsageError(
                f"detector {self.name} was calibrated on {self.model} (weights {self.fingerprint[:12]}…), "
                f"not on {encoder.name} ({encoder.fingerprint[:12]}…); "
                f"make one with foclip calibrate --model {encoder.name}"
            )

    def note(self, score: str) -> str | None:
        """What is to be said before pictures are judged for this score; None if the detector is of it."""
        if score == self.score:
            return None
        return (
            f"the detector {self.name} was calibrated on {self.score}, so it judges without prompts; the drops and "
            f"scores of {score} are shown, and decide nothing"
        )

    def part(self, method: Method, with_prompts: bool, fpr: float | None = None) -> Ranking:
        """The statistic that decides, with a bound on false alarms, by default the detector's own.

        A `UsageError` says if there are too few clean pictures to promise the bound, or no such method.
        """
        if method not in get_args(Method):
            raise UsageError(f"method: {method!r} is none of {', '.join(get_args(Method))}")
        part = self._part(method, with_prompts)
        part.require(self.fpr if fpr is None else fpr)
        return part

    @property
    @abstractmethod
    def probes(self) -> list[str]:
        """Names of all probes that a verdict may take."""

    @abstractmethod
    def _part(self, method: Method, with_prompts: bool) -> Ranking: ...

    @abstractmethod
    def _check_probes(self) -> None:
        """Refuse probes that are neither transformations nor its hardened encoders, and features it cannot have."""

    def judge(self, measured: Sensitivity, method: Method = "combined", fpr: float | None = None) -> Verdict:
        """The verdict on a picture with which all probes were taken that the statistic needs; as `part`.

        Further probes change nothing with prompts. Without them, they may choose another caption: take none, but gray.
        """
        part = self.part(method, measured.score is not None, fpr)
        name = method if measured.score is not None else f"{method} without prompts"
        statistic, (value, p, evidence) = part.statistic, part.ranked(measured)
        probe = max(evidence, key=evidence.__getitem__, default=None)
        if measured.gray_already and statistic.needs_colour:
            return Verdict("undecidable", None, None, name, probe)
        threshold = statistic.threshold if fpr is None else None
        tampered = p <= (self.fpr if fpr is None else fpr) if threshold is None else value >= threshold
        if measured.gray_already and not tampered:
            return Verdict("undecidable", None, value, name, probe)
        return Verdict("tampered" if tampered else "clean", p, value, name, probe)

    def save(self, path: Path) -> None:
        """Write it as JSON numbers, atomically."""
        files.write_text(path, files.to_json({"format": FORMAT} | asdict(self)))

    @staticmethod
    def load(path: Path) -> "Detector":
        """Read a detector file, trusting nothing in it.

        Raises:
            UsageError: It is missing, cut off, of another format, or holds what no detector has.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "format" not in content:
                raise UsageError("not a detector file")
            if content.pop("format") != FORMAT:
                raise UsageError(f"not of format {FORMAT}, which this version reads")
            kind: type[Detector] = ReferenceDetector if "with_prompts" in content else FullDetector
            found = from_json(kind, content)
            found._check_probes()
        except OSError as error:
            raise UsageError(f"detector {path}: {error.strerror}") from error
        except UsageError as error:
            raise UsageError(f"detector {path}: {error}; make one anew with foclip calibrate") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"detector {path}: cut off or no JSON ({error}); make one anew with foclip calibrate"
            ) from error
        return found


@dataclass(frozen=True, kw_only=True)
class FullDetector(Detector):
    """Statistics fitted to pictures that were fooled through its own encoder: the paper's rule, and cascades."""

    rule: Calibrated[TwoThresholds]  #: The paper's rule.
    drift: Calibrated[DriftThreshold]  #: What is left of the rule without prompts.
    combined: Calibrated[Cascade]  #: The combined statistic with prompts.
    no_prompt: Calibrated[Cascade]  #: The combined statistic without prompts.

    @property
    def probes(self) -> list[str]:
        """Names of all probes that a verdict may take; gray, the rule's, is the first."""
        parts = (self.rule, self.combined, self.no_prompt)
        return list(dict.fromkeys(probe for part in parts for probe in part.statistic.probes))

    def _part(self, method: Method, with_prompts: bool) -> Ranking:
        parts = (self.no_prompt, self.combined) if method == "combined" else (self.drift, self.rule)
        part: Ranking = parts[with_prompts]
        return part

    def _check_probes(self) -> None:
        for part, with_prompts in ((self.combined, True), (self.no_prompt, False)):
            kinds, (*steps, last) = (*CASCADE[with_prompts], *FORMER[with_prompts]), part.statistic.steps
            for step in steps:
                check_inputs(step.inputs, kinds, self.hardened)
            check_inputs(last.inputs, (*kinds, *LAST[with_prompts]), self.hardened)


@dataclass(frozen=True, kw_only=True)
class ReferenceDetector(Detector):
    """The universal statistic, and what clean pictures look like through its encoder."""

    with_prompts: Reference  #: Clean pictures with prompts.
    without_prompts: Reference  #: The same without.

    @property
    def probes(self) -> list[str]:
        return list(dict.fromkeys([*self.with_prompts.statistic.probes, *self.without_prompts.statistic.probes]))

    def _part(self, method: Method, with_prompts: bool) -> Ranking:
        if method == "rule":
            raise UsageError(
                f"method: detector {self.name} has no thresholds for the paper's rule, which take fooled pictures; "
                "make them with foclip calibrate --full"
            )
        return self.with_prompts if with_prompts else self.without_prompts

    def _check_probes(self) -> None:
        for part, with_prompts in ((self.with_prompts, True), (self.without_prompts, False)):
            check_inputs(part.statistic.inputs, UNIVERSAL[with_prompts], self.hardened)


def check_inputs(inputs: Sequence[str], kinds: Sequence[str], hardened: Collection[str] = ()) -> None:
    """Raise a `UsageError` for features that a file may not name: of no probe, or of none of these kinds."""
    probes = list(dict.fromkeys(split_name(name)[1] for name in inputs))
    for probe in probes:
        if probe not in hardened:
            transformation(probe)
    if unknown := sorted(set(inputs) - set(feature_names(probes, kinds))):
        raise UsageError(f"unknown inputs {unknown[:3]}")


def shipped(encoder: Encoder) -> FullDetector:
    """The detector that comes with an embedded encoder; a `UsageError` if none comes with this one."""
    if (found := shipped_or_none(encoder)) is None:
        raise UsageError(
            f"no detector comes with {encoder.name}: make one with "
            f"foclip calibrate --model {encoder.name} --clean DIR --out detector.json"
        )
    return found


def shipped_or_none(encoder: Encoder) -> FullDetector | None:
    """The detector that comes with an embedded encoder; None if none comes with this one."""
    if encoder.name not in embedded.names() or not (path := SHIPPED / f"{encoder.name}.json").is_file():
        return None
    found = Detector.load(path)
    assert isinstance(found, FullDetector)
    return found


def hardened_scores(scorer: EmbeddingScorer, hardened: Sequence[str | Encoder] = ()) -> HardenedScores:
    """The same score over hardened encoders, or those of these names; by default those that come with its encoder."""
    own = embedded.HARDENED.get(scorer.encoder.name, ())
    if not hardened and own and scorer.encoder.fingerprint == shared_encoder(scorer.encoder.name, "cpu").fingerprint:
        hardened = own
    return {encoder.name: over_hardened(scorer, encoder) for encoder in (_encoder(each, scorer) for each in hardened)}


def hardened_of(detector: Detector, scorer: EmbeddingScorer, hardened: Sequence[str | Encoder] = ()) -> HardenedScores:
    """The same score over a detector's hardened encoders, by the names that the detector has for them.

    A detector file may come from anywhere, so it must not make us load whatever it names: an embedded encoder is found
    by its name, any other one has to be given in `hardened`, or by its name there.

    Raises:
        UsageError: The detector needs a hardened encoder that is not given, or has other weights.
    """
    detector.check(scorer.encoder)
    given = [_encoder(each, scorer) for each in hardened]
    found = {}
    for name, weights in detector.hardened.items():
        known = [*given, _encoder(name, scorer)] if unblurred(name) in embedded.names() else given
        fitting = [encoder for encoder in known if encoder.fingerprint == weights]
        if not fitting:
            others = ", ".join(f"{encoder.name} ({encoder.fingerprint[:12]}…)" for encoder in known)
            raise UsageError(
                f"hardened: detector {detector.name} needs the hardened encoder {name!r} (weights {weights[:12]}…); "
                f"give it{f', and not {others}' if others else ''}"
            )
        found[name] = scorer.with_encoder(fitting[0])
    return found


def _encoder(encoder: str | Encoder, scorer: EmbeddingScorer) -> Encoder:
    return shared_encoder(encoder, str(scorer.device)) if isinstance(encoder, str) else encoder
