r"""What attackers optimise who know the detector itself: its probes, its weights and its threshold.

The measure of a defence are attackers who minimise its own statistic (Carlini and Wagner 2017, arXiv 1705.07263; Tramèr
et al. 2020, arXiv 2002.08347). A picture passes the cascade if at any step k the log-odds of "tampered" :math:`l_k` lie
below a limit :math:`t_k`: the exit threshold, at last that of the alarm. With raw scores :math:`v` they maximise

.. math:: v(x) - \lambda \max \left(0, \min_k \left(l_k(x) - t_k\right) + m\right)

with a margin m, since rounding to 8 bits moves the log-odds a little. Against probes with random amounts they draw some
amounts themselves, and pay the mean penalty (expectation over transformations: Athalye et al. 2018, arXiv 1707.07397).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from foclip.detection.cascade import Logistic
from foclip.detection.detector import FullDetector
from foclip.detection.features import CASCADE, FEATURES, Change, absolute_drop, drift, drop
from foclip.detection.probes import NO_HARDENED, HardenedScores, Preprocessing
from foclip.detection.transformations import View
from foclip.errors import UsageError
from foclip.models.batching import figures
from foclip.models.scorer import EmbeddingScorer, Inputs, Targets

#: λ: what a unit of log-odds is worth, in units of the score's figure for "no match".
WEIGHT = 0.5
#: m, in units of log-odds.
MARGIN = 0.5


class DetectorAwareScore:
    """A `Scorer` for attacks: raw scores of float pixels are those of a score minus a penalty for detection.

    Raw scores of uint8 pictures, which files hold, are those of the score itself. A `UsageError` says if a hardened
    encoder is missing, or has other weights than the detector's.
    """

    def __init__(
        self,
        scorer: EmbeddingScorer,
        detector: FullDetector,  # a detector of its encoder; its combined statistic with prompts is evaded
        hardened: HardenedScores = NO_HARDENED,  # the same score over the detector's hardened encoders
        seeds: Sequence[int | None] = (None,),  # of the random amounts of probes; None stands for the usual amounts
    ) -> None:
        detector.check(scorer.encoder)
        given = {name: score.encoder.fingerprint for name, score in hardened.items()}
        if missing := [name for name, weights in detector.hardened.items() if given.get(name) != weights]:
            raise UsageError(f"hardened: detector {detector.name} needs {', '.join(missing)}; give them")
        self.scorer, self.cascade = scorer, detector.combined.statistic
        self.hardened = {probe: hardened[probe] for probe in self.cascade.probes if probe in detector.hardened}
        self.limits = [*self.cascade.exit_thresholds, detector.combined.threshold(detector.fpr)]
        self.seeds, self._probes = tuple(seeds), [probe for probe in self.cascade.probes if probe not in self.hardened]
        self._views = [View(probe, scorer.preprocess, seed) for seed in seeds for probe in self._probes]
        self.info, self.model, self.device = replace(scorer.info, name="detector-aware"), scorer.model, scorer.device
        self.parameter_count = scorer.parameter_count
        each = Preprocessing([each.preprocess for each in (scorer, *self.hardened.values())])
        self.preprocess = scorer.preprocess if len(set(each.kinds)) == 1 else each

    @property
    def fingerprint(self) -> str:
        """Digest of the score and of all that is known of the detector."""
        hardened = [each.fingerprint for each in self.hardened.values()]
        known = f"{self.cascade} {self.limits} {hardened} {self.seeds} {WEIGHT} {MARGIN}"
        return f"{self.info.name} {self.scorer.fingerprint} {hashlib.sha256(known.encode()).hexdigest()}"

    def encode_prompts(self, prompts: Sequence[str]) -> Targets:
        return self.scorer.encode_prompts(prompts)

    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        """Raw scores (B, T) minus the penalty, differentiably."""
        return torch.cat([self.compare(own[None], targets) for own in self.embed(pixels)])

    def embed(self, pixels: Inputs) -> Tensor:
        """Unit vectors (B, 1 + V, D): of pictures, under each probe, and of the hardened encoders; of uint8 V is 0."""
        own, *others = pixels if isinstance(pixels, tuple) else [pixels] * (1 + len(self.hardened))
        if not own.is_floating_point():
            return self.scorer.embed(own)[:, None]
        pictures = torch.split(own, 1)
        seen = torch.cat([one for picture in pictures for one in (picture, *(view(picture) for view in self._views))])
        vectors = self.scorer.embed(seen).view(len(own), 1 + len(self._views), -1)
        through = [each.embed(other)[:, None] for each, other in zip(self.hardened.values(), others, strict=True)]
        return torch.cat([vectors, *through], dim=1)

    def compare(self, embeddings: Tensor, targets: Targets) -> Tensor:
        """Raw scores (1, T) of the unit vectors (1, 1 + V, D) of one picture, minus the penalty if V is not 0."""
        (vectors,) = embeddings
        raw = self.scorer.compare(vectors[:1], targets)
        if len(vectors) == 1:
            return raw
        seen, hardened = vectors[1 : 1 + len(self._views)], vectors[1 + len(self._views) :]
        suspicions = []
        for some in seen.view(len(self.seeds), len(self._probes), -1):
            probed = torch.cat([vectors[:1], some, hardened])
            scores = figures(self.scorer, self.scorer.compare(probed, targets)).mean(dim=-1)
            suspicions.append(self.suspicion(probed, scores))
        price = (torch.stack(suspicions) + MARGIN).clamp(min=0).mean() * WEIGHT * self.info.floor / self.info.scale
        return raw - price

    def suspicion(self, embeddings: Tensor, scores: Tensor) -> Tensor:
        """By how much a picture fails to pass, in log-odds: not above 0, and no alarm is raised.

        `embeddings` (1 + V, D) and mean figures `scores` (1 + V,) are the picture's, then those under each probe.
        """
        lost = (formula(scores[0], scores[1:], self.info.floor) for formula in (drop, absolute_drop))
        change = Change(drift(embeddings[0], embeddings[1:]), *lost)
        known = {
            f"{kind}_{name}": value
            for kind in CASCADE[True]
            for name, value in zip([*self._probes, *self.hardened], FEATURES[kind](change), strict=True)
        }
        odds = [_log_odds(step, known) - limit for step, limit in zip(self.cascade.steps, self.limits, strict=True)]
        return torch.stack(odds).amin()


def _log_odds(step: Logistic, known: dict[str, Tensor]) -> Tensor:
    """`Logistic.log_odds`, differentiably."""
    values = torch.stack([known[name] for name in step.inputs])
    mean, scale, weight = (values.new_tensor(each) for each in (step.mean, step.scale, step.weight))
    return step.intercept + (weight * (values - mean) / scale).sum()
