"""Measured values with the range that each should lie in, and how they are printed.

`training.evaluate` and `benchmarks.robust` use it.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """A measured value with the range it should lie in.

    Attributes:
        name: What was measured.
        value: The value.
        low: Least value that passes.
        high: Largest value that passes.
        note: What else is worth knowing.
    """

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    note: str = ""

    @property
    def bounded(self) -> bool:
        """Whether there is a range at all."""
        return self.low > -math.inf or self.high < math.inf

    @property
    def passed(self) -> bool:
        """Whether the value is within its range."""
        return self.low <= self.value <= self.high

    @property
    def bar(self) -> str:
        """The range in words."""
        if not self.bounded:
            return ""
        if self.high == math.inf:
            return f"≥ {self.low:g}"
        return f"≤ {self.high:g}" if self.low == -math.inf else f"{self.low:g} to {self.high:g}"


def show_table(model: str, figures: Sequence[Figure]) -> None:
    """Print a table of figures."""
    table = Table(title=f"{model} (torch {torch.__version__}, {torch.get_num_threads()} threads)")
    for column in ("figure", "value", "bar", ""):
        table.add_column(column, overflow="fold")
    for f in figures:
        name = f"{f.name}\n  [dim]{f.note}[/dim]" if f.note else f.name
        table.add_row(name, f"{f.value:.3f}", f.bar, ("pass" if f.passed else "[bold]FAIL[/bold]") if f.bounded else "")
    Console().print(table)


def finish(model: str, figures: Sequence[Figure], as_json: bool, **settings: object) -> None:
    """Print figures and end the process.

    Args:
        model: Name of the encoder.
        figures: The figures.
        as_json: Print JSON instead of a table.
        settings: Further keys of the JSON document.

    Raises:
        SystemExit: Always; the exit code is 1 if a figure is out of its range.
    """
    if as_json:
        rows = [
            {"name": f.name, "value": f.value, "note": f.note, "bar": f.bar, "passed": f.passed if f.bounded else None}
            for f in figures
        ]
        print(json.dumps({"model": model, **settings, "figures": rows}, indent=2, ensure_ascii=False))
    else:
        show_table(model, figures)
    sys.exit(0 if all(f.passed for f in figures if f.bounded) else 1)
