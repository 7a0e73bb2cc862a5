r"""Sensitivities, and the features that detectors are made of.

A picture has a mean figure :math:`s` over its prompts and an embedding :math:`E`. Under a probe (a transformation, or a
hardened encoder in place of the encoder) they are :math:`s'` and :math:`E'`. FoCLIP (arXiv 2511.06947) finds that
fooled pictures lose most of their score in grayscale: 63.2 %, originals 8.5 %.

.. math:: \text{drop} = \frac{s - s'}{\max(s, s', s_0)}, \qquad
          \text{absolute drop} = \frac{s - s'}{s_0}, \qquad
          \text{drift} = 1 - \cos(E, E')

:math:`s_0` is the score's floor (0.25 for CLIPScore, a cosine of 0.1). Below it the score says "no match", and relative
changes are noise: there the drop is the change in units of :math:`s_0`. A drop lies in [-1, 1]. The absolute drop tells
faint attacks on a picture's own caption, which the ratio hides: the picture scored before the attack too, so a drop
from 0.65 to 0.35 is no larger than what a clean picture loses of 0.35.

Without prompts, a caption is found zero-shot: a picture that was made to score high for a caption fits that caption
best. What the cosine with the best-fitting of a thousand captions loses, in units of a cosine of 0.1, tells far more
than the drift.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Drifts below this are noise, and so would be their logarithms.
LEAST_DRIFT = 1e-3
#: Score for the zero-shot caption, in units of a cosine of 0.1, below which the picture fits none of the captions.
LEAST_FIT = 0.5


def drop(score: Tensor, moved: Tensor, floor: float) -> Tensor:
    """Relative loss of score, elementwise, in [-1, 1]; see the module's equation.

    Args:
        score: Mean figure of pictures, any shape.
        moved: That under a probe, of the same shape.
        floor: The score's figure for "no match".

    >>> drop(torch.tensor([1.0, 0.01, 0.0]), torch.tensor([0.4, 0.0, 0.0]), 0.25)
    tensor([0.6000, 0.0400, 0.0000])
    """
    return (score - moved) / torch.maximum(score, moved).clamp(min=floor)


def absolute_drop(score: Tensor, moved: Tensor, floor: float) -> Tensor:
    """Loss of score in units of the score's floor; arguments as for `drop`."""
    return (score - moved) / floor


def drift(embedding: Tensor, moved: Tensor) -> Tensor:
    """1 - cosine between unit vectors (…, D) and those under a probe: (…,), in [0, 2]."""
    return (1 - (embedding * moved).sum(dim=-1)).clamp(min=0)


class Change(NamedTuple):
    """How far a picture moves under a probe, each a float or tensors of one shape; the names are `Sensitivity`'s."""

    drift: Any
    drop: Any = None
    absolute_drop: Any = None
    caption_drop: Any = None
    caption_score: Any = None


@dataclass(frozen=True)
class Sensitivity:
    """What was measured of one picture.

    Attributes:
        gray_already: The picture, as the model sees it, has no colour to lose.
        drifts: Drift under each probe.
        floor: The score's figure for "no match".
        score: Mean figure over the prompts; None without prompts.
        compared: Mean figure of the picture and that under the probe, for each probe; empty without prompts. The first
            is the score but for the last bit: both come from one product, which rounds as its number of rows has it.
        zero_shot_caption: Of a thousand captions the one that the picture fits best; None unless it was asked for.
        caption_score: Cosine with it, in units of 0.1.
        caption_drops: What that cosine loses under each probe, in the same units.
    """

    gray_already: bool
    drifts: dict[str, float]
    floor: float
    score: float | None = None
    compared: dict[str, tuple[float, float]] = field(default_factory=dict)
    zero_shot_caption: str | None = None
    caption_score: float = 0.0
    caption_drops: dict[str, float] = field(default_factory=dict)

    @property
    def normalised_score(self) -> float:
        """The score in units of its floor; without prompts, that for the zero-shot caption."""
        return self.caption_score if self.score is None else self.score / self.floor

    @property
    def scores(self) -> dict[str, float]:
        """Mean figure under each probe; empty without prompts."""
        return {probe: moved for probe, (_, moved) in self.compared.items()}

    @cached_property
    def drops(self) -> dict[str, float]:
        """Relative drop under each probe; empty without prompts."""
        return self._lost(drop)

    @cached_property
    def absolute_drops(self) -> dict[str, float]:
        """Absolute drop under each probe; empty without prompts."""
        return self._lost(absolute_drop)

    def _lost(self, formula: Callable[[Tensor, Tensor, float], Tensor]) -> dict[str, float]:
        pairs = torch.tensor(list(self.compared.values()), dtype=torch.float32, device="cpu")
        before, moved = pairs.view(len(self.compared), 2).unbind(dim=1)
        return dict(zip(self.compared, formula(before, moved, self.floor).tolist(), strict=True))

    def change(self, probe: str) -> Change:
        """How far the picture moves under a probe that was taken."""
        drops = self.drops.get(probe), self.absolute_drops.get(probe), self.caption_drops.get(probe)
        return Change(self.drifts[probe], *drops, self.caption_score)

    def without_prompts(self) -> "Sensitivity":
        """What is known of the picture without its prompts."""
        return replace(self, score=None, compared={})

    def and_then(self, further: "Sensitivity") -> "Sensitivity":
        """With what further probes of the same picture found."""
        both = {name: getattr(self, name) | getattr(further, name) for name in ("drifts", "compared", "caption_drops")}
        return replace(self, **both)


def _at_least(value: Any, low: float) -> Any:
    return value.clamp(min=low) if isinstance(value, Tensor) else max(low, value)


def _log(value: Any) -> Any:
    return value.log() if isinstance(value, Tensor) else math.log(value)


#: What can be told from a change, by name. A clean picture does not gain score when it is shrunk; one that was cropped
#: after it was fooled does, so there is a feature for gains alone. The score itself is no feature: a picture that
#: matches its caption well is no suspect.
FEATURES: Mapping[str, Callable[[Change], Any]] = {
    "drift": lambda change: change.drift,
    "log_drift": lambda change: _log(_at_least(change.drift, LEAST_DRIFT)),
    "relative_drop": lambda change: change.drop,
    "absolute_drop": lambda change: change.absolute_drop,
    "score_gain": lambda change: _at_least(-change.absolute_drop, 0.0),
    "caption_drop": lambda change: change.caption_drop,
    "relative_caption_drop": lambda change: change.caption_drop / _at_least(change.caption_score, LEAST_FIT),
}
#: Those that are told with prompts, and without.
WITH_PROMPTS = ("drift", "log_drift", "relative_drop", "absolute_drop", "score_gain")
WITHOUT_PROMPTS = ("drift", "log_drift", "caption_drop", "relative_caption_drop")


def feature_names(probes: Sequence[str], with_prompts: bool) -> list[str]:
    """Names of all features of these probes: `KIND_PROBE`, with the kinds of `FEATURES`."""
    return [f"{kind}_{name}" for kind in (WITH_PROMPTS if with_prompts else WITHOUT_PROMPTS) for name in probes]


@lru_cache(maxsize=4096)
def split_name(name: str) -> tuple[str, str]:
    """Kind and probe of a feature's name; both are empty if there is no such kind."""
    return next(((kind, name[len(kind) + 1 :]) for kind in FEATURES if name.startswith(f"{kind}_")), ("", ""))


def feature_values(measured: Sensitivity, names: Sequence[str]) -> list[float]:
    """The features of these names."""
    return [FEATURES[kind](measured.change(probe)) for kind, probe in map(split_name, names)]
