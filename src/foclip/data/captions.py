"""Captions of pictures, read in one way from every source: files of pairs, text beside pictures, tables, tars.

A file of pairs is CSV, TSV or JSONL with a column of pictures and one of captions (`IMAGES`, `CAPTIONS`); a picture may
have several rows. A *sidecar* is `photo.txt` (or `photo.jpg.txt`, `photo.caption`, …) beside `photo.jpg`, with one
caption per line. A picture without a caption and a caption without a picture are failures; neither is passed over.
"""

import ast
import csv
import io
import json
import re
import unicodedata
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from foclip.data import images
from foclip.data import prompts as prompt_sets
from foclip.data.images import Source
from foclip.errors import PromptError
from foclip.outcome import Failure

#: Instead of a file's name: captions stand beside the pictures.
SIDECAR = "sidecar"
#: Captions by the places of pictures, failures, and why a picture has none although a file or a row names it.
_Found = tuple[dict[int, list[str]], list[Failure], dict[int, str]]
#: Largest file of captions.
MAX_BYTES = 200_000_000
#: What separates the columns of a file, by its suffix; JSONL has none.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".jsonl": ""}
#: What separates columns where the suffix does not tell: Excel's follows the user's country, Flickr30k has bars.
OTHERS = ";\t,|"
#: Suffixes of text files that hold captions; cameras and old Windows programs write capitals.
SIDECARS = (".txt", ".caption", ".text", ".TXT")
#: Usual names of columns of picture files, and of captions, in any case of letters. The first that there is counts.
IMAGES = ("image", "image_path", "path", "file_name", "filename")
CAPTIONS = ("caption", "captions", "text", "txt", "alt_text", "sentence", "sentences", "title", "prompt")


class NoPairs(PromptError):
    """A file does not name pictures and captions."""


def usual(names: Iterable[str], candidates: Iterable[str]) -> str | None:
    """The name of the first of the candidates that is there, in any case of letters."""
    there = {name.lower(): name for name in reversed([*names])}
    return next((there[name] for name in candidates if name in there), None)


def word(value: object) -> str | None:
    """A caption or an id of any type as text; None where it is missing (null, NaN, blank).

    Whole numbers lose their point, since integers with nulls are stored as floats. Bytes are UTF-8, or else hexadecimal
    digits.
    """
    if isinstance(value, bytes):
        decoded = value.decode("utf-8-sig", errors="replace")
        value = decoded if decoded.isprintable() and "\ufffd" not in decoded else value.hex()
    if value is None or value != value:
        return None
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip() or None


def one_per_line(value: object) -> str | None:
    """The captions in a value of a table or of JSON, one per line: one, or those of a list; None if there is none.

    A number is its text, of a map its values count, and of COCO's and Flickr30k's sentences `raw`. A `ValueError` says
    that it is neither text nor a number.
    """
    if isinstance(value, tuple):  # an entry of a map, which is a list of them
        value = value[1]
    if isinstance(value, list):
        return "\n".join(filter(None, map(one_per_line, value))) or None
    if isinstance(value, dict):
        if told := usual(value, ("raw", *CAPTIONS)):
            return one_per_line(value[told])
        raise ValueError(f"its caption is {type(value).__name__}, not text")
    try:
        found = value.decode("utf-8-sig") if isinstance(value, bytes) else word(value)
    except UnicodeDecodeError:
        raise ValueError("its caption is no UTF-8 text") from None
    return " ".join(prompt_sets.lines(found)) or None if found else None


def of_text(content: bytes, name: str) -> str | None:
    """The captions of a text file, one per line; None if it is blank, and a `ValueError` if it is no UTF-8 text."""
    try:
        return "\n".join(prompt_sets.lines(prompt_sets.decoded(content))) or None
    except UnicodeDecodeError:
        raise ValueError(f"its {name} is no UTF-8 text") from None


def beside(path: str) -> list[str]:
    """Where the sidecar of a picture may be, in the order in which they count."""
    return [f"{name}{suffix}" for suffix in SIDECARS for name in (path.rpartition(".")[0], path)]


def captions_of(sources: Sequence[Source], captions: str | Path) -> tuple[dict[int, list[str]], list[Failure]]:
    """The captions of pictures by the pictures' places, in order, and what has no partner.

    They come from a file of pairs, or are a `SIDECAR`. Only pictures that are files have captions. A `PromptError` says
    why the file of pairs cannot be read.
    """
    paths = {number: Path(source) for number, source in enumerate(sources) if isinstance(source, str | Path)}
    beside = str(captions) == SIDECAR
    found, failures, why = _sidecars(paths) if beside else _matched(paths, Path(captions))
    missing = "no file of its name ends in .txt" if beside else f"{captions} has no row for it"
    for number, source in enumerate(sources):
        if number not in found:
            name = images.name(source, number + 1)
            failures.append(Failure(name, f"{name}: no caption ({why.get(number, missing)})"))
    return dict(sorted(found.items())), failures


def _sidecars(paths: dict[int, Path]) -> _Found:
    """Captions from the text files beside the pictures."""
    found: dict[int, list[str]] = {}
    failures: list[Failure] = []
    why: dict[int, str] = {}
    for number, path in paths.items():
        if text := next((text for text in map(Path, beside(str(path))) if text.is_file()), None):
            try:
                found[number] = prompt_sets.read(text)
            except PromptError as error:
                failures.append(Failure(str(text), str(error)))
                why[number] = f"{text} cannot be used"
    for folder in dict.fromkeys(path.parent for path in paths.values()):
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        pictures = {
            name for path in inside if path.suffix.lower() in images.SUFFIXES for name in (path.stem, path.name)
        }
        alone = (path for path in inside if path.suffix in SIDECARS and path.stem not in pictures)
        failures += [Failure(str(text), f"{text}: a caption without a picture") for text in alone]
    return found, failures, why


def _matched(paths: dict[int, Path], pairs: Path) -> _Found:
    """Captions from a file whose rows name a picture by a path, relative to the file, or by its bare name.

    Where no picture is called exactly that, the one counts whose name is the same when it is `plain`.
    """
    places, alike = defaultdict[Path | str, list[int]](list), defaultdict[Path | str, list[int]](list)
    for number, path in paths.items():
        for name in (_resolved(path) or path, path.name):
            places[name].append(number)
            alike[plain(name)].append(number)
    found: dict[int, list[str]] = {}
    failures: list[Failure] = []
    why: dict[int, str] = {}
    for line, image, caption in _read(pairs):
        names: list[Path | str] = []
        for told in dict.fromkeys((image, plain(image))):
            names += filter(None, (_resolved(pairs.parent / told), told if Path(told).name == told else None))
        meant = next((places[name] for name in names if name in places), None)
        meant = meant or next((alike[name] for name in map(plain, names) if name in alike), None)
        if not meant or not caption:
            problem = "an empty caption" if meant else "a caption without a picture"
            failures.append(Failure(image, f"{pairs}, line {line}: {problem} ({image})"))
            why |= dict.fromkeys(meant or (), f"line {line} of {pairs} has an empty one")
            continue
        for place in meant:
            found.setdefault(place, []).extend(caption.split("\n"))
    return found, failures, why


def plain(path: str | Path) -> str:
    """A path in one way of writing it: with slashes, and with letters and their accents composed (macOS parts them)."""
    return unicodedata.normalize("NFC", str(PurePosixPath(str(path).replace("\\", "/"))))


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return None


def _read(path: Path) -> Iterator[tuple[int, str, str]]:
    if path.suffix.lower() not in SEPARATORS:
        raise PromptError(f"{path}: captions are a {', '.join(SEPARATORS)} file with image and caption, or sidecar")
    try:
        content = prompt_sets.text_of(path, MAX_BYTES)
    except PromptError as error:
        raise PromptError(f"captions: {error}") from error
    return pairs(content, path)


def pairs(content: str, path: Path, caption: str | None = None) -> Iterator[tuple[int, str, str]]:
    """Line, picture and captions, one per line, of every row of a file of pairs called `path`.

    `caption` names the column of captions; None for a usual one. A `PromptError` says why it cannot be read.
    """
    lines, separator = io.StringIO(content, newline=""), SEPARATORS[path.suffix.lower()]
    try:
        rows = _table(lines, separator, path, caption) if separator else _json_lines(path, lines)
        yield from named_pairs(path, rows, caption)
    except csv.Error as error:
        raise PromptError(f"{path}: no table ({error})") from error


def _table(lines: io.StringIO, separator: str, path: Path, caption: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a table with their lines. Its separator is what makes columns of its first line.

    A caption in the last column may have separators that nobody put into quotes.
    """
    told = re.match(r'"?sep=([,;|\t])"?\r?\n', lines.getvalue())  # a first line that Excel writes and reads
    skip, names, own = 1 + bool(told), list[str](), None
    for mark in dict.fromkeys((told[1] if told else separator, *OTHERS)):
        lines.seek(0)
        first = islice(csv.reader(lines, delimiter=mark, skipinitialspace=True), skip - 1, None)
        names = [name.strip() for name in next(first, [])]
        if usual(names, IMAGES) and (own := usual(names, _names(caption))):
            break
    if own is None:
        raise NoPairs(f"{path}: its first line must name the columns image and caption")
    dialect, last = _dialect(lines, skip, mark), len(names) - 1
    for number, cells in _rows(lines, skip, dialect):
        if any(cells[last + 1 :]):
            if names[last] != own:
                raise csv.Error(f"line {number} has more cells than the first line names; put captions into quotes")
            cells[last:] = [(mark + " " * dialect["skipinitialspace"]).join(cells[last:])]
        row = dict(zip(names, cells, strict=False))
        yield number, row | {own: _listed(row.get(own) or "")}


def _rows(lines: io.StringIO, skip: int, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of all rows but the first `skip`, and but for blank ones."""
    lines.seek(0)
    rows, begun = csv.reader(lines, **dialect), 1
    try:
        for cells in rows:
            if cells and (skip := skip - 1) < 0:
                yield rows.line_num, cells
            begun = rows.line_num + 1
    except csv.Error as error:
        where = f"line {begun}" if begun == rows.line_num else f"lines {begun} to {rows.line_num}"
        raise csv.Error(f"{where}: {'a quote is not closed' if 'end of data' in str(error) else error}") from error


def _dialect(lines: io.StringIO, skip: int, mark: str) -> dict[str, Any]:
    """How a table quotes: as Excel does, between tabs perhaps not at all, or with backslashes (Spark, MySQL)."""
    lines.seek(0)
    spaced = f"{mark} " in [lines.readline() for _ in range(skip)][-1]
    # Strictly, since a quote that is not closed would else take all that follows into one caption.
    excel = {"delimiter": mark, "skipinitialspace": spaced, "strict": True}
    ways: list[dict[str, Any]] = [excel | {"quoting": csv.QUOTE_NONE}] if mark == "\t" else []
    if '\\"' in lines.getvalue():
        ways.append(excel | {"doublequote": False, "escapechar": "\\"})
    for way in (excel, *ways):
        with suppress(csv.Error):
            deque(_rows(lines, skip, way), maxlen=0)
            return way
    return excel


def _listed(cell: str) -> str | list[str]:
    """The captions of a cell that is a list in JSON, or as pandas writes it; or else the cell."""
    for read, written in ((json.loads, None), (ast.literal_eval, repr)) if cell.startswith("[") else ():
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = read(cell)  # Python joins texts that follow each other, so what it read must be what is there
            if all(isinstance(each, str) for each in found) and (not written or written(found) == cell):
                return list(found)
    return cell


def named_pairs(
    path: Path, rows: Iterable[tuple[int, dict[str, Any]]], caption: str | None = None
) -> Iterator[tuple[int, str, str]]:
    """`pairs` of rows with their lines. Rows without a picture's name are empty, and passed over."""
    for number, row in rows:
        image, told = (usual(filter(None, row), names) for names in (IMAGES, _names(caption)))
        if image is None or told is None:
            raise NoPairs(f"{path}, line {number}: needs image and caption")
        try:
            if row[image]:
                yield number, str(row[image]), one_per_line(row[told]) or ""
        except ValueError as error:
            raise PromptError(f"{path}, line {number}: {error}") from error


def _names(caption: str | None) -> tuple[str, ...]:
    return (caption.lower(),) if caption else CAPTIONS


def _json_lines(path: Path, lines: io.StringIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PromptError(f"{path}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict):
            raise NoPairs(f"{path}, line {number}: needs image and caption")
        yield number, row
