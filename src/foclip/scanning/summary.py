"""What a scan found, in numbers: one pass over the parts, in memory that does not grow with them."""

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as parquet
from scipy.stats import binomtest

from foclip.scanning.output import Folder, Row

#: Bins of the histogram of scores.
BINS = 2500
#: Pictures shown in the report.
WORST = 12
#: Columns that the summary and the report are made of.
COLUMNS = [
    *("key", "source", "caption", "score", "drop", "drift", "p_value", "verdict", "decided_by", "probe"),
    *("zero_shot_caption", "error"),
]
VERDICTS = ("clean", "tampered", "undecidable")


class Example(NamedTuple):
    """A row that the report shows, the number of its shard, and its place there."""

    shard: int
    place: int
    row: Row


@dataclass
class Summary:
    """What a scan found: rows by what they say."""

    highest: float  # upper end of the histogram: the score's scale, or the highest score if that is higher
    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    decided_by: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)  # the one that told most of each tampered picture
    errors: Counter[str] = field(default_factory=Counter)  # by their kind
    examples: dict[str, str] = field(default_factory=dict)  # the first row with each kind of error
    unscored: int = 0  # pictures without a score, because they have no caption
    #: Histogram of scores in `BINS` bins from 0 to `highest`, per verdict; "" for no verdict.
    scores: dict[str, np.ndarray] = field(
        default_factory=lambda: {verdict: np.zeros(BINS, dtype=np.int64) for verdict in (*VERDICTS, "")}
    )
    #: The most suspicious of the tampered pictures: the lowest p-values, then the largest drops (or drifts, where there
    #: is no score).
    worst: list[Example] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """Rows with a verdict."""
        return self.verdicts.total()

    @property
    def failed(self) -> int:
        """Rows with an error."""
        return self.errors.total()

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return self.rows - self.failed - self.unscored

    @property
    def rate(self) -> tuple[float, float, float] | None:
        """Share of the decidable pictures that are tampered, with its exact 95 % interval; None without any."""
        decided = self.verdicts["clean"] + self.verdicts["tampered"]
        if not decided:
            return None
        found = binomtest(self.verdicts["tampered"], decided).proportion_ci()
        return self.verdicts["tampered"] / decided, float(found.low), float(found.high)

    def percentile(self, share: float) -> float | None:
        """The score below which this share of the scored pictures lie, to a bin's width; None without any."""
        counts = np.cumsum(sum(self.scores.values()))
        if not counts[-1]:
            return None
        return float((np.searchsorted(counts, share * counts[-1]) + 1) * self.highest / BINS)

    def as_dict(self) -> dict[str, Any]:
        """What `summary.json` holds."""
        rate = self.rate
        return {
            "rows": self.rows,
            "judged": self.judged,
            "failed": self.failed,
            **{verdict: self.verdicts[verdict] for verdict in VERDICTS},
            "tampered_share": rate and rate[0],
            "tampered_interval": rate and list(rate[1:]),
            "without_caption": self.unscored,
            "score_percentiles": {str(p): self.percentile(p / 100) for p in (5, 25, 50, 70, 75, 90, 95, 99)},
            "decided_by": dict(sorted(self.decided_by.items())),
            "probes": dict(self.probes.most_common()),
            "errors": dict(self.errors.most_common()),
        }


def kind(error: str) -> str:
    """The kind of an error: the message without numbers, names and brackets."""
    return re.sub(r"\d[\d,.]*", "N", re.sub(r"\s*\(.*|(?<=damaged) after .*", "", error, flags=re.DOTALL))


def summarise(folder: Folder, scale: float) -> Summary:
    """Sum up the parts of a scan with a score of this scale.

    Raises:
        OutputError: A part cannot be read.
    """
    summary = Summary(max([scale, *_highest_scores(folder)]))
    for shard, first, batch in folder.rows(COLUMNS):
        rows = batch.to_pandas()
        failed, scored = rows.error.notna(), rows.score.notna()
        summary.rows += len(rows)
        summary.unscored += int((~failed & ~scored).sum())
        summary.verdicts.update(rows.verdict.dropna())
        summary.decided_by.update(rows.decided_by.dropna())
        for verdict, counts in summary.scores.items():
            chosen = rows.verdict == verdict if verdict else rows.verdict.isna()
            scores = rows.score[chosen & scored].to_numpy()
            places = np.minimum((scores / summary.highest * BINS).astype(np.int64), BINS - 1)
            counts += np.bincount(places, minlength=BINS)
        for row in rows[failed].itertuples():
            name = kind(row.error)
            summary.errors[name] += 1
            summary.examples.setdefault(name, f"{row.source}, {row.key}: {row.error}")
        tampered = np.flatnonzero(rows.verdict == "tampered")
        summary.probes.update(rows.probe[tampered].dropna())
        suspects = zip(tampered.tolist(), batch.take(tampered).to_pylist(), strict=True)
        found = [Example(shard, first + place, row) for place, row in suspects]
        summary.worst = heapq.nlargest(WORST, [*summary.worst, *found], _suspicion)
    return summary


def _suspicion(example: Example) -> tuple[float, ...]:
    """By what the most suspicious come first, of equals the one that comes first in the scan."""
    drop, drift = example.row["drop"], example.row["drift"]
    moved = drift if drop is None else drop
    return -example.row["p_value"], -1.0 if moved is None else moved, -example.shard, -example.place


def _highest_scores(folder: Folder) -> Iterator[float]:
    """The highest score of each part, as far as its metadata tell."""
    for shard in folder.shards():
        if folder.misses(shard):
            continue  # `Folder.rows` says so
        with parquet.ParquetFile(folder.part(shard.number)) as part:
            column = part.schema_arrow.get_field_index("score")
            found = (part.metadata.row_group(group).column(column).statistics for group in range(part.num_row_groups))
            yield from (float(each.max) for each in found if each and each.has_min_max)
