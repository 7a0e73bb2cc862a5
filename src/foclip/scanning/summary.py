"""What a scan found, in numbers: one pass over the parts, in memory that does not grow with them."""

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from scipy.stats import binomtest

from foclip.scanning.output import Folder

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


@dataclass(frozen=True)
class Example:
    """A row that the report shows.

    Attributes:
        shard: Number of its shard.
        place: Its place there.
        row: What the part says of it.
    """

    shard: int
    place: int
    row: dict[str, Any]


@dataclass
class Summary:
    """What a scan found.

    Attributes:
        highest: Upper end of the histogram: the score's scale, or the highest score if that is higher.
        rows: Number of all rows.
        verdicts: How many rows are clean, tampered, undecidable (without colour).
        decided_by: How many each statistic decided.
        probes: For how many tampered pictures each probe told most.
        errors: How many rows have each kind of error.
        examples: The first row with each kind of error.
        unscored: Pictures without a score, because they have no caption.
        scores: Histogram of scores in `BINS` bins from 0 to `highest`, per verdict; "" for no verdict.
        worst: The most suspicious of the tampered pictures: the lowest p-values, then the largest drops (or drifts,
            where there is no score).
    """

    highest: float
    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    decided_by: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unscored: int = 0
    scores: dict[str, np.ndarray] = field(
        default_factory=lambda: {verdict: np.zeros(BINS, dtype=np.int64) for verdict in (*VERDICTS, "")}
    )
    worst: list[Example] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """Rows with a verdict."""
        return sum(self.verdicts.values())

    @property
    def failed(self) -> int:
        """Rows with an error."""
        return sum(self.errors.values())

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
    """Sum up the parts of a scan.

    Args:
        folder: Its folder.
        scale: The score's scale.

    Raises:
        OutputError: A part cannot be read.
    """
    summary = Summary(max([scale, *_highest_scores(folder)]))
    worst: list[tuple[tuple[float, ...], dict[str, Any]]] = []
    for shard, first, batch in folder.rows(COLUMNS):
        columns = {name: batch.column(name) for name in COLUMNS}
        errors, verdicts = columns["error"].to_pylist(), np.array(columns["verdict"].to_pylist(), dtype=object)
        scores = columns["score"].to_numpy(zero_copy_only=False)
        failed = np.array([error is not None for error in errors], dtype=bool)
        scored = ~np.isnan(scores)
        summary.rows += batch.num_rows
        summary.unscored += int((~failed & ~scored).sum())
        for verdict, counts in summary.scores.items():
            chosen = verdicts == (verdict or None)
            if verdict:
                summary.verdicts[verdict] += int(chosen.sum())
            places = np.minimum((scores[chosen & scored] / summary.highest * BINS).astype(np.int64), BINS - 1)
            counts += np.bincount(places, minlength=BINS)
        summary.decided_by.update(filter(None, columns["decided_by"].to_pylist()))
        for place in np.flatnonzero(failed).tolist():
            name = kind(errors[place])
            summary.errors[name] += 1
            told = f"{columns['source'][place]}, {columns['key'][place]}: {errors[place]}"
            summary.examples.setdefault(name, told)
        for place in np.flatnonzero(verdicts == "tampered").tolist():
            row = {name: column[place].as_py() for name, column in columns.items()}
            summary.probes.update([row["probe"]] if row["probe"] else [])
            moved = row["drop"] if row["drop"] is not None else row["drift"]
            entry = (-row["p_value"], -1.0 if moved is None else moved, -shard, -(first + place)), row
            if len(worst) < WORST or entry[0] > worst[0][0]:
                (heapq.heappush if len(worst) < WORST else heapq.heapreplace)(worst, entry)
    ranked = sorted(worst, key=lambda entry: entry[0], reverse=True)
    summary.worst = [Example(int(-shard), int(-place), row) for (*_, shard, place), row in ranked]
    return summary


def _highest_scores(folder: Folder) -> Iterator[float]:
    """The highest score of each part, as far as its metadata tell."""
    for shard in folder.shards():
        path = folder.part(shard.number)
        if not path.exists():
            continue  # `Folder.rows` says so
        with parquet.ParquetFile(path) as part:
            column = part.schema_arrow.get_field_index("score")
            found = (part.metadata.row_group(group).column(column).statistics for group in range(part.num_row_groups))
            yield from (float(each.max) for each in found if each and each.has_min_max)
