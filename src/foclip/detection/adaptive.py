r"""What an attacker optimises who knows the detector itself: its probes, its weights and its threshold.

"Adaptive" attackers who only survive the probes leave the detector's own statistic to chance; one who is to be the
measure of a defence minimises that (Carlini and Wagner 2017, arXiv 1705.07263; Tramèr et al. 2020, arXiv 2002.08347).

A picture passes the cascade (`foclip.detection.cascade`) if at any of its steps k the log-odds of "tampered"
:math:`l_k` lie below a limit :math:`t_k`: that of doubt, or for the last step that of the alarm. So with the
values :math:`v` of the score he maximises

.. math:: v(x) - \lambda \max \left(0, \min_k \left(l_k(x) - t_k\right) + m\right)

with a margin m, since rounding to 8 bits moves the log-odds a little. Against probes whose amounts are drawn at random
he draws some himself, and pays the mean over them (expectation over transformations: Athalye et al. 2018,
arXiv 1707.07397).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foclip.detection.cascade import Cascade, Logistic
from foclip.detection.detector import Detector
from foclip.detection.probes import LEAST_DRIFT, NO_HARDENED, HardenedScores, drift, drop
from foclip.detection.transformations import View
from foclip.errors import UsageError
from foclip.models.resampler import Resampler
from foclip.models.scores import EmbeddingScore, Prompts, Score

#: λ: what a unit of log-odds is worth, in units of the score's figure for "no match".
WEIGHT = 0.5
#: m, in units of log-odds.
MARGIN = 0.5


class DetectorAwareScore(Score):
    """A score less the suspicion that a detector has; its values for the attacks alone, read it is the score itself.

    Args:
        score: The score.
        detector: A detector of its encoder, whose combined statistic with prompts is evaded.
        twins: What the detector looks through.
        draws: With which numbers probes are drawn (`transformation`); None for the usual ones.

    Raises:
        UsageError: A twin is missing, or has other weights than the detector's.
    """

    name = "evading"

    def __init__(
        self,
        score: EmbeddingScore,
        detector: Detector,
        twins: HardenedScores = NO_HARDENED,
        draws: Sequence[int | None] = (None,),
    ) -> None:
        detector.check(score.encoder)
        cascade = detector.combined.statistic
        assert isinstance(cascade, Cascade)
        missing = [
            name
            for name, weights in detector.twins.items()
            if name not in twins or twins[name].encoder.fingerprint != weights
        ]
        if missing:
            raise UsageError(f"twins: detector {detector.name} looks through {', '.join(missing)}; give them")
        self.score, self.cascade = score, cascade
        self.twins = {probe: twins[probe] for probe in cascade.probes if probe in detector.twins}
        self.limits = [*cascade.doubts, detector.combined.threshold(detector.fpr)]
        self.info, self.preprocess = replace(score.info, name=self.name), score.preprocess
        self.model, self.device, self.parameter_count = score.model, score.device, score.parameter_count
        self.draws, self._probes = tuple(draws), [probe for probe in cascade.probes if probe not in self.twins]
        self._views = [View(probe, score.encoder.preprocess, draw) for draw in draws for probe in self._probes]

    @property
    def fingerprint(self) -> str:
        twins = [twin.fingerprint for twin in self.twins.values()]
        known = f"{self.cascade} {self.limits} {twins} {self.draws} {WEIGHT} {MARGIN}"
        return f"{self.name} {self.score.fingerprint} {hashlib.sha256(known.encode()).hexdigest()}"

    def rows(self, many: int, few: int) -> int:
        return self.score.rows(many, few)

    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        return self.score.seen(height, width)

    def resampler(self, height: int, width: int) -> Resampler | None:
        return self.score.resampler(height, width)

    def look(self, picture: Image.Image) -> Any:
        return self.score.look(picture)

    def of_looks(self, looks: Sequence[Any], prompts: Sequence[Prompts]) -> list[Tensor]:
        return self.score.of_looks(looks, prompts)

    def values(self, pixels: Sequence[Tensor], prompts: Sequence[Prompts], rows: int) -> list[Tensor]:
        many = 1 + len(self._views)
        looked = [picture for own in pixels for picture in (own, *(view(own[None])[0] for view in self._views))]
        seen = self.score.encoder.encode_pixels(looked, rows * many).view(len(pixels), many, -1)
        through = [twin.encoder.encode_pixels(pixels, rows) for twin in self.twins.values()]
        twins = torch.stack(through, dim=1) if through else seen[:, :0]
        found = []
        for each, hardened, own in zip(seen, twins, prompts, strict=True):
            targets = self.score.remembered(own)
            suspicions = []
            for some in each[1:].view(len(self.draws), len(self._probes), -1):
                embeddings = torch.cat([each[:1], some, hardened])
                figures = self.score.figures(self.score.compare(embeddings, targets)).mean(dim=-1)
                suspicions.append(self.suspicion(embeddings, figures))
            price = (torch.stack(suspicions) + MARGIN).clamp(min=0).mean() * WEIGHT * self.floor / self.scale
            found.append(self.score.compare(each[:1], targets) - price)
        return found

    def suspicion(self, embeddings: Tensor, figures: Tensor) -> Tensor:
        """By how much the picture fails to pass, in log-odds: not above 0, and no alarm is raised.

        Args:
            embeddings: Unit vectors (1 + V, D) of the picture and of the V looks at it, those through twins last.
            figures: Mean figures (1 + V,) over the prompts.
        """
        names = [*self._probes, *self.twins]
        drifts = drift(embeddings[0], embeddings[1:])
        lost = (figures[0] - figures[1:]) / self.floor
        kinds = {
            "drift": drifts,
            "logdrift": drifts.clamp(min=LEAST_DRIFT).log(),
            "drop": drop(figures[0], figures[1:], self.floor),
            "lost": lost,
            "gain": (-lost).clamp(min=0),
        }
        known = {
            f"{kind}_{name}": value for kind, each in kinds.items() for name, value in zip(names, each, strict=True)
        }
        odds = [_log_odds(step, known) - limit for step, limit in zip(self.cascade.steps, self.limits, strict=True)]
        return torch.stack(odds).amin()


def _log_odds(step: Logistic, known: dict[str, Tensor]) -> Tensor:
    """`Logistic.statistic`, differentiably."""
    values = torch.stack([known[name] for name in step.inputs])
    mean, scale, weight = (values.new_tensor(each) for each in (step.mean, step.scale, step.weight))
    return step.intercept + (weight * (values - mean) / scale).sum()
