"""Captions of pictures: files of pairs, and text files beside the pictures.

A file of pairs is CSV, TSV or JSONL with the columns `image` and `caption`; a picture may have several rows. A
*sidecar* is `photo.txt` beside `photo.jpg`, with one caption per line. A picture without a caption and a caption
without a picture are failures; neither is passed over.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from foclip.data import images
from foclip.data import prompts as prompt_sets
from foclip.data.images import Source
from foclip.errors import PromptError
from foclip.outcome import Failure

#: Instead of a file's name: captions stand beside the pictures.
SIDECAR = "sidecar"
#: Largest file of captions.
MAX_BYTES = 200_000_000
#: What separates the columns of a file, by its suffix; JSONL has none.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".jsonl": ""}


def captions_of(sources: Sequence[Source], captions: str | Path) -> tuple[dict[int, list[str]], list[Failure]]:
    """The captions of pictures by the pictures' places, in order, and what has no partner.

    They come from a file of pairs, or are a `SIDECAR`. Only pictures that are files have captions. A `PromptError` says
    why the file of pairs cannot be read.
    """
    paths = {number: Path(source) for number, source in enumerate(sources) if isinstance(source, str | Path)}
    beside = str(captions) == SIDECAR
    found, failures = _sidecars(paths) if beside else _matched(paths, Path(captions))
    missing = "no file of its name ends in .txt" if beside else f"{captions} has no row for it"
    for number, source in enumerate(sources):
        if number not in found:
            name = images.name(source, number + 1)
            failures.append(Failure(name, f"{name}: no caption ({missing})"))
    return dict(sorted(found.items())), failures


def _sidecars(paths: dict[int, Path]) -> tuple[dict[int, list[str]], list[Failure]]:
    """Captions from the text files beside the pictures."""
    found: dict[int, list[str]] = {}
    failures: list[Failure] = []
    for number, path in paths.items():
        if (beside := path.with_suffix(".txt")).is_file():
            try:
                found[number] = prompt_sets.read(beside)
            except PromptError as error:
                failures.append(Failure(str(beside), str(error)))
    folders = dict.fromkeys(path.parent for path in paths.values())
    for text in (path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.txt"))):
        if not any(text.with_suffix(suffix).exists() for suffix in images.SUFFIXES | {".JPG", ".JPEG", ".PNG"}):
            failures.append(Failure(str(text), f"{text}: a caption without a picture"))
    return found, failures


def _matched(paths: dict[int, Path], pairs: Path) -> tuple[dict[int, list[str]], list[Failure]]:
    """Captions from a file whose rows name a picture by a path, relative to the file, or by its bare name."""
    places: dict[Path | str | None, list[int]] = defaultdict(list)
    for number, path in paths.items():
        places[_resolved(path)].append(number)
        places[path.name].append(number)
    found: dict[int, list[str]] = {}
    failures: list[Failure] = []
    for line, image, caption in _rows(pairs):
        named = _resolved(pairs.parent / image)
        meant = (places.get(named) if named else None) or (places.get(image) if Path(image).name == image else None)
        if not meant or not caption.strip():
            problem = "an empty caption" if meant else "a caption without a picture"
            failures.append(Failure(image, f"{pairs}, line {line}: {problem} ({image})"))
            continue
        for place in meant:
            found.setdefault(place, []).append(caption.strip())
    return found, failures


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return None


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, image and caption of every row of a file of pairs."""
    separator = SEPARATORS.get(path.suffix.lower())
    if separator is None:
        raise PromptError(f"{path}: captions are a {', '.join(SEPARATORS)} file with image and caption, or sidecar")
    try:
        lines = io.StringIO(prompt_sets.text_of(path, MAX_BYTES), newline="")
    except PromptError as error:
        raise PromptError(f"captions: {error}") from error
    if not separator:
        yield from _json_lines(path, lines)
        return
    rows = csv.DictReader(lines, delimiter=separator)
    try:
        if not {"image", "caption"} <= set(rows.fieldnames or ()):
            raise PromptError(f"{path}: its first line must name the columns image and caption")
        yield from ((rows.line_num, row["image"], row["caption"] or "") for row in rows if row["image"])
    except csv.Error as error:
        raise PromptError(f"{path}: no table ({error})") from error


def _json_lines(path: Path, lines: io.StringIO) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PromptError(f"{path}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("image", "caption")):
            raise PromptError(f"{path}, line {number}: needs the texts image and caption")
        yield number, row["image"], row["caption"]
