"""A caption per picture: which prompts belong to which picture.

Captions come as a file of pairs (CSV, TSV or JSONL with the columns `image` and `caption`; a picture may have
several rows) or as *sidecars*, `photo.txt` beside `photo.jpg`, one caption per line. A picture
without a caption and a caption without a picture are failures, not passed over.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from foclip import files
from foclip.data import images
from foclip.data import prompts as prompt_sets
from foclip.data.images import Source
from foclip.errors import PromptError, UsageError
from foclip.models.scores import Prompts, as_prompts
from foclip.outcome import Failure

#: Instead of a file's name: captions stand beside the pictures.
SIDECAR = "sidecar"
#: Largest file of captions.
MAX_BYTES = 200_000_000
#: What separates the columns of a file, by its suffix; JSONL has none.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".jsonl": ""}

#: Prompts for all pictures, the name of a prompt set, or one list of prompts per picture.
PromptsOf = str | Sequence[str] | Sequence[Sequence[str]] | None


def pair(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf,
    captions: str | Path | None,
    default: Prompts,
    failures: list[Failure],
    optional: bool = False,
    besides: Path | None = None,
) -> tuple[list[Source], list[Prompts]]:
    """Pictures, and the prompts of each.

    Args:
        pictures: One or several; a folder stands for the pictures in it.
        prompts: For all of them, or one list per picture.
        captions: Instead of prompts, a file of captions or `SIDECAR`.
        default: The prompts when neither is given; empty if there are none.
        failures: Pictures without a caption and captions without a picture are added here.
        optional: There may be no prompts at all.
        besides: A folder that does not count where it lies in a folder of pictures: results are no pictures to work on.

    Returns:
        The pictures that have prompts, and these; where there are none at all, every picture with an empty tuple.

    Raises:
        UsageError: There is no picture, both prompts and captions are given, or lists differ in length.
        PromptError: Prompts or captions are unusable.
    """
    sources = _sources(pictures, besides)
    if captions is None:
        if prompts is None and not default and not optional:
            raise PromptError("prompts: no prompts given; name a set such as artworks, or give some")
        return sources, _each(prompts, default, len(sources))
    if prompts is not None:
        raise UsageError("captions: give either prompts or captions, not both")
    found = _sidecars(sources, failures) if str(captions) == SIDECAR else _matched(sources, Path(captions), failures)
    for number, source in enumerate(sources):
        if number not in found:
            failures.append(Failure(images.name(source, number + 1), _no_caption(source, number, captions)))
    return [sources[number] for number in sorted(found)], [tuple(found[number]) for number in sorted(found)]


def _no_caption(source: Source, number: int, captions: str | Path) -> str:
    where = "no file of its name ends in .txt" if str(captions) == SIDECAR else f"{captions} has no row for it"
    return f"{images.name(source, number + 1)}: no caption ({where})"


def _sources(pictures: Source | Sequence[Source], besides: Path | None) -> list[Source]:
    if isinstance(pictures, Tensor | np.ndarray):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    given = [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)
    sources: list[Source] = []
    for source in given:
        if not isinstance(source, str | Path):
            sources.append(source)
            continue
        inside = besides is not None and _below(besides, Path(source))
        found = [p for p in images.find([source]) if not (inside and _below(p, besides))]
        sources.extend(found or [source])  # a folder without pictures stays, to be listed as what it is
    if all(isinstance(source, str | Path) and files.is_folder(Path(source)) for source in sources):
        raise UsageError(f"pictures: no pictures in {', '.join(map(str, given)) or 'an empty list'}")
    return sources


def _below(path: Path, folder: Path | None) -> bool:
    # realpath, since resolve() raises where links go round in circles
    return folder is not None and Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _each(prompts: PromptsOf, default: Prompts, count: int) -> list[Prompts]:
    if prompts is None:
        return [default] * count
    if isinstance(prompts, str):
        return [tuple(prompt_sets.resolve(prompts))] * count
    if all(isinstance(prompt, str) for prompt in prompts):
        return [tuple(prompt_sets.resolve(None, as_prompts([str(prompt) for prompt in prompts])))] * count
    if len(prompts) != count:
        raise UsageError(f"prompts: {len(prompts)} lists of prompts for {count} pictures")
    return [tuple(prompt_sets.resolve(None, as_prompts(own))) for own in prompts]


def _sidecars(sources: Sequence[Source], failures: list[Failure]) -> dict[int, list[str]]:
    """Prompts by the place of their picture, from the text files beside."""
    found: dict[int, list[str]] = {}
    folders: dict[Path, None] = {}
    for number, source in enumerate(sources):
        if not isinstance(source, str | Path):
            continue
        beside = Path(source).with_suffix(".txt")
        folders[beside.parent] = None
        if beside.is_file():
            try:
                found[number] = prompt_sets.read(beside)
            except PromptError as error:
                failures.append(Failure(str(beside), str(error)))
    for text in (path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.txt"))):
        if not any(text.with_suffix(suffix).exists() for suffix in images.SUFFIXES | {".JPG", ".JPEG", ".PNG"}):
            failures.append(Failure(str(text), f"{text}: a caption without a picture"))
    return found


def _matched(sources: Sequence[Source], path: Path, failures: list[Failure]) -> dict[int, list[str]]:
    """Prompts by the place of their picture, from a file of pairs.

    A row names its picture by a path, relative to the file, or by its bare name.
    """
    by_path: dict[Path | None, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    for number, source in enumerate(sources):
        if isinstance(source, str | Path):
            by_path.setdefault(_resolved(Path(source)), []).append(number)
            by_name.setdefault(Path(source).name, []).append(number)
    found: dict[int, list[str]] = {}
    for line, image, caption in _rows(path):
        named = _resolved(path.parent / image)
        places = by_path.get(named) if named else None
        if places is None and Path(image).name == image:
            places = by_name.get(image)
        if places is None:
            failures.append(Failure(image, f"{path}, line {line}: a caption without a picture ({image})"))
        elif not caption.strip():
            failures.append(Failure(image, f"{path}, line {line}: an empty caption ({image})"))
        else:
            for place in places:
                found.setdefault(place, []).append(caption.strip())
    return found


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
    try:
        yield from _table(path, lines, separator) if separator else _json_lines(path, lines)
    except csv.Error as error:
        raise PromptError(f"{path}: no table ({error})") from error


def _table(path: Path, lines: io.StringIO, separator: str) -> Iterator[tuple[int, str, str]]:
    rows = csv.DictReader(lines, delimiter=separator)
    if not {"image", "caption"} <= set(rows.fieldnames or ()):
        raise PromptError(f"{path}: its first line must name the columns image and caption")
    for row in rows:
        if row["image"]:
            yield rows.line_num, row["image"], row["caption"] or ""


def _json_lines(path: Path, lines: io.StringIO) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PromptError(f"{path}, line {number}: no JSON ({error})") from error
        image, caption = (row.get(key) for key in ("image", "caption")) if isinstance(row, dict) else (None, None)
        if not isinstance(image, str) or not isinstance(caption, str):
            raise PromptError(f"{path}, line {number}: needs the texts image and caption")
        yield number, image, caption
