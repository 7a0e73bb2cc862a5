"""Timing that neighbours on the machine do not spoil: all in turn in one process, medians, ratios pair by pair."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import psutil
import torch

Row = dict[str, Any]
Call = Callable[[], object]


def now() -> float:
    """Seconds on the clock that counts: on one thread of a CPU the process's own, which neighbours do not turn."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def seconds(call: Call, clock: Callable[[], float] = now) -> float:
    """Seconds of one call."""
    start = clock()
    call()
    return clock() - start


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        low, middle, high = statistics.quantiles([*values, *values], n=4, method="inclusive")
        return cls(middle, low, high)

    def times(self, factor: float) -> "Spread":
        """The same in another unit."""
        return Spread(factor * self.median, factor * self.low, factor * self.high)


def paired(calls: Mapping[str, Callable[[], float]], repeats: int) -> tuple[dict[str, Spread], dict[str, Spread]]:
    """Seconds of calls, and their ratios to the first, each measured in turn `repeats` times.

    Args:
        calls: Each does its work and returns the seconds that count.
        repeats: How often.
    """
    for call in calls.values():  # what is done once: kernels chosen, memory fetched
        call()
    rows = [[call() for call in calls.values()] for _ in range(repeats)]
    spent = {name: Spread.of([row[place] for row in rows]) for place, name in enumerate(calls)}
    ratios = {name: Spread.of([row[place] / row[0] for row in rows]) for place, name in enumerate(calls)}
    return spent, ratios


@dataclass
class Section:
    """A table of the benchmark, and tables that belong to it."""

    title: str
    name: str = "rows"
    rows: list[Row] = field(default_factory=list)
    parts: list["Section"] = field(default_factory=list)

    def add(self, **row: object) -> None:
        """One row; also printed, since the next may take minutes."""
        self.rows.append(row)
        print("  ".join(f"{name}: {_cell(value)}" for name, value in row.items()), flush=True)

    def tables(self) -> dict[str, list[Row]]:
        """Rows by the name of their table, each with the columns of all of them."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        found = {self.name: [{column: row.get(column) for column in columns} for row in self.rows]}
        return found | {name: rows for part in self.parts for name, rows in part.tables().items()}


def _cell(value: object) -> str:
    if isinstance(value, Spread):
        return f"{value.median:.3f} [{value.low:.3f}, {value.high:.3f}]"
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def versions(device: str) -> dict[str, str]:
    """What figures depend on besides the code and what `foclip.runs.provenance` tells."""
    found = {
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU (no GPU measured)",
        "python": platform.python_version(),
    }
    return found | {package: version(package) for package in ("open_clip_torch", "torchmetrics", "pillow")}
