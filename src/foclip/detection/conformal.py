r"""Split-conformal p-values: what bounds the false alarms of a statistic.

The p-value of a picture is its rank among clean pictures that took no part in making the statistic (Vovk et al. 2005;
Angelopoulos and Bates, arXiv 2107.07511),

.. math:: p = \frac{1 + \#\{i : x_i \ge x\}}{n + 1}

For a clean picture exchangeable with those n, P(p ≤ α) ≤ α for every α, whatever the distribution. So calling pictures
with p ≤ α tampered has a rate of false alarms of at most α.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

from foclip.detection.features import Sensitivity
from foclip.errors import UsageError
from foclip.files import Share

#: Least pictures that are compared with the clean ones, and how many standard deviations are no chance (1 in 1,000).
COMPARED, BEYOND = 20, 3.1


class Probing(Protocol):
    """Which probes a picture takes."""

    rows: ClassVar[int]  #: Rows of a pass that takes a probe: all pictures may take it, or only some.
    needs_colour: ClassVar[bool] = False  #: Whether it can tell nothing of a picture that is gray already.
    #: Value from which it calls a picture tampered by itself; None if only its p-value decides.
    threshold: ClassVar[float | None] = None

    @property
    def probes(self) -> list[str]:
        """The probes, in the order in which they are taken."""

    def next_probes(self, measured: Sensitivity) -> tuple[str, ...]:
        """The probes that the picture needs next, taken together; none if it needs no more."""


class Statistic(Probing, Protocol):
    """One number per picture, larger for pictures that look fooled: the paper's rule, or the cascade."""

    def value(self, measured: Sensitivity) -> float:
        """The statistic of a picture with which all probes were taken that it needs."""

    def evidence(self, measured: Sensitivity) -> dict[str, float]:
        """What each probe that was taken adds to the suspicion; the largest told most."""


class Ranked(NamedTuple):
    """What clean pictures make of one that was measured."""

    value: float  #: Of the statistic.
    p_value: float  #: Its rank among clean pictures.
    evidence: dict[str, float]  #: As `Statistic.evidence`.


class Ranking(Protocol):
    """A statistic and the clean pictures behind its p-values, which bound the false alarms."""

    @property
    def statistic(self) -> Probing:
        """What says which probes a picture takes."""

    def ranked(self, measured: Sensitivity) -> Ranked:
        """The rank of a picture with which all probes were taken that it needs."""

    def require(self, fpr: float) -> None:
        """Raise a `UsageError` if there are too few clean pictures to promise this bound."""


S = TypeVar("S", bound=Statistic)


def p_value(statistic: float, clean: Sequence[float]) -> float:
    """(1 + #{clean ≥ statistic}) / (n + 1); `clean` are the statistics of n clean pictures, sorted upwards.

    >>> p_value(2.5, [1.0, 2.0, 3.0])
    0.5
    """
    return (1 + len(clean) - bisect_left(clean, statistic)) / (1 + len(clean))


def unlike(p_values: Sequence[float]) -> str | None:
    """What is to be said of pictures that are not like the clean ones behind their p-values; None if they may be.

    Of clean pictures like those at most half have p ≤ 0.5. With a tenth of fooled ones it is 55 %, and a number far
    above that says that the others are not like those either.
    """
    count, low = len(p_values), sum(p <= 0.5 for p in p_values)
    if count < COMPARED or low <= 0.55 * count + BEYOND * math.sqrt(0.55 * 0.45 * count):
        return None
    return (
        f"these pictures are unlike the clean ones of the detector: {low} of {count} have p ≤ 0.5, where half is "
        "expected. Either many were fooled, or they are of another kind, and the bound on false alarms does not hold; "
        "calibrate on clean pictures of their kind"
    )


def pictures_needed(fpr: float) -> int:
    """The least number of clean pictures that can promise a bound on the false-alarm rate."""
    return math.ceil(1 / fpr - 1e-9) - 1


def conformal_threshold(clean: Sequence[float], fpr: float) -> float:
    """The smallest of n clean statistics, sorted upwards, above which p is at most `fpr`, in (0, 1).

    A `UsageError` says if n is too small to promise that (n + 1 < 1 / fpr).
    """
    require_pictures(len(clean), fpr)
    allowed = math.floor(fpr * (len(clean) + 1) + 1e-9) - 1  # clean pictures that may be at least as suspicious
    return clean[len(clean) - 1 - allowed]


def require_pictures(count: int, fpr: float) -> None:
    """Raise a `UsageError` unless so many clean pictures can promise a bound, which lies in (0, 1)."""
    if not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    if fpr * (count + 1) < 1 - 1e-9:
        raise UsageError(
            f"fpr: {count} clean pictures cannot promise {fpr:g}; that takes {pictures_needed(fpr)} "
            f"(the least they can promise is {1 / (count + 1):.3g})"
        )


@dataclass(frozen=True)
class Calibrated(Generic[S]):
    """A statistic with the clean pictures behind its p-values.

    A bound holds for each kind of them, not only on average: pictures saved again, small, or in odd colours may look
    more suspicious (group-conditional coverage: Vovk, "Conditional validity of inductive conformal
    predictors", 2012). A `UsageError` says if values or the curve are missing, or values not sorted.
    """

    statistic: S
    clean: list[float]  #: Its values for clean pictures that had no part in making it, sorted upwards.
    auc: Share  #: Area under the ROC curve on pictures that had no part in making it.
    roc: list[list[Share]] = field(repr=False)  #: Points [false alarms, caught] of that curve.
    #: Values for the same clean pictures in other states that they come in, each sorted upwards.
    states: dict[str, list[float]] = field(repr=False)
    #: Values for further clean pictures by kind, each sorted upwards; more promise lower bounds.
    background: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if any(not kind or any(a > b for a, b in pairwise(kind)) for kind in self.kinds):
            raise UsageError("statistics of clean pictures are missing or not sorted")
        if len(self.roc) < 2 or any(len(point) != 2 for point in self.roc):  # the report draws it
            raise UsageError("roc: a curve has two points or more, of two shares each")

    @property
    def distinct(self) -> int:
        """How many different pictures promise a bound."""
        return len(self.everything)

    @cached_property  # every verdict asks for it
    def everything(self) -> list[float]:
        """Values for all different clean pictures, sorted upwards."""
        return sorted([*self.clean, *(value for kind in self.background.values() for value in kind)])

    @property
    def kinds(self) -> list[list[float]]:
        """Values for every kind of clean pictures."""
        return [self.clean, *self.states.values(), *self.background.values()]

    def p_value(self, statistic: float) -> float:
        """The rank among all different clean pictures, and no less than that among any kind that reaches as high.

        So the bound holds for each kind as far as its number can promise it; beyond that, for all pictures together.
        """
        reached = [kind for kind in self.kinds if statistic <= kind[-1]]
        return max(p_value(statistic, kind) for kind in [self.everything, *reached])

    def ranked(self, measured: Sensitivity) -> Ranked:
        value = self.statistic.value(measured)
        return Ranked(value, self.p_value(value), self.statistic.evidence(measured))

    def require(self, fpr: float) -> None:
        self.threshold(fpr)

    def threshold(self, fpr: float) -> float:
        """As `conformal_threshold`, over all different clean pictures and every kind of them."""
        each = (conformal_threshold(kind, max(fpr, 1 / (len(kind) + 1))) for kind in self.kinds)
        return max(conformal_threshold(self.everything, fpr), *each)
