"""Records: the figures of a study or benchmark as JSON, with all that they depend on. Pages are made of them.

A record is a file of `docs/figures`. `tables` has lists of rows; a cell is a text, a number, an object with `value` and
its interval `low` and `high`, or null. `made` says which code made it, when and where, and `parts` on what it rests.
`save` writes one, and `benchmarks.docs` puts records into pages.
"""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from foclip import files
from foclip.runs import provenance

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
#: A cell, and a row: what each column holds.
Cell = str | int | float | dict[str, float] | None
Row = dict[str, Cell]
#: A figure as studies print it: `+0.12 [+0.08, +0.18]`, `62 % [24 %, 91 %]`, `1,013`.
NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?(?: %)?"
PRINTED = re.compile(rf"({NUMBER})(?: \[({NUMBER}), ({NUMBER})\])?")


@dataclass(frozen=True)
class Record:
    """Figures and all that they depend on."""

    title: str  #: What was measured, or the title of the study.
    command: str  #: The command, with the last parts of paths only.
    settings: dict[str, Any]  #: What the command line does not tell.
    made: dict[str, Any]  #: As `foclip.runs.provenance.made` gives it.
    parts: dict[str, str]  #: Those parts of `foclip.runs.provenance.parts` that the figures rest on.
    tables: dict[str, list[dict[str, Any]]]  #: Rows by the name of their table.

    def outdated(self, now: Mapping[str, str]) -> list[str]:
        """Names of parts that are others `now` than when the figures were made."""
        return [name for name, value in self.parts.items() if now.get(name) != value]


def read(name: str, folder: Path = FIGURES) -> Record:
    """A record by name; a `UsageError` says what is wrong with its file, an `OSError` that there is none."""
    return files.from_json(Record, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def write(name: str, record: Record, folder: Path = FIGURES) -> Path:
    """Write a record, each row on a line of its own."""
    path = folder / f"{name}.json"
    files.write_text(path, _text(asdict(record)) + "\n")
    return path


def save(
    name: str,
    title: str,
    tables: Mapping[str, Sequence[Mapping[str, object]]],
    *,
    models: Sequence[str] = (),
    detectors: Sequence[str] = (),
    attacked: bool = True,
    settings: Mapping[str, Any] | None = None,
    folder: Path = FIGURES,
) -> Path:
    """Write what a benchmark has measured to `folder`/`name`.json, and return that path.

    Further tables of the same code, day, machine and settings stay in the file.

    Args:
        name: Of the record.
        title: What was measured.
        tables: Rows by the name of their table. Cells may also be objects with `value` or `median`, `low` and `high`,
            as `foclip.studies.harness.statistics.Estimate` and `benchmarks.timing.Spread`, and numbers of NumPy.
        models: Embedded encoders that figures rest on.
        detectors: Shipped detectors that they rest on, by the names of their encoders, or "universal".
        attacked: Whether they are of fooled pictures.
        settings: What the command line does not tell.
        folder: Where records are.
    """
    now = provenance.parts()
    wanted = [*(f"weights {each}" for each in models if f"weights {each}" in now), *["attack"][:attacked]]
    wanted += [f"detector {each}" for each in detectors]
    rows = {
        table: [{column: cell(value) for column, value in row.items()} for row in each]
        for table, each in tables.items()
    }
    module = getattr(sys.modules["__main__"].__spec__, "name", None) or "benchmarks"
    told = command(["python", "-m", module.removesuffix(".__main__"), *sys.argv[1:]])
    new = Record(title, told, dict(settings or {}), provenance.made(), {part: now[part] for part in wanted}, rows)
    if (folder / f"{name}.json").is_file():
        old = read(name, folder)
        if (old.made, old.parts, old.settings) == (new.made, new.parts, new.settings):
            new = replace(new, tables=old.tables | new.tables)
    return write(name, new, folder)


def command(words: Sequence[str]) -> str:
    """A command line without folders: of each path, the last part, with the kind of model before it (`local-dir:`)."""
    parts = (word.rpartition(":") for word in words)
    short = [f"{kind}{colon}{PurePath(path).name or path}" for kind, colon, path in parts]
    return " ".join(f"'{word}'" if " " in word else word for word in short)


def cell(value: Any) -> Cell:
    """A cell of what was measured, to six digits. NaN becomes null, and an interval without ends is left out."""
    if isinstance(value, dict):
        return value
    if hasattr(value, "low"):
        middle = cell(value.value if hasattr(value, "value") else value.median)
        ends = cell(value.low), cell(value.high)
        return middle if None in (middle, *ends) else {"value": middle, "low": ends[0], "high": ends[1]}  # type: ignore[dict-item]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return str(value).lower() if isinstance(value, bool) else value
    return None if math.isnan(value) else float(f"{value:.6g}")


def parsed(text: object) -> Cell:
    """The cell that a printed figure shows; any other text stays what it is, and a dash is null."""
    if text == "–":
        return None
    found = PRINTED.fullmatch(str(text))
    if not found:
        return str(text)
    value, low, high = (each and _number(each) for each in found.groups())
    return value if low is None else {"value": value, "low": low, "high": high}  # type: ignore[dict-item]


def _number(text: str) -> float | int:
    digits = text.replace(",", "").removesuffix(" %")
    if text.endswith("%"):
        return round(float(digits) / 100, 10)
    return float(digits) if "." in digits else int(digits)


def _text(content: Any, depth: int = 0) -> str:
    """JSON that is easy to compare line by line: what takes at most 200 characters is on one line."""
    line = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if len(line) <= 200 or not content or depth > 3 or not isinstance(content, dict | list):
        return line
    inner, close = " " * (depth + 1), " " * depth
    if isinstance(content, dict):
        each = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_text(value, depth + 1)}" for key, value in content.items()
        ]
        return "{\n" + ",\n".join(each) + f"\n{close}}}"
    return "[\n" + ",\n".join(f"{inner}{_text(value, depth + 1)}" for value in content) + f"\n{close}]"
