"""Verdicts without a detector: pictures that are judged together are each other's reference.

Four of five are taken to be clean. Features are standardised by all of them, and the universal statistic gives each a
value, its log-odds above their median. How often clean pictures lie how far up was measured through the encoders that
the statistic was fitted on (`Universal.tail`): an empirical null (Efron 2004), which gives p-values. Medians and median
absolute deviations grow a little with the share of fooled pictures, so p-values grow too, and verdicts stay careful.
Benjamini and Hochberg's procedure (1995) makes q-values of them: of all pictures with q ≤ 0.1, one in ten is expected
to be clean. That is an estimate, no promise: it takes a detector to promise a rate of false alarms (`foclip
calibrate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foclip.detection.detector import Verdict
from foclip.detection.features import Sensitivity
from foclip.detection.universal import Floats, Scatter, Universal, Universals

#: Least pictures that are a reference.
LEAST = 40
#: Share of false discoveries that is aimed at unless told otherwise.
FDR = 0.1


@dataclass(frozen=True)
class Peers:
    """Pictures as the reference for each other, or for further ones like them."""

    statistic: Universal
    scatter: Scatter  #: Of their features.
    median: float  #: Of their log-odds.

    @classmethod
    def of(cls, statistic: Universal, table: Floats) -> "Peers":
        """The reference that features (N, F) of N pictures make."""
        scatter = Scatter.of(table)
        odds = statistic.log_odds(scatter.standardise(table))
        return cls(statistic, scatter, float(np.median(odds)))

    def p_values(self, table: Floats) -> Floats:
        """Of pictures with these features (N, F): the share of clean ones that look as suspicious."""
        return self.statistic.survival(self.heights(table))

    def heights(self, table: Floats) -> Floats:
        """How far the log-odds (N,) of pictures lie above the median."""
        return self.statistic.log_odds(self.scatter.standardise(table)) - self.median

    def leading(self, table: Floats) -> list[str]:
        """The probe that tells most of each picture with these features (N, F)."""
        evidence = self.statistic.evidence(self.scatter.standardise(table))
        return [self.statistic.probes[place] for place in evidence.argmax(axis=1).tolist()]


def reference(count: int, model: str) -> str:
    """What is to be said of verdicts without a detector."""
    return (
        f"reference: these {count} pictures, most of them taken to be clean; q is the expected share of clean pictures "
        f"among those called tampered, not a promise. For a bound on false alarms: "
        f"foclip calibrate --model {model} --clean DIR --out detector.json"
    )


def q_values(p_values: Floats) -> Floats:
    """The least share of false discoveries at which each of N pictures is called tampered (Benjamini, Hochberg 1995).

    >>> q_values(np.array([0.5, 0.01, 0.02, 0.9]))
    array([0.66666667, 0.04      , 0.04      , 0.9       ])
    """
    order = np.argsort(-p_values, kind="stable")
    ranks = np.arange(len(p_values), 0, -1)
    found = np.empty(len(p_values))
    found[order] = np.minimum.accumulate(p_values[order] * len(p_values) / ranks)
    return np.minimum(found, 1.0)


def judge_peers(measured: Sequence[Sensitivity], weights: Universals, fdr: float = FDR) -> list[Verdict]:
    """The verdict on each of several pictures with which all probes were taken, by what all look like.

    A picture is judged with its prompts among those that have some, if these are enough for a reference; else without,
    among all. Pictures without colour are no reference, and undecidable.
    """
    colour = [place for place, each in enumerate(measured) if not each.gray_already]
    asked = [place for place in colour if measured[place].score is not None]
    groups = {True: asked, False: colour} if len(asked) >= LEAST else {False: colour}
    found: dict[int, Verdict] = {}
    for with_prompts, places in groups.items():
        statistic = weights.with_prompts if with_prompts else weights.without_prompts
        told = [measured[place] if with_prompts else measured[place].without_prompts() for place in places]
        if len(places) < LEAST:
            break
        table = np.array([statistic.features(each) for each in told])
        peers = Peers.of(statistic, table)
        name = "peers" if with_prompts else "peers without prompts"
        for place, p, probe in zip(places, peers.p_values(table).tolist(), peers.leading(table), strict=True):
            found.setdefault(place, Verdict("clean", p, None, name, probe))
    q = q_values(np.array([verdict.p_value for verdict in found.values()]))
    for place, each in zip(list(found), q.tolist(), strict=True):
        verdict = "tampered" if each <= fdr else "clean"
        found[place] = replace(found[place], verdict=verdict, q_value=each)
    nothing = Verdict("undecidable", None, None, "peers")
    return [found.get(place, nothing) for place in range(len(measured))]
