r"""Verdicts without a detector: pictures that are judged together are each other's reference.

Most of them are taken to be clean. Features are standardised by all of them, and the universal statistic gives each a
value; median and scatter of these values make them comparable between encoders. How often clean pictures lie how far
above the median was measured through the encoders that the statistic was fitted on (`Universal.tail`), which gives an
empirical null (Efron 2004) and so a p-value. Benjamini and Hochberg's procedure (1995) turns p-values into q-values:
calling all pictures with q ≤ 0.1 tampered, one in ten of them is expected to be clean. That is an estimate, no promise:
it takes a detector to promise a rate of false alarms (`foclip calibrate`).
"""

from dataclasses import dataclass

import numpy as np

from foclip.detection.universal import Floats, Scatter, Universal

#: Least pictures that are a reference.
LEAST = 40
#: Share of false discoveries that is aimed at unless told otherwise.
FDR = 0.1


@dataclass(frozen=True)
class Peers:
    """Pictures as the reference for each other, or for further ones like them."""

    statistic: Universal
    scatter: Scatter  #: Of their features.
    values: Scatter  #: Of their statistic, (1,) each.

    @classmethod
    def of(cls, statistic: Universal, table: Floats) -> "Peers":
        """The reference that features (N, F) of N pictures make."""
        scatter = Scatter.of(table)
        odds = statistic.log_odds(scatter.standardise(table))
        return cls(statistic, scatter, Scatter.of(odds[:, None]))

    def p_values(self, table: Floats) -> Floats:
        """Of pictures with these features (N, F): the share of clean ones that look as suspicious."""
        odds = self.statistic.log_odds(self.scatter.standardise(table))
        return self.statistic.survival((odds - self.values.centre) / self.values.spread)


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
