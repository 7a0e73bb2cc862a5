"""Fitting a detector: half of the pictures makes the rule and the cascades, the other half calibrates them."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import chain, repeat
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.preprocessing import StandardScaler

from foclip.calibration.examples import AS_IT_IS, Example
from foclip.detection.cascade import Cascade, Logistic
from foclip.detection.conformal import Calibrated, S
from foclip.detection.detector import FullDetector
from foclip.detection.features import CASCADE, LAST, Sensitivity, feature_names, feature_values
from foclip.detection.probes import NO_HARDENED, HardenedScores
from foclip.detection.rule import DriftThreshold, Sweep, in_gray, sweep
from foclip.detection.scenarios import BLATANT, CROPPED
from foclip.errors import UsageError
from foclip.models.scorer import EmbeddingScorer

#: Inverse strength of the L2 penalty on standardised inputs: a few hundred pictures carry no large weights.
PENALTY = 1.0
#: With prompts at most this, divided by the number of pictures: so all weights stay near each other, and who minimises
#: the statistic has to pass every probe, with random amounts too.
EVEN = 40.0
#: Share of each kind of fooled pictures that stays in doubt after a probe of the cascade, …
KEEP = 0.98
#: … as long as no more clean pictures than this stay in doubt after the first probe, the second, and all others. A
#: smaller share would cost less time. But attackers who know the detector could then leave the cascade early, before
#: the probes with random amounts.
IN_DOUBT = (0.4, 0.25, 0.2)
#: Largest normalised score below which no probe is taken, since so little can have been gained; it is lower where more
#: than this share of fooled pictures would lie below it.
SKIP_BELOW, SKIPPED = 0.8, 0.03
#: Rise, in units of the score's floor, that an attack must still have after its file was saved again for the cascade
#: to be fitted to it. For CLIPScore it is 0.2.
STILL_PAYS = 0.8


def make_detector(
    examples: Sequence[Example],
    scorer: EmbeddingScorer,
    fpr: float,
    name: str,
    probes: Sequence[str],
    hardened: HardenedScores = NO_HARDENED,
    provenance: dict[str, Any] | None = None,
) -> tuple[FullDetector, Sweep]:
    """A detector from measured pictures, and the accuracy over τ₁ × τ₂ that its rule was chosen by.

    The examples were measured with the score and the `probes`, which are those of the cascade in their order, of
    `hardened` encoders, too. `provenance` is what else there is to say of where the detector comes from. If in one of
    the halves no attack gained anything, there is nothing to catch: a `UsageError`.
    """
    fit, held = ([e for e in examples if e.held_out == h and (e.counts or not e.fooled)] for h in (False, True))
    fooled_fit = [e for e in fit if e.fooled]
    if not fooled_fit or not any(e.fooled for e in held):
        raise UsageError(
            f"fooled: too few of the {sum(e.fooled for e in examples)} fooled pictures gained anything to learn from "
            "or to measure on; fool more of them, in more steps"
        )
    # The rule is the paper's, for pictures as blatant as the paper's; where there are none, for what there is.
    blatant = [e for e in fooled_fit if e.scenario in BLATANT and e.state == AS_IT_IS] or fooled_fit
    plain = [e for e in fit if not e.fooled and e.state == AS_IT_IS]
    surface = sweep(*(in_gray([e.sensitivity for e in part]) for part in (plain, blatant)))
    rule = surface.best()
    bare_fit, bare_held = ([replace(e, sensitivity=e.sensitivity.without_prompts()) for e in h] for h in (fit, held))
    told = {
        "clean": sum(not e.fooled and e.counts for e in examples),
        "fooled": sum(e.fooled and e.state == AS_IT_IS for e in examples),
        "prompts": _describe({e.prompts for e in examples if not e.fooled}),
        "versions": {package: version(package) for package in ("foclip", "torch", "open_clip_torch", "scikit-learn")},
    }
    detector = FullDetector(
        name=name,
        score=scorer.info.name,
        model=scorer.encoder.name,
        fingerprint=scorer.encoder.fingerprint,
        fpr=fpr,
        rule=_calibrated(rule, held),
        drift=_calibrated(DriftThreshold(rule.tau2), bare_held),
        combined=_calibrated(fit_cascade(fit, probes, with_prompts=True), held),
        no_prompt=_calibrated(fit_cascade(bare_fit, probes, with_prompts=False), bare_held),
        hardened={probe: own.encoder.fingerprint for probe, own in hardened.items()},
        provenance=told | (provenance or {}),
    )
    return detector, surface


def _describe(prompt_sets: set[tuple[str, ...]]) -> list[str] | dict[str, Any]:
    """One prompt set as it is; of several, how many there were and a digest of them."""
    if len(prompt_sets) == 1:
        return list(*prompt_sets)
    sizes = [len(prompts) for prompts in prompt_sets]
    digest = hashlib.sha256(repr(sorted(prompt_sets)).encode()).hexdigest()
    return {"sets": len(prompt_sets), "fewest": min(sizes), "most": max(sizes), "sha256": digest}


def fit_cascade(examples: Sequence[Example], probes: Sequence[str], with_prompts: bool) -> Cascade:
    """The cascade over these probes, in their order, that keeps most fooled pictures in doubt and few clean ones."""
    clean, fooled = ([e for e in examples if e.fooled == f] for f in (False, True))
    paying = [e for e in fooled if e.state == AS_IT_IS or e.rise >= STILL_PAYS]
    usual = [e.sensitivity for e in clean if e.counts and not e.background]
    negatives, positives = ([e.sensitivity for e in part] for part in (clean, fooled))
    kinds = ([e.kind for e in clean], [_stratum(e, with_prompts) for e in fooled])
    inputs = [feature_names(probes[:count], CASCADE[with_prompts]) for count in range(1, len(probes))]
    inputs.append(feature_names(probes, LAST[with_prompts]))
    steps = [fit_logistic(negatives, positives, names, kinds, even=with_prompts) for names in inputs]
    scores = [e.sensitivity.normalised_score for e in fooled if e.state == AS_IT_IS]
    skip_below = min(SKIP_BELOW, float(np.quantile(scores, SKIPPED))) if scores else 0.0
    exit_thresholds = []
    for step, most in zip(steps[:-1], chain(IN_DOUBT, repeat(IN_DOUBT[-1])), strict=False):
        values: dict[str, list[float]] = {}
        for example in paying:
            values.setdefault(_stratum(example, with_prompts), []).append(step.log_odds(example.sensitivity))
        kept = min((float(np.quantile(each, 1 - KEEP)) for each in values.values()), default=-math.inf)
        most_clean = float(np.quantile([step.log_odds(s) for s in usual], 1 - most))
        exit_thresholds.append(max(kept, most_clean))
    return Cascade(skip_below, steps, exit_thresholds)


def _stratum(example: Example, with_prompts: bool) -> str:
    """The stratum by which a fooled picture is weighed.

    Cropped files, one seventh of those that were saved again, would otherwise have almost no weight. Without prompts
    they have no more: before cascades had headings, hardly any was detected there, whatever its weight.
    """
    return f"{example.scenario}, cropped" if with_prompts and example.state == CROPPED else example.kind


def fit_logistic(
    clean: Sequence[Sensitivity],
    fooled: Sequence[Sensitivity],
    inputs: Sequence[str],
    kinds: tuple[Sequence[str], Sequence[str]] | None = None,
    even: bool = True,
) -> Logistic:
    """Fit on pictures whose truth is known: clean and fooled ones weigh the same, and so does each kind of either.

    With `even`, no input weighs much more than others.
    """
    table = np.array([feature_values(sensitivity, inputs) for sensitivity in (*clean, *fooled)])
    clean_kinds, fooled_kinds = kinds or ([""] * len(clean), [""] * len(fooled))
    weights = np.array([*_weights(clean_kinds), *_weights(fooled_kinds)])
    scaler = StandardScaler().fit(table)
    strength = min(PENALTY, EVEN / len(table)) if even else PENALTY
    model = LogisticRegression(C=strength, max_iter=5000)
    model.fit(scaler.transform(table), np.arange(len(table)) >= len(clean), sample_weight=weights * len(table) / 2)
    mean, scale, weight = (each.tolist() for each in (scaler.mean_, scaler.scale_, model.coef_[0]))
    return Logistic(list(inputs), mean, scale, weight, float(model.intercept_[0]))


def _weights(kinds: Sequence[str]) -> list[float]:
    """A weight for each picture, 1 in all, so that every kind weighs the same."""
    counts = Counter(kinds)
    return [1 / (len(counts) * counts[kind]) for kind in kinds]


def _calibrated(statistic: S, held: Sequence[Example]) -> Calibrated[S]:
    """The statistic with what it says of the half that only measures."""
    fooled = [statistic.value(example.sensitivity) for example in held if example.fooled]
    kinds: dict[tuple[str, str], list[float]] = {}
    for example in held:
        if not example.fooled:
            kinds.setdefault((example.state, example.background), []).append(statistic.value(example.sensitivity))
    clean = kinds.pop((AS_IT_IS, ""), [])
    truth, values = np.arange(len(clean) + len(fooled)) >= len(clean), np.array(clean + fooled)
    alarms, caught, _ = roc_curve(truth, values)
    points = np.stack([alarms, caught], axis=1).round(5).tolist()
    background = {name: sorted(each) for (_, name), each in kinds.items() if name}
    states = {state: sorted(each) for (state, name), each in kinds.items() if not name}
    return Calibrated(statistic, sorted(clean), float(roc_auc_score(truth, values)), points, states, background)
