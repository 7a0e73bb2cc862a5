r"""A calibrated detector: a statistic, the clean pictures it was calibrated on, and a bound on false alarms.

The p-value of a picture is its split-conformal rank among clean pictures that took no
part in making the statistic (Vovk et al. 2005; Angelopoulos and Bates, arXiv 2107.07511),

.. math:: p = \frac{1 + \#\{i : x_i \ge x\}}{n + 1}

For a clean picture exchangeable with those n, P(p ≤ α) ≤ α for every α, whatever the
distribution: calling pictures with p ≤ α tampered has at most α false alarms.

The combined detector is a cascade (`foclip.detection.cascade`), and its statistic is that of the cascade as a whole:
which pictures are looked at again is part of a fixed function of the picture, so the bound holds for all of them.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from scipy.stats import beta

from foclip import files
from foclip.detection.cascade import Cascade, Logistic
from foclip.detection.probes import Sensitivity, feature_names, probes_of
from foclip.detection.rule import TwoThresholds
from foclip.detection.transformations import transformation
from foclip.detection.verdict import Verdict
from foclip.errors import UsageError
from foclip.models import Encoder

#: Which statistic decides: the combined one, or the paper's two thresholds.
By = Literal["combined", "rule"]
#: Version of the file's format.
FORMAT = 7
#: Detectors of the embedded encoders.
SHIPPED = Path(__file__).parent / "shipped"


def shipped(encoder: Encoder) -> "Detector":
    """The detector that comes with an embedded encoder.

    Raises:
        UsageError: None comes with this one.
    """
    path = SHIPPED / f"{encoder.name}.json"
    if not path.is_file():
        raise UsageError(
            f"no detector comes with {encoder.name}: make one with "
            f"foclip calibrate --model {encoder.name} --clean DIR --out detector.json"
        )
    return Detector.load(path)


def p_value(statistic: float, clean: Sequence[float]) -> float:
    """(1 + #{clean ≥ statistic}) / (n + 1).

    Args:
        statistic: That of the picture.
        clean: Those of n clean pictures, sorted upwards.

    >>> p_value(2.5, [1.0, 2.0, 3.0])
    0.5
    """
    return (1 + len(clean) - bisect_left(clean, statistic)) / (1 + len(clean))


def conformal_threshold(clean: Sequence[float], fpr: float) -> float:
    """The smallest clean statistic x such that "tampered above x" has p ≤ `fpr`.

    Args:
        clean: Statistics of n clean pictures, sorted upwards.
        fpr: Bound on the false-alarm rate, in (0, 1).

    Raises:
        UsageError: n is too small to promise `fpr` (n + 1 < 1 / fpr).
    """
    if not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    allowed = math.floor(fpr * (len(clean) + 1) + 1e-9) - 1  # clean pictures that may be at least as suspicious
    if allowed < 0:
        needed = math.ceil(1 / fpr - 1e-9) - 1
        raise UsageError(
            f"fpr: {len(clean)} clean pictures cannot promise {fpr:g}; that takes {needed} "
            f"(the least they can promise is {1 / (len(clean) + 1):.3g})"
        )
    return clean[len(clean) - 1 - allowed]


@dataclass(frozen=True)
class Calibrated:
    """A statistic with the clean pictures behind its p-values.

    A bound holds for each kind of them, not only on average: pictures come saved again, small, or in odd colours, and
    one of these kinds may probe more suspicious than the others (group-conditional coverage: Vovk, "Conditional
    validity of inductive conformal predictors", 2012).

    Attributes:
        statistic: Paper's rule or combined.
        clean: Statistics of clean pictures that had no part in making it, sorted upwards.
        states: Those of the same pictures by the other states that they come in, each sorted upwards.
        background: Those of further clean pictures by kind, each sorted upwards; with them, lower bounds can be
            promised.
        auc: Area under the ROC curve on pictures that had no part in making it.
        roc: Points [false alarms, caught] of that curve.
    """

    statistic: TwoThresholds | Cascade
    clean: list[float]
    auc: float
    roc: list[list[float]] = field(repr=False)
    states: dict[str, list[float]] = field(repr=False)
    background: dict[str, list[float]] = field(default_factory=dict, repr=False)

    @property
    def distinct(self) -> int:
        """How many different pictures promise a bound."""
        return len(self.everything)

    @cached_property  # every verdict asks for it
    def everything(self) -> list[float]:
        """Statistics of all different clean pictures, sorted upwards."""
        return sorted([*self.clean, *(value for kind in self.background.values() for value in kind)])

    @property
    def kinds(self) -> list[list[float]]:
        """Statistics of every kind of clean pictures."""
        return [self.clean, *self.states.values(), *self.background.values()]

    def p_value(self, statistic: float) -> float:
        """The rank among all different clean pictures, and no less than that among any kind that reaches as high.

        So the bound holds for pictures of each kind as far as their number can promise it, whatever the others are
        like; beyond that it holds for all different pictures together.
        """
        reached = [kind for kind in self.kinds if statistic <= kind[-1]]
        return max(p_value(statistic, kind) for kind in [self.everything, *reached])

    def threshold(self, fpr: float) -> float:
        """The smallest clean statistic x such that "tampered above x" has p ≤ `fpr`.

        Raises:
            UsageError: As `conformal_threshold`.
        """
        each = (conformal_threshold(kind, max(fpr, 1 / (len(kind) + 1))) for kind in self.kinds)
        return max(conformal_threshold(self.everything, fpr), *each)

    def expected(self, fpr: float) -> tuple[float, float]:
        """What false-alarm rate to expect at a bound: 95 % interval over all that might have been drawn as clean.

        The bound holds on average over calibrations. One calibration has n clean pictures, of which the
        k = ⌊α (n + 1)⌋ most suspicious set the threshold, and a rate that is Beta(k, n + 1 - k) distributed
        (Angelopoulos and Bates, arXiv 2107.07511, section 3.2), or lower where another kind sets it.
        """
        promised = fpr * (len(self.clean) + 1) >= 1 - 1e-9
        count = len(self.clean) if promised else self.distinct
        k = math.floor(fpr * (count + 1) + 1e-9)
        low, high = beta.ppf([0.025, 0.975], k, count + 1 - k)
        return float(low), float(high)


@dataclass(frozen=True)
class Detector:
    """What `foclip calibrate` writes and `foclip detect` reads.

    Attributes:
        name: A name for it.
        score: Name of the score whose drops it knows; it judges any other one of its encoder without prompts.
        model: Name of the encoder.
        fingerprint: SHA-256 of its weights and preprocessing; a detector works with no others.
        fpr: Bound on the false-alarm rate that it was made for.
        rule: The paper's rule.
        drift: What is left of it without prompts, drift in gray alone, against clean pictures measured without prompts.
        combined: The combined detector with prompts.
        promptless: The combined detector without prompts.
        twins: Fingerprints of the hardened twins that the combined detector looks through, by their names.
        provenance: Prompts, attacks, number of pictures, versions: what made it.
    """

    name: str
    score: str
    model: str
    fingerprint: str
    fpr: float
    rule: Calibrated
    drift: Calibrated
    combined: Calibrated
    promptless: Calibrated
    twins: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def check(self, encoder: Encoder) -> None:
        """Refuse any encoder but the one it was calibrated on.

        Raises:
            UsageError: The weights differ.
        """
        if encoder.fingerprint != self.fingerprint:
            raise UsageError(
                f"detector {self.name} was calibrated on {self.model} (weights {self.fingerprint[:12]}…), "
                f"not on {encoder.name} ({encoder.fingerprint[:12]}…); "
                f"make one with foclip calibrate --model {encoder.name}"
            )

    @property
    def probes(self) -> list[str]:
        """Names of all probes that a verdict may take; gray, the rule's, is the first."""
        combined = [probe for part in (self.combined, self.promptless) for probe in _cascade_of(part).probes]
        return list(dict.fromkeys(["gray", *combined]))

    def due(self, sensitivity: Sensitivity, by: By = "combined") -> str | None:
        """The probe that the verdict on a picture needs next; None if it needs no further one."""
        statistic = self.part(by, sensitivity.score is not None).statistic
        if isinstance(statistic, Cascade):
            return statistic.due(sensitivity)
        return None if "gray" in sensitivity.drifts else "gray"

    def first(self, by: By, with_prompts: bool) -> str:
        """The probe that is taken first."""
        statistic = self.part(by, with_prompts).statistic
        return statistic.probes[0] if isinstance(statistic, Cascade) else "gray"

    def part(self, by: By, with_prompts: bool) -> Calibrated:
        """The statistic that decides."""
        if by == "rule":
            return self.rule if with_prompts else self.drift
        return self.combined if with_prompts else self.promptless

    def promise(self, by: By, with_prompts: bool, fpr: float | None = None) -> float:
        """The bound on false alarms that holds: the detector's own, or the one that is asked for.

        Raises:
            UsageError: There are too few clean pictures behind it to promise that, or there is no such statistic.
        """
        if by not in get_args(By):
            raise UsageError(f"by: {by!r} is none of {', '.join(get_args(By))}")
        chosen = self.fpr if fpr is None else fpr
        self.part(by, with_prompts).threshold(chosen)  # refuses what cannot be promised
        return chosen

    def judge(self, sensitivity: Sensitivity, by: By = "combined", fpr: float | None = None) -> Verdict:
        """The verdict on a picture.

        Args:
            sensitivity: Measured with all probes that are `due`, or more.
            by: "combined", or "rule" for the paper's two thresholds.
            fpr: Bound on false alarms instead of the one the detector was made for.

        Raises:
            UsageError: As `promise`.
        """
        with_prompts = sensitivity.score is not None
        bound, part = self.promise(by, with_prompts, fpr), self.part(by, with_prompts)
        decided_by = by if with_prompts else f"{by} without prompts"
        probe = _telling(part.statistic, sensitivity)
        if sensitivity.gray_already and by == "rule":
            return Verdict("undecidable", None, None, decided_by, probe)
        value = part.statistic.statistic(sensitivity)
        p = part.p_value(value)
        # The paper's thresholds are on drop and drift; drift alone is predict by its p-value.
        thresholds = by == "rule" and with_prompts and fpr is None
        tampered = value >= 1 if thresholds else p <= bound
        if sensitivity.gray_already and not tampered:
            return Verdict("undecidable", None, value, decided_by, probe)
        return Verdict("tampered" if tampered else "clean", p, value, decided_by, probe)

    def save(self, path: Path) -> None:
        """Write it as JSON numbers, atomically."""
        content = {"format": FORMAT} | asdict(self)
        files.write_text(path, files.to_json(content))

    @classmethod
    def load(cls, path: Path) -> "Detector":
        """Read a detector file, trusting nothing in it.

        Raises:
            UsageError: The file is missing, cut off, of another format, or holds numbers out of range.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"detector {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"detector {path}: cut off or no JSON ({error})") from error
        try:
            return _parse(content)
        except (LookupError, TypeError, AttributeError) as error:
            raise UsageError(f"detector {path}: not a detector file, or an incomplete one ({error!r})") from error
        except (ValueError, UsageError) as error:
            raise UsageError(f"detector {path}: {error}") from error


def _cascade_of(part: Calibrated) -> Cascade:
    assert isinstance(part.statistic, Cascade)  # made so by `calibrate`, and read so from a file
    return part.statistic


def _telling(statistic: TwoThresholds | Cascade, sensitivity: Sensitivity) -> str | None:
    """The probe that adds most to the suspicion."""
    if isinstance(statistic, TwoThresholds):
        return "gray"
    evidence = statistic.evidence(sensitivity)
    return max(evidence, key=lambda probe: evidence[probe]) if evidence else None


def _parse(content: Any) -> Detector:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}, this version reads {FORMAT}; calibrate anew")
    rule, twins = content["rule"], {str(name): str(weights) for name, weights in content["twins"].items()}
    thresholds = TwoThresholds(**{name: _number(rule["statistic"][name]) for name in ("tau1", "tau2")})
    combined, promptless = (
        _calibrated(content[name], _cascade(content[name]["statistic"], name == "combined", set(twins)))
        for name in ("combined", "promptless")
    )
    return Detector(
        name=str(content["name"]),
        score=str(content["score"]),
        model=str(content["model"]),
        fingerprint=str(content["fingerprint"]),
        fpr=_number(content["fpr"], 0, 1),
        rule=_calibrated(rule, thresholds),
        drift=_calibrated(content["drift"], thresholds),
        combined=combined,
        promptless=promptless,
        twins=twins,
        provenance=dict(content["provenance"]),
    )


def _cascade(content: Any, with_prompts: bool, twins: set[str]) -> Cascade:
    steps = [_logistic(step, with_prompts, twins) for step in content["steps"]]
    doubts = [_number(value) for value in content["doubts"]]
    if not steps or len(doubts) != len(steps) - 1:
        raise ValueError("a cascade needs one threshold of doubt less than steps")
    if any(step.probes != steps[-1].probes[:count] for count, step in enumerate(steps, start=1)):
        raise ValueError("every step of a cascade takes one probe more than the one before")
    return Cascade(_number(content["worth"]), steps, doubts)


def _logistic(content: Any, with_prompts: bool, twins: set[str]) -> Logistic:
    inputs = [str(name) for name in content["inputs"]]
    probes = probes_of(inputs)
    for probe in set(probes) - twins:
        transformation(probe)
    unknown = set(inputs) - set(feature_names(probes, with_prompts))
    if unknown or not inputs:
        raise ValueError(f"unknown inputs {sorted(unknown)}")
    numbers = {name: [_number(value) for value in content[name]] for name in ("mean", "scale", "weight")}
    if any(len(values) != len(inputs) for values in numbers.values()):
        raise ValueError("as many means, scales and weights as inputs are needed")
    if min(numbers["scale"]) <= 0:
        raise ValueError("a scale is not above 0")
    return Logistic(inputs, **numbers, intercept=_number(content["intercept"]))


def _calibrated(content: Any, statistic: TwoThresholds | Cascade) -> Calibrated:
    states, background = (
        {str(kind): _sorted(values) for kind, values in content[name].items()} for name in ("states", "background")
    )
    roc = [[_number(value, 0, 1) for value in point] for point in content["roc"]]
    return Calibrated(statistic, _sorted(content["clean"]), _number(content["auc"], 0, 1), roc, states, background)


def _sorted(content: Any) -> list[float]:
    values = [_number(value) for value in content]
    if not values or values != sorted(values):
        raise ValueError("clean statistics are missing or not sorted")
    return values


def _number(value: Any, low: float = -1e6, high: float = 1e6) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} is not a number in [{low:g}, {high:g}]")
    return float(value)
