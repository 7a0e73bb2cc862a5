"""Estimates with 95 % intervals, for which all pictures of a photo are resampled together; and groups of a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest, bootstrap, rankdata, wilcoxon

Values = npt.ArrayLike
Floats = npt.NDArray[np.float64]
#: Rows of a table: what each column holds.
Rows = list[dict[str, Any]]

#: Draws of the bootstrap.
RESAMPLES = 1000
#: What the mean of a column is called in a summary, and its format.
COLUMNS = {
    "score": ("score", ".3f"),
    "lowest": ("lowest prompt", ".3f"),
    "spread": ("spread over prompts", ".3f"),
    "psnr": ("PSNR / dB", ".1f"),
    "ssim": ("SSIM", ".3f"),
    "delta_e": ("ΔE", ".2f"),
    "delta_e99": ("ΔE, worst", ".1f"),
    "flip": ("FLIP", ".3f"),
    "flip99": ("FLIP, worst", ".3f"),
    "contrast": ("contrast", ".2f"),
    "drop": ("drop in gray", ".1%"),
    "drift": ("drift in gray", ".3f"),
    "gain": ("score gain", "+.3f"),
    "rise": ("rise", "+.3f"),
    "tampered": ("called tampered", ".1%"),
}


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval over independent photos; an end is NaN if there is only one photo."""

    value: float
    low: float
    high: float
    photos: int

    def changed(self, change: Callable[[float], float]) -> "Estimate":
        """The estimate of a monotonic function of the figure."""
        low, high = sorted((change(self.low), change(self.high)))
        return Estimate(change(self.value), low, high, self.photos)

    def __format__(self, spec: str) -> str:
        """Figure and interval, each by `spec`, "–" for NaN: ``f"{estimate:.2f}"`` → ``0.48 [0.45, 0.51]``."""
        if np.isnan(self.value):
            return "–"
        value, low, high = (format(number, spec).replace("%", " %") for number in (self.value, self.low, self.high))
        return value if np.isnan(self.low) else f"{value} [{low}, {high}]"


def groups(table: pd.DataFrame, *columns: str) -> dict[Any, pd.DataFrame]:
    """Parts of a table by the value of a column, or by the tuple of several, in order of appearance."""
    return dict(iter(table.groupby(columns[0] if len(columns) == 1 else list(columns), sort=False)))


def quantities(who: dict[str, Any], values: Mapping[str, object]) -> Rows:
    """Rows of a long table: a quantity and its value in each, beside the columns of `who`."""
    return [who | {"quantity": quantity, "value": value} for quantity, value in values.items()]


def percent(share: float, spec: str = ".0f") -> str:
    """A share as text: ``percent(0.427, ".1f")`` → ``42.7 %``."""
    return f"{100 * share:{spec}} %"


def estimate(statistic: Callable[..., float], *columns: Values, photos: Values) -> Estimate:
    """A statistic of columns (N,) and its percentile bootstrap interval (`scipy.stats.bootstrap`).

    Rows with NaN in a column are left out. Whole photos, of which N are named, are resampled, each with all of its
    rows, because crops of one photo, or several choices of prompts for it, are not independent.
    """
    data = [np.asarray(column, dtype=np.float64) for column in columns]
    known = ~np.any(np.isnan(data), axis=0)
    data = [column[known] for column in data]
    names, numbers = np.unique(np.asarray(photos, dtype=str)[known], return_inverse=True)
    if not len(names):
        return Estimate(np.nan, np.nan, np.nan, 0)
    value = float(statistic(*data))
    if len(names) < 2:
        return Estimate(value, np.nan, np.nan, len(names))
    rows = [np.flatnonzero(numbers == number) for number in range(len(names))]

    def resampled(drawn: npt.NDArray[np.int64]) -> float:
        chosen = np.concatenate([rows[number] for number in drawn])
        return statistic(*(column[chosen] for column in data))

    options: dict[str, Any] = {"vectorized": False, "method": "percentile", "rng": np.random.default_rng(0)}
    found = bootstrap((np.arange(len(names)),), resampled, n_resamples=RESAMPLES, **options).confidence_interval
    return Estimate(value, float(found.low), float(found.high), len(names))


def mean(values: Values, photos: Values) -> Estimate:
    """Arithmetic mean."""
    return estimate(np.mean, values, photos=photos)


def means(part: pd.DataFrame, *columns: str) -> dict[str, object]:
    """Cells of a summary: the number of pictures, and the mean of each of some `COLUMNS`."""
    cells: dict[str, object] = {"pictures": len(part)}
    for column in columns:
        name, spec = COLUMNS[column]
        cells[name] = f"{mean(part[column], part.photo):{spec}}"
    return cells


def pairs(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Rows of the same pictures side by side; columns of the second table end in `_other`."""
    return a.merge(b, on=["picture", "photo"], suffixes=("", "_other"))


def lead(a: pd.DataFrame, b: pd.DataFrame, column: str) -> Estimate:
    """Mean difference between two conditions, picture by picture: the first minus the second."""
    both = pairs(a, b)
    return mean(both[column] - both[f"{column}_other"], both.photo)


def relative_gain(before: Values, after: Values, photos: Values) -> Estimate:
    """Ratio of the means, minus 1. It is stable even if single scores are near 0."""
    return estimate(lambda b, a: _ratio(a.mean(), b.mean()) - 1, before, after, photos=photos)


def relative_drop(score: Values, transformed: Values, photos: Values) -> Estimate:
    """Share of the mean score that a transformation removes."""
    return estimate(lambda s, t: 1 - _ratio(t.mean(), s.mean()), score, transformed, photos=photos)


def share(flags: Values, photos: Values) -> Estimate:
    """Share of true flags, one per photo, with the exact (Clopper–Pearson) interval: a bootstrap of 8 of 8 has none."""
    values = np.asarray(flags, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan, 0)
    found = binomtest(int(values.sum()), len(values)).proportion_ci()
    count = len(np.unique(np.asarray(photos, dtype=str)))
    return Estimate(float(values.mean()), float(found.low), float(found.high), count)


def effect(original: Values, fooled: Values, photos: Values) -> Estimate:
    """Cohen's d of fooled pictures against their originals: difference of the means over the pooled deviation."""

    def d(a: Floats, b: Floats) -> float:
        return _ratio(b.mean() - a.mean(), np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))

    return estimate(d, original, fooled, photos=photos)


def signed_rank(original: Values, fooled: Values, photos: Values) -> float:
    """p-value of the signed-rank test (Wilcoxon 1945) over the mean change of each photo."""
    change = pd.Series(np.asarray(fooled) - np.asarray(original)).groupby(np.asarray(photos, dtype=str)).mean()
    return float(wilcoxon(change).pvalue) if len(change) > 1 and change.abs().max() > 0 else 1.0


def auc(original: Values, fooled: Values, photos: Values) -> Estimate:
    """Probability that a fooled picture lies above an original (area under the ROC curve); 0.5 is no separation."""
    return estimate(area, original, fooled, photos=photos)


def area(original: Values, fooled: Values) -> float:
    """The area under the ROC curve alone (from ranks: Mann and Whitney 1947)."""
    a, b = np.asarray(original), np.asarray(fooled)
    ranks = rankdata(np.concatenate([a, b]))[len(a) :]
    return float((ranks.sum() - len(b) * (len(b) + 1) / 2) / (len(a) * len(b)))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else float("nan")
