"""Compares what two trees made of the cases of `benchmarks.golden`, value by value."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from safetensors.numpy import load_file

from benchmarks.golden_names import EXPECTED, FILES, KEYS, NUMBERS_ONLY, VALUES

Leaf = str | float | None


def compare(a: Path, b: Path, only: str = "*") -> int:
    """Print every difference between what two trees made.

    Args:
        a: Folder of `benchmarks.golden.make`.
        b: Another one.
        only: Pattern of the names of cases.

    Returns:
        1 if there is a difference that `EXPECTED` does not name, else 0.
    """
    abouts = [json.loads((out / "about.json").read_text(encoding="utf-8")) for out in (a, b)]
    if abouts[0]["machine"] != abouts[1]["machine"]:
        print(f"note: not made on the same machine: {abouts[0]['machine']} and {abouts[1]['machine']}")
    before, after = (dict(_values(out, about, only)) for out, about in zip((a, b), abouts, strict=True))
    expected: Counter[str] = Counter()
    cases: Counter[str] = Counter()
    for name in sorted(before.keys() | after.keys()):
        if name in before and name in after and _same(before[name], after[name]) and not _failed(name, after[name]):
            continue
        if reason := next((why for pattern, why in EXPECTED.items() if fnmatchcase(name, pattern)), None):
            expected[reason] += 1
            continue
        cases[name.partition("/")[0]] += 1
        shown = [repr(found[name]) if name in found else "nothing" for found in (before, after)]
        print(f"{name.rstrip(':')}: {shown[0]} → {shown[1]}")
    for reason, count in expected.most_common():
        print(f"expected: {count:,} × {reason}")
    told = ", ".join(f"{case} {count:,}" for case, count in cases.items()) or "none"
    print(f"{len(before):,} and {len(after):,} values; unexpected differences: {told}")
    return 1 if cases or not before else 0


def _failed(name: str, value: Leaf) -> bool:
    """Whether this is the exit code of a call that came to nothing: equal failures prove nothing."""
    return "/exit.json:" in name and value not in (0, 1)


def _same(one: Leaf, other: Leaf) -> bool:
    """Whether two values are equal; NaN is equal to itself here."""
    return one == other or (one != one and other != other)


def _values(out: Path, about: dict[str, Any], only: str) -> Iterator[tuple[str, Leaf]]:
    """Every value that the cases of a folder came to, by its name: "case/file:key.of.the.value"."""
    old, made_in = about["old"], about["out"]
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        parts = path.relative_to(out).parts
        if len(parts) == 1 or not (fnmatchcase(parts[0], only) or parts[0] == "pictures"):
            continue
        name = "/".join(FILES.get(part, part) if old else part for part in parts)
        content = _read(path)
        if name in NUMBERS_ONLY:
            content = list(_numbers(content))
        for key, value in _leaves(content, "", old):
            yield f"{name}:{key[1:]}", value.replace(made_in, "OUT") if isinstance(value, str) else value


def _read(path: Path) -> Any:
    """What a file holds, as far as it counts."""
    if not path.stat().st_size:
        return None
    if path.suffix == ".json":
        with suppress(ValueError):  # what was cut off is compared by its bytes
            return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [{key: _number(cell) for key, cell in row.items()} for row in csv.DictReader(file)]
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    if path.suffix == ".npy":
        return np.load(path).tolist()
    if path.suffix == ".safetensors":
        return {name: [str(value.dtype), _digest(value.tobytes())] for name, value in load_file(path).items()}
    return _digest(path.read_bytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _number(cell: str | None) -> str | float | None:
    """A cell of a table as a number, if it is one."""
    try:
        return float(cell or "none")
    except ValueError:
        return cell


def _numbers(content: Any) -> Iterator[float]:
    """All numbers in the order in which they stand, but for the version of the format."""
    if isinstance(content, dict):
        content = [value for key, value in content.items() if key != "format"]
    if isinstance(content, list):
        for value in content:
            yield from _numbers(value)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield content


def _leaves(content: Any, key: str, old: bool) -> Iterator[tuple[str, Leaf]]:
    """Values of nested lists and tables, each with its place, in the names of new trees."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from _leaves(value, f"{key}.{KEYS.get(name, name) if old else name}", old)
    elif isinstance(content, list | tuple) and content:
        for place, value in enumerate(content):
            yield from _leaves(value, f"{key}.{place}", old)
    elif isinstance(content, str | bytes):
        text = content if isinstance(content, str) else content.decode(errors="backslashreplace")
        yield key, VALUES.get(text, text) if old else text
    else:
        yield key, content if isinstance(content, int | float | None) else repr(content)
