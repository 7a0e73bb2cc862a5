r"""The universal statistic: for encoders of which only clean pictures are known, or nothing.

What a fooled picture looks like is the same for all encoders, once each one's own scatter is taken out. So features,
one for each probe, are standardised by the encoder's own pictures, each by median and spread, and clipped; the weights
of a logistic regression over them were fitted once, through several encoders (``training/universal.py``), and ship. A
fooled picture's headings lie above the median under all probes, but below it under one that undoes what was done to the
file since. So each has one weight above its median, and another one below. Of a file that was mirrored since it was
fooled the mirror tells most, and the others little. So a picture is taken as it is, or as mirrored, whichever speaks
more against it: a heading far below the median under the mirror, and far above it under all others, is what no fooled
picture has, but a few clean ones do. Without prompts the largest part does not count, so that no single odd probe
decides. Pictures that are standardised together are ranked together, and no order among them matters. Two things
follow.

- `Reference`: with n clean pictures, a picture is standardised together with them. If it is clean, it is exchangeable
  with them, whatever the distribution, so its rank p among the n + 1 fulfils P(p ≤ α) ≤ α (full conformal prediction:
  Vovk et al. 2005, chapter 2). No half of the pictures is spent on standardisation.
- `foclip.detection.peers`: without any, the pictures to be judged are standardised by themselves.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foclip.detection.conformal import Probing, Ranked, require_pictures
from foclip.detection.features import (
    FEATURES,
    UNCROPPING,
    UNIVERSAL,
    Sensitivity,
    feature_names,
    feature_values,
    split_name,
)
from foclip.detection.probes import ROWS
from foclip.errors import UsageError
from foclip.files import from_json

Floats = npt.NDArray[np.float64]

#: The weights that ship.
SHIPPED = Path(__file__).parent / "shipped" / "universal.json"
#: Standardised features beyond this tell no more: a single odd one does not decide.
CLIP = 8.0
#: Shares of clean pictures in the tail of the statistic.
SURVIVAL = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
#: Least spread: cosines that differ by less are the same for all pictures.
LEAST_SPREAD = 0.01
#: The probe that undoes the mirroring of a file.
MIRROR = "mirror"
#: Most that the other probes together add to the log-odds of a picture that is taken as mirrored.
MIRRORED = 4.0
#: Weight of the heading under a hardened encoder of one's own, with prompts (True) and without.
HARDENED = {True: 1.0, False: 0.5}
#: Weights, with prompts and beside hardened encoders, of the heading under the probe that undoes a crop: above its
#: median, and below it, where it speaks against a picture, together with all others: a crop leaves part of an attack.
UNCROPPED = 0.3, -1.2
#: A normal distribution's standard deviation, in units of its median absolute deviation.
MAD = 1.4826


@dataclass(frozen=True)
class Universal(Probing):
    """Weights of standardised features; it takes all of its probes of every picture.

    A `UsageError` says if an input is no feature, or weights are missing.
    """

    inputs: list[str]  #: Names of features (`foclip.detection.features`).
    weight: list[float]  #: Weight of each standardised input above its median.
    below: list[float]  #: The same below its median.
    intercept: float  #: Constant.
    #: How far above the median clean pictures lie, in log-odds: what the shares `SURVIVAL` of them exceed.
    tail: list[float]
    #: How many of a picture's largest parts do not count, so that single odd probes decide nothing.
    left_out: int
    rows: ClassVar[int] = ROWS

    def __post_init__(self) -> None:
        if unknown := [name for name in self.inputs if split_name(name)[0] not in FEATURES]:
            raise UsageError(f"unknown inputs {unknown[:3]}")
        if not self.inputs or not len(self.weight) == len(self.below) == len(self.inputs):
            raise UsageError("as many weights as inputs are needed, and at least one")
        if not 0 <= self.left_out < len(self.inputs):
            raise UsageError("some inputs have to count")
        if len(self.tail) != len(SURVIVAL) or any(a >= b for a, b in pairwise(self.tail)):
            raise UsageError(f"{len(SURVIVAL)} heights of the tail are needed, each above the one before")

    @cached_property
    def probes(self) -> list[str]:
        return list(dict.fromkeys(split_name(name)[1] for name in self.inputs))

    def next_probes(self, measured: Sensitivity) -> tuple[str, ...]:
        return () if measured.drifts.keys() >= {*self.probes} else tuple(self.probes)

    def with_hardened(self, names: Sequence[str], with_prompts: bool) -> "Universal":
        """The same with the headings under hardened encoders of these names, which speak against a picture too.

        With prompts, that under a probe which undoes a crop is taken besides: a crop leaves little of an attack, and
        hardened encoders alone see little of that.
        """
        each = HARDENED[with_prompts]
        further = {UNCROPPING: UNCROPPED} if names and with_prompts else {}
        further |= dict.fromkeys(names, (each, each / 2))
        inputs = [*self.inputs, *feature_names([*further], UNIVERSAL[with_prompts])]
        weight = [*self.weight, *(above for above, _ in further.values())]
        return replace(self, inputs=inputs, weight=weight, below=[*self.below, *(less for _, less in further.values())])

    def features(self, measured: Sensitivity) -> list[float]:
        """Its inputs for one picture, to six digits: as files hold them, so that all pictures are treated alike."""
        return [float(f"{value:.6g}") for value in feature_values(measured, self.inputs)]

    def log_odds(self, standardised: Floats) -> Floats:
        """Log-odds (N,) of "tampered" of standardised features (N, F)."""
        rising = np.sort(self._parts(standardised), axis=1)
        odds: Floats = rising[:, : len(self.inputs) - self.left_out].sum(axis=1) + self.intercept
        return odds

    def _parts(self, standardised: Floats) -> Floats:
        """What each standardised feature (N, F) adds to the log-odds (N, F)."""
        parts: Floats = np.where(standardised > 0, self.weight, self.below) * standardised
        if self.mirror is None:
            return parts
        as_it_is, mirrored, height = parts, parts.copy(), standardised[:, self.mirror]
        others = np.delete(parts, self.mirror, axis=1).sum(axis=1)
        mirrored *= np.minimum(1, MIRRORED / np.maximum(others, MIRRORED))[:, None]
        mirrored[:, self.mirror] = self.below[self.mirror] * np.minimum(height, 0)
        as_it_is[:, self.mirror] = self.weight[self.mirror] * height
        return np.where((mirrored.sum(axis=1) > as_it_is.sum(axis=1))[:, None], mirrored, as_it_is)

    @cached_property
    def mirror(self) -> int | None:
        """The place of the input that tells files which were mirrored since; None if none does.

        It would be a single odd probe that decides, so where some do not count, there is none.
        """
        if self.left_out:
            return None
        places = [place for place, name in enumerate(self.inputs) if split_name(name)[1] == MIRROR]
        return next((place for place in places if self.below[place] < 0), None)

    def survival(self, heights: Floats) -> Floats:
        """The share of clean pictures whose log-odds lie so far (N,) above the median, or farther.

        Between the heights of the tail, and beyond the last, its logarithm falls linearly: the tail is exponential.
        """
        last, end = self.tail[-1], 1e3
        slope = math.log(SURVIVAL[-1] / SURVIVAL[1]) / (last - self.tail[1])
        known = [-last, *self.tail, last + end]
        shares = [math.log(1 - SURVIVAL[-1]), *map(math.log, SURVIVAL), math.log(SURVIVAL[-1]) + slope * end]
        found: Floats = np.exp(np.interp(heights, known, shares))
        return found

    def evidence(self, standardised: Floats) -> Floats:
        """The parts (N, P) of the log-odds that its P probes add, of standardised features (N, F)."""
        of_probe = [[split_name(name)[1] == probe for probe in self.probes] for name in self.inputs]
        parts: Floats = self._parts(standardised) @ np.array(of_probe, dtype=np.float64)
        return parts


@dataclass(frozen=True)
class Scatter:
    """Where the features of some pictures lie, and how far apart: medians (F,) and spreads (F,)."""

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, table: Floats) -> "Scatter":
        """That of features (N, F) of pictures: a fifth of them may be fooled, and move it little."""
        centre = np.median(table, axis=0)
        return cls(centre, MAD * np.median(np.abs(table - centre), axis=0) + LEAST_SPREAD)

    def standardise(self, table: Floats) -> Floats:
        """Features (N, F) in units of the spread, from the median, clipped."""
        clipped: Floats = np.clip((table - self.centre) / self.spread, -CLIP, CLIP)
        return clipped


@dataclass(frozen=True)
class Reference:
    """Clean pictures through an encoder, in features: what a picture is ranked among by the universal statistic.

    As with `foclip.detection.conformal.Calibrated`, a bound holds for each kind of clean pictures as far as their
    number can promise it, and for all different pictures together. A `UsageError` says if features are missing.
    """

    statistic: Universal
    clean: list[list[float]]  #: Features of n clean pictures, (n, F).
    #: Features of the same pictures in other states that they come in, each in one of them.
    states: list[list[float]] = field(repr=False)
    #: Features of further clean pictures by kind; more promise lower bounds.
    background: dict[str, list[list[float]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        width = len(self.statistic.inputs)
        kinds = [self.clean, *self.background.values()]
        if not all(kinds) or any(len(row) != width for kind in (*kinds, self.states) for row in kind):
            raise UsageError("features of clean pictures are missing")

    @property
    def distinct(self) -> int:
        """How many different pictures promise a bound."""
        return len(self.clean) + sum(map(len, self.background.values()))

    def require(self, fpr: float) -> None:
        require_pictures(self.distinct, fpr)

    def ranked(self, measured: Sensitivity) -> Ranked:
        """The rank among all different clean pictures, and no less than that among any kind that reaches as high."""
        own = np.array([self.statistic.features(measured)])
        # A picture and those that are clean as they are: which of them is the one to be judged makes no difference.
        scatter = Scatter.of(np.concatenate([own, self._kinds[0]]))
        value, *others = (self.statistic.log_odds(scatter.standardise(kind)) for kind in (own, *self._kinds))
        distinct = np.concatenate([others[0], *others[2:]])
        reached = [kind for kind in others if kind.size and value[0] <= kind.max()]
        p = max((1 + np.count_nonzero(kind >= value[0])) / (1 + len(kind)) for kind in (distinct, *reached))
        evidence = self.statistic.evidence(scatter.standardise(own))[0].tolist()
        return Ranked(float(value[0]), float(p), dict(zip(self.statistic.probes, evidence, strict=True)))

    @cached_property
    def _kinds(self) -> list[Floats]:
        """Features of clean pictures as they are, in other states, and of each further kind."""
        kinds = (self.clean, self.states, *self.background.values())
        return [np.array(kind).reshape(-1, len(self.statistic.inputs)) for kind in kinds]


@dataclass(frozen=True)
class Universals:
    """What ships: the statistic with prompts and without, and how it was made."""

    with_prompts: Universal
    without_prompts: Universal
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def probes(self) -> list[str]:
        """Names of all probes."""
        return list(dict.fromkeys([*self.with_prompts.probes, *self.without_prompts.probes]))


@cache
def universal() -> Universals:
    """The universal statistic that ships."""
    return from_json(Universals, json.loads(SHIPPED.read_text(encoding="utf-8")))
