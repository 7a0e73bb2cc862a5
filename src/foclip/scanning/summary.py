"""What a scan found, in numbers: one pass over the parts, in memory that does not grow with them."""

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from foclip.scanning.parts import Folder

#: Bins of the histogram of scores, from 0 to the score's scale.
BINS = 2500
#: Pictures shown in the report.
WORST = 12
#: Columns that a summary is made of.
COLUMNS = (
    "key",
    "source",
    "caption",
    "score",
    "drift",
    "p_value",
    "tampered",
    "decided_by",
    "error",
    "width",
    "height",
)
VERDICTS = ("clean", "tampered", "undecidable")


@dataclass(frozen=True)
class Found:
    """A row that is worth a probe.

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
        rows: All of them.
        verdicts: How many are clean, tampered, undecidable (without colour).
        decided_by: How many each statistic decided.
        errors: How many rows have each kind of error.
        examples: The first row of each kind.
        uncaptioned: Pictures without a caption, and so without a score.
        scores: Per verdict, how many scores lie in each of `BINS` bins from 0 to `scale`.
        scale: The score's scale.
        worst: Tampered pictures with the highest scores, and where there are none the largest drifts.
    """

    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    decided_by: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    uncaptioned: int = 0
    scores: dict[str, np.ndarray] = field(default_factory=lambda: {v: np.zeros(BINS, dtype=np.int64) for v in VERDICTS})
    scale: float = 1.0
    worst: list[Found] = field(default_factory=list)

    @property
    def predict(self) -> int:
        """Rows with a verdict."""
        return sum(self.verdicts.values())

    @property
    def failed(self) -> int:
        """Rows with an error."""
        return sum(self.errors.values())

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
        return float((np.searchsorted(counts, share * counts[-1]) + 1) * self.scale / BINS)

    def as_dict(self) -> dict[str, Any]:
        """What `summary.json` holds."""
        rate = self.rate
        return {
            "rows": self.rows,
            "predict": self.predict,
            "failed": self.failed,
            **{verdict: self.verdicts[verdict] for verdict in VERDICTS},
            "tampered_share": rate and rate[0],
            "tampered_interval": rate and list(rate[1:]),
            "without_caption": self.uncaptioned,
            "score_percentiles": {str(p): self.percentile(p / 100) for p in (5, 25, 50, 70, 75, 90, 95, 99)},
            "decided_by": dict(sorted(self.decided_by.items())),
            "errors": dict(self.errors.most_common()),
        }


def kind(error: str) -> str:
    """What errors of one kind share: no numbers, no names, nothing in brackets."""
    return re.sub(r"\d[\d,.]*", "N", re.sub(r"\s*\(.*|(?<=damaged) after .*", "", error, flags=re.DOTALL))


def summarise(folder: Folder, scale: float) -> Summary:
    """Sum up the parts of a scan.

    Args:
        folder: Its folder.
        scale: The score's scale.

    Raises:
        OutputError: A part cannot be read.
    """
    summary = Summary(scale=scale)
    worst: list[tuple[float, float, int, int, dict[str, Any]]] = []
    for shard, first, batch in _batches(folder):
        columns = {name: batch.column(name) for name in batch.schema.names}
        tampered = columns["tampered"].to_numpy(zero_copy_only=False)
        errors = columns["error"].to_pylist()
        scores = columns["score"].to_numpy(zero_copy_only=False)
        judged = np.array([error is None for error in errors], dtype=bool)
        flags = {"tampered": tampered == True, "clean": tampered == False}  # noqa: E712 (None is neither)
        flags["undecidable"] = judged & ~flags["tampered"] & ~flags["clean"]
        summary.rows += batch.num_rows
        summary.uncaptioned += int((judged & np.isnan(scores)).sum())
        for verdict, chosen in flags.items():
            summary.verdicts[verdict] += int(chosen.sum())
            own = scores[chosen & ~np.isnan(scores)]
            places = np.minimum((own / scale * BINS).astype(np.int64), BINS - 1)
            summary.scores[verdict] += np.bincount(places, minlength=BINS)
        summary.decided_by.update(reason for reason in columns["decided_by"].to_pylist() if reason)
        for place in np.flatnonzero(~judged).tolist():
            name = kind(errors[place])
            summary.errors[name] += 1
            told = f"{columns['source'][place]}, {columns['key'][place]}: {errors[place]}"
            summary.examples.setdefault(name, told)
        for place in np.flatnonzero(flags["tampered"]).tolist():
            row = {name: column[place].as_py() for name, column in columns.items()}
            entry = (row["score"] if row["score"] is not None else -1.0, row["drift"] or 0.0, -shard, -(first + place))
            if len(worst) < WORST or entry > worst[0][:4]:
                (heapq.heappush if len(worst) < WORST else heapq.heapreplace)(worst, (*entry, row))
    summary.worst = [Found(-shard, -place, row) for _, _, shard, place, row in sorted(worst, reverse=True)]
    return summary


def _batches(folder: Folder) -> Iterator[tuple[int, int, pa.RecordBatch]]:
    """Number of the shard, place of the first row in it, and rows."""
    current, first = -1, 0
    for shard, batch in folder.rows(COLUMNS):
        current, first = shard, first if shard == current else 0
        yield shard, first, batch
        first += batch.num_rows
