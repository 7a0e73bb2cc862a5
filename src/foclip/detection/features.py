r"""Sensitivities, and the features that detectors are made of.

A picture has a mean figure :math:`s` over its prompts and an embedding :math:`E`. Under a probe (a transformation, or a
hardened encoder in place of the encoder) they are :math:`s'` and :math:`E'`. FoCLIP (arXiv 2511.06947) finds that
fooled pictures lose most of their score in grayscale: 63.2 %, originals 8.5 %.

.. math:: \text{drop} = \frac{s - s'}{\max(s, s', s_0)}, \qquad
          \text{absolute drop} = \frac{s - s'}{s_0}, \qquad
          \text{drift} = 1 - \cos(E, E')

:math:`s_0` is the score's floor (0.25 for CLIPScore, a cosine of 0.1), below which relative changes are noise: there
the drop is the change in units of :math:`s_0`. A drop lies in [-1, 1]. The absolute drop tells faint attacks on the
picture's own caption, which the ratio hides: that picture scored before the attack too.

Without prompts, a caption is found zero-shot: a picture made to score high for a caption fits that one best. What the
cosine with it loses, in units of 0.1, tells far more than the drift.

An attack moves the embedding towards its texts, and a probe moves it back. So of a fooled picture all shifts
:math:`E - E'` point along the text :math:`t`, while those of a clean one point anywhere:

.. math:: \text{heading} = \frac{(E - E') \cdot t}{\sqrt{\|E - E'\|^2 + 0.1^2}}

It is a cosine, so its scatter over clean pictures hardly depends on the probe or the encoder. Without prompts, t is
the caption that loses most over all probes. It need not fit the picture: all texts have a direction in common, along
which any attack moves.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Drifts below this are noise, and so would be their logarithms.
LEAST_DRIFT = 1e-3
#: Shifts of the embedding far below this are noise, and point anywhere.
LEAST_SHIFT = 0.1
#: Score for the zero-shot caption, in units of a cosine of 0.1, below which the picture fits none of the captions.
LEAST_FIT = 0.5


def drop(score: Tensor, moved: Tensor, floor: float) -> Tensor:
    """Relative loss of score, elementwise, in [-1, 1]; see the module's equation.

    `score` holds mean figures of pictures, `moved` those under a probe, and `floor` is the score's for "no match".

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


def heading(lost: Tensor, drifted: Tensor) -> Tensor:
    """Cosine of a text with the shift of an embedding, of the cosine that is `lost` and the drift, elementwise."""
    return lost / (2 * drifted + LEAST_SHIFT**2).sqrt()


class Change(NamedTuple):
    """How far a picture moves under a probe, each a float or tensors of one shape; the names are `Sensitivity`'s."""

    drift: Any
    drop: Any = None
    absolute_drop: Any = None
    caption_drop: Any = None
    caption_score: Any = None
    heading: Any = None
    caption_heading: Any = None


@dataclass(frozen=True)
class Sensitivity:
    """What was measured of one picture."""

    gray_already: bool  #: The picture, as the model sees it, has no colour to lose.
    drifts: dict[str, float]  #: Drift under each probe.
    floor: float  #: The score's figure for "no match".
    score: float | None = None  #: Mean figure over the prompts; None without prompts.
    # Under each probe, and empty without prompts:
    scores: dict[str, float] = field(default_factory=dict)  #: Mean figure.
    drops: dict[str, float] = field(default_factory=dict)  #: Relative drop.
    absolute_drops: dict[str, float] = field(default_factory=dict)  #: Absolute drop.
    headings: dict[str, float] = field(default_factory=dict)  #: Heading of the shift with the prompts.
    zero_shot_caption: str | None = None  #: Of a thousand captions the one that fits best; None unless asked for.
    caption_score: float = 0.0  #: Cosine with it, in units of 0.1.
    caption_drops: dict[str, float] = field(default_factory=dict)  #: What that loses under each probe, in these units.
    #: Heading of the shift under each probe with the caption that loses most under all that were taken with it, but for
    #: hardened encoders and `CHOOSING_NONE`.
    caption_headings: dict[str, float] = field(default_factory=dict)

    @property
    def normalised_score(self) -> float:
        """The score in units of its floor; without prompts, that for the zero-shot caption."""
        return self.caption_score if self.score is None else self.score / self.floor

    def change(self, probe: str) -> Change:
        """How far the picture moves under a probe that was taken."""
        drops = self.drops.get(probe), self.absolute_drops.get(probe), self.caption_drops.get(probe)
        aligned = self.headings.get(probe), self.caption_headings.get(probe)
        return Change(self.drifts[probe], *drops, self.caption_score, *aligned)

    def without_prompts(self) -> "Sensitivity":
        """What is known of the picture without its prompts."""
        return replace(self, score=None, scores={}, drops={}, absolute_drops={}, headings={})


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
    "heading": lambda change: change.heading,
    "caption_heading": lambda change: change.caption_heading,
}
#: Those of a cascade with prompts (True), and without, …
CASCADE = {
    True: ("heading", "log_drift", "absolute_drop", "score_gain"),
    False: ("log_drift", "caption_drop", "relative_caption_drop"),
}
#: … and of its last step. Which caption loses most is known once all probes were taken, and not before.
LAST = {True: CASCADE[True], False: ("log_drift", "caption_drop", "caption_heading")}
#: Features of older files, which cascades took before they had headings.
FORMER = {True: ("drift", "relative_drop"), False: ("drift",)}
#: The probe that undoes a crop to 96 %, and nearly undoes one to 94 to 98 %.
UNCROPPING = "shrink96"
#: Probes that choose no caption, as hardened encoders choose none: neither is among those of every detector.
CHOOSING_NONE = (UNCROPPING, "gray")
#: Those of the universal statistic.
UNIVERSAL = {True: ("heading",), False: ("caption_heading",)}


def feature_names(probes: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """Names of all features of these kinds (of `FEATURES`) and probes: `KIND_PROBE`."""
    return [f"{kind}_{name}" for kind in kinds for name in probes]


@lru_cache(maxsize=4096)
def split_name(name: str) -> tuple[str, str]:
    """Kind and probe of a feature's name; both are empty if there is no such kind."""
    return next(((kind, name[len(kind) + 1 :]) for kind in FEATURES if name.startswith(f"{kind}_")), ("", ""))


def feature_values(measured: Sensitivity, names: Sequence[str]) -> list[float]:
    """The features of these names."""
    pairs = [split_name(name) for name in names]
    changes = {probe: measured.change(probe) for probe in {probe for _, probe in pairs}}
    return [FEATURES[kind](changes[probe]) for kind, probe in pairs]
