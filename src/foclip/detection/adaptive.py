r"""What attackers optimise who know the detector itself: its probes, its weights and its threshold.

The measure of a defence are attackers who minimise its own statistic (Carlini and Wagner 2017, arXiv 1705.07263; Tramèr
et al. 2020, arXiv 2002.08347). A picture passes the cascade if at any step k the log-odds of "tampered" :math:`l_k` lie
below a limit :math:`t_k`: the exit threshold, at last that of the alarm. With raw scores :math:`v` they maximise

.. math:: v(x) - \lambda \max \left(0, \min_k \left(l_k(x) - t_k\right) + m\right)

with a margin m, since rounding to 8 bits moves the log-odds a little. Against probes with random amounts they draw some
amounts themselves, and pay the mean penalty (expectation over transformations: Athalye et al. 2018, arXiv 1707.07397).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foclip.detection.cascade import Logistic
from foclip.detection.detector import FullDetector
from foclip.detection.features import CASCADE, FEATURES, FORMER, Change, absolute_drop, drift, drop, heading
from foclip.detection.probes import NO_HARDENED, HardenedScores, Preprocessing, loss
from foclip.detection.transformations import View
from foclip.errors import UsageError
from foclip.models.batching import figures
from foclip.models.scorer import EmbeddingScorer, Inputs, Targets

#: λ: what a unit of log-odds is worth, in units of the score's figure for "no match".
WEIGHT = 0.5
#: m, in units of log-odds.
MARGIN = 0.5


class Evading(ABC):
    """A `Scorer` for attacks: raw scores of float pixels are those of a score minus a penalty for detection.

    Raw scores of uint8 pictures, which files hold, are those of the score itself. A subclass says how suspicious a
    picture is.
    """

    def __init__(
        self,
        scorer: EmbeddingScorer,
        probes: Sequence[str],  # transformations that the detector takes
        others: Sequence[EmbeddingScorer],  # the score over further encoders that it looks through
        known: object,  # what else the suspicion depends on; its `repr` is part of the fingerprint
        seeds: Sequence[int | None] = (None,),  # of the random amounts of probes; None stands for the usual amounts
        lower: EmbeddingScorer | None = None,  # the lower of the score and this one is raised
    ) -> None:
        self.scorer, self.probes, self.seeds, self._known = scorer, tuple(probes), tuple(seeds), known
        self.looked_through, self.raises_lower = len(others), lower is not None
        self.others = (*others, lower) if lower is not None else tuple(others)  # the last one is not looked through
        self._views = [View(probe, scorer.preprocess, seed) for seed in seeds for probe in probes]
        self.info, self.model, self.device = replace(scorer.info, name="detector-aware"), scorer.model, scorer.device
        self.parameter_count = scorer.parameter_count
        each = Preprocessing([each.preprocess for each in (scorer, *self.others)])
        self.preprocess = scorer.preprocess if len(set(each.kinds)) == 1 else each

    @property
    def fingerprint(self) -> str:
        """Digest of the score and of all that is known of the detector."""
        others = [each.fingerprint for each in self.others]
        known = f"{self._known} {self.probes} {others} {self.seeds} {self.raises_lower} {WEIGHT} {MARGIN}"
        return f"{self.info.name} {self.scorer.fingerprint} {hashlib.sha256(known.encode()).hexdigest()}"

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Any, ...]:
        """The targets of the score, then those of each of the others."""
        return tuple(each.encode_prompts(prompts) for each in (self.scorer, *self.others))

    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        """Raw scores (B, T) minus the penalty, differentiably."""
        seen = self.embed(pixels)
        rows = [tuple(part[row : row + 1] for part in seen) for row in range(len(seen[0]))]
        return torch.cat([self.compare(row, targets) for row in rows])

    def embed(self, pixels: Inputs) -> tuple[Tensor, ...]:
        """Unit vectors (B, D) of pictures, (B, V, D) under each probe, and (B, D') of each of the others.

        Of uint8 pictures only those whose scores are raised.
        """
        own, *rest = pixels if isinstance(pixels, tuple) else [pixels] * (1 + len(self.others))
        looked = list(zip(self.others, rest, strict=True))
        if not own.is_floating_point():
            return (self.scorer.embed(own), *(each.embed(other) for each, other in looked[self.looked_through :]))
        pictures = torch.split(own, 1)
        seen = torch.cat([one for picture in pictures for one in (picture, *(view(picture) for view in self._views))])
        vectors = self.scorer.embed(seen).view(len(own), 1 + len(self._views), -1)
        return (vectors[:, 0], vectors[:, 1:], *(each.embed(other) for each, other in looked))

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> Tensor:
        """Raw scores (1, T) of what `embed` gave for one picture, minus the penalty if it was not uint8."""
        judged = len(embeddings) == 2 + len(self.others)
        own, others = embeddings[0], embeddings[1 + judged :]
        raw = self.scorer.compare(own, targets[0])
        if self.raises_lower:
            raw = torch.minimum(raw, self.others[-1].compare(others[-1], targets[-1]))
        if not judged:
            return raw
        draws = embeddings[1][0].view(len(self.seeds), len(self.probes), own.shape[1])
        looks = others[: self.looked_through]
        suspicions = torch.stack([self.suspicion(torch.cat([own, some]), looks, targets) for some in draws])
        return raw - (suspicions + MARGIN).clamp(min=0).mean() * WEIGHT * self.info.floor / self.info.scale

    @abstractmethod
    def suspicion(self, vectors: Tensor, others: Sequence[Tensor], targets: Targets) -> Tensor:
        """By how much a picture fails to pass, in about the spread of clean ones: not above 0, and no alarm is raised.

        `vectors` (1 + P, D) are the picture's and those under each probe, `others` (1, D') those of each encoder that
        the detector looks through.
        """


class DetectorAwareScore(Evading):
    """For attackers who know a detector; its combined statistic with prompts is evaded.

    A `UsageError` says if a hardened encoder is missing, or has other weights than the detector's.
    """

    def __init__(
        self,
        scorer: EmbeddingScorer,
        detector: FullDetector,  # a detector of its encoder
        hardened: HardenedScores = NO_HARDENED,  # the same score over the detector's hardened encoders
        seeds: Sequence[int | None] = (None,),  # as for `Evading`
        lower: EmbeddingScorer | None = None,  # as for `Evading`
    ) -> None:
        detector.check(scorer.encoder)
        given = {name: score.encoder.fingerprint for name, score in hardened.items()}
        if missing := [name for name, weights in detector.hardened.items() if given.get(name) != weights]:
            raise UsageError(f"hardened: detector {detector.name} needs {', '.join(missing)}; give them")
        self.cascade = detector.combined.statistic
        self.hardened = {probe: hardened[probe] for probe in self.cascade.probes if probe in detector.hardened}
        self.limits = [*self.cascade.exit_thresholds, detector.combined.threshold(detector.fpr)]
        probes = [probe for probe in self.cascade.probes if probe not in self.hardened]
        known = self.cascade, self.limits
        super().__init__(scorer, probes, [*self.hardened.values()], known, seeds, lower)

    def suspicion(self, vectors: Tensor, others: Sequence[Tensor], targets: Targets) -> Tensor:
        """In log-odds."""
        seen = torch.cat([vectors, *others])
        raw = self.scorer.compare(seen, targets[0])
        scores = figures(self.scorer, raw).mean(dim=-1)
        relative, absolute = (formula(scores[0], scores[1:], self.info.floor) for formula in (drop, absolute_drop))
        drifted = drift(seen[0], seen[1:])
        change = Change(drifted, relative, absolute, heading=heading(loss(self.info, raw), drifted))
        known = {
            f"{kind}_{name}": value
            for kind in (*CASCADE[True], *FORMER[True])
            for name, value in zip([*self.probes, *self.hardened], FEATURES[kind](change), strict=True)
        }
        odds = [_log_odds(step, known) - limit for step, limit in zip(self.cascade.steps, self.limits, strict=True)]
        return torch.stack(odds).amin()


def _log_odds(step: Logistic, known: dict[str, Tensor]) -> Tensor:
    """`Logistic.log_odds`, differentiably."""
    values = torch.stack([known[name] for name in step.inputs])
    mean, scale, weight = (values.new_tensor(each) for each in (step.mean, step.scale, step.weight))
    return step.intercept + (weight * (values - mean) / scale).sum()
