"""From what a user names to shards: globs, folders, tars and tables, on this machine or at a URL that fsspec opens."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from foclip import files
from foclip.data import captions, images
from foclip.data.sources import archive, captioned, table
from foclip.data.sources.item import Columns, Shard, text
from foclip.errors import SourceError, UsageError

#: Pictures of a folder that make a shard.
SLICE = 1000
#: Bytes at either end of a file that go into its digest.
ENDS = 4096


@dataclass(frozen=True)
class _Entry:
    """A file of a source."""

    url: str
    name: str  # its path below the source
    kind: str  # "tar", "table" or "picture"
    size: int  # bytes; 0 where the file system does not say
    tag: object  # the entity tag of its content, in stores that have them
    named: bool  # by the user, or found in a folder


class _Digest:
    """Tells sources apart: by names and sizes of files, and by entity tags, or the ends of tars and tables."""

    def __init__(self) -> None:
        self.files, self.bytes = 0, 0
        self._names, self._content = hashlib.sha256(), hashlib.sha256()

    def add(self, entry: _Entry) -> _Entry:
        self.files, self.bytes = self.files + 1, self.bytes + entry.size
        self._names.update(repr(entry.name).encode())
        tag = entry.tag
        if tag is None and entry.kind != "picture":
            fs, path = file_system(entry.url)
            with fs.open(path, "rb") as stream:
                tag = stream.read(ENDS)
                stream.seek(max(0, entry.size - ENDS))
                tag += stream.read(ENDS)
        self._content.update(repr((entry.name, entry.size, tag)).encode())
        return entry

    def as_dict(self) -> dict[str, Any]:
        counts = {"files": self.files, "bytes": self.bytes}
        return counts | {"names": self._names.hexdigest()[:32], "content": self._content.hexdigest()[:32]}


class Listing:
    """The shards of sources, found while one iterates over it, and numbered in order.

    Iterating raises a `UsageError` if a source does not exist, holds nothing of use, or is a table without a column of
    pictures.
    """

    def __init__(self, sources: Sequence[str], columns: Columns | None = None) -> None:
        self.sources, self.columns = sources, columns or Columns()
        self.passed_over = Counter[str]()  # files found in folders that are of no use, by their kind
        self._digest = _Digest()

    def __iter__(self) -> Iterator[Shard]:
        self._digest = digest = _Digest()
        self.passed_over.clear()
        number = 0
        for source, *others in _together(self.sources):
            before, files_before, passed = number, digest.files, self.passed_over.total()
            entries = (entry for each in (source, *others) for entry in _entries(each, self.passed_over, bool(others)))
            for shard in _shards(map(digest.add, entries), self.columns, self.passed_over):
                yield replace(shard, number=number)
                number += 1
            if number == before and (digest.files == files_before or self.passed_over.total() > passed):
                told = ", ".join(f"{count:,} {kind}" for kind, count in self.passed_over.most_common(5))
                nothing = f" (passed over: {told})" if told else ""
                raise UsageError(f"source: {text(source)}: no pictures, tars or Parquet tables in it{nothing}")

    def as_dict(self) -> dict[str, Any]:
        """What was found, for the manifest, however it was named; complete after the last iteration."""
        return self._digest.as_dict()


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it; a `UsageError` if there is no such protocol."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"source: {text(url)}: {text(error)}") from error
    return fs, str(path)


def source_missing(url: str, error: OSError) -> SourceError:
    """The error of a source that was there when the scan began."""
    return SourceError(
        f"{text(url)}: {text(error.strerror or error)}, although it was listed; what is finished is kept: "
        "bring it back and give the same command again"
    )


def _kind(name: str) -> str:
    """What a file is by its name: "picture", "tar", "table", or nothing of use (empty)."""
    name = name.lower()
    if PurePosixPath(name).suffix in images.SUFFIXES:
        return "picture"
    if name.endswith(archive.SUFFIXES):
        return "tar"
    return "table" if name.endswith((".parquet", ".pq")) else ""


def _together(sources: Sequence[str]) -> Iterator[list[str]]:
    """Sources, but files of one folder that follow each other together, in one order: a shell expands globs to them."""

    def folder_of(source: str) -> str | None:
        folder, _, name = source.rpartition("/")
        return folder if _kind(name) or _captions(name) else None

    for folder, some in groupby(sources, key=folder_of):
        if folder is None:
            yield from ([each] for each in some)
        else:
            yield sorted(some)


def _captions(name: str) -> bool:
    """Whether a file holds captions of pictures beside it by its name."""
    return name.endswith(captions.SIDECARS) or name in captioned.NAMES


def _entries(source: str, passed: Counter[str], among_others: bool) -> Iterator[_Entry]:
    """The files of one source, in an order that depends on nothing but their names.

    Of a folder or a pattern, hidden files are passed over without a word, other files of no use are counted.
    """
    fs, path = file_system(source)
    try:
        pattern = any(mark in path for mark in "*?[") and not fs.exists(path)
        roots = sorted(fs.glob(path)) if pattern else [path] if fs.exists(path) else []
        if not roots:
            raise UsageError(f"source: {text(source)}: no such file or folder")
        within = set[str]()  # folders of a pattern, in which everything is found already (`photos/**`)
        for root in roots:
            about, name = fs.info(root), root.rstrip("/").rpartition("/")[2]
            folder = about["type"] == "directory"
            if pattern and (name.startswith(".") or any(str(above) in within for above in PurePosixPath(root).parents)):
                continue
            if not folder and not _kind(root):
                if pattern or (among_others and _captions(name)):  # a shell expands patterns to what is beside pictures
                    _pass_over(name, passed)
                    continue
                raise UsageError(f"source: {text(root)}: neither a picture, a tar nor a Parquet table by its name")
            within.update([root.rstrip("/")] if folder else [])
            start = len(root.rstrip("/")) + 1 if folder else root.rfind("/") + 1
            for file, info in _walk(fs, root, passed) if folder else [(root, about)]:
                tag = next((info[key] for key in ("ETag", "etag", "md5Hash") if info.get(key)), None)
                url = str(fs.unstrip_protocol(file)) if _remote(fs) else file
                yield _Entry(url, file[start:], _kind(file), int(info.get("size") or 0), tag, not folder)
    except (OSError, ValueError) as error:
        raise UsageError(f"source: {text(source)}: {text(getattr(error, 'strerror', None) or error)}") from error


def _remote(fs: Any) -> bool:
    return "file" not in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)


def _walk(
    fs: Any, folder: str, passed: Counter[str], above: tuple[str, ...] = (), aside: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files of use below a folder, folder by folder, so that the list of only one is in memory.

    Links to folders are followed, but for those to a folder `above`, which would go round in circles. Tars and tables
    set `aside`, whose name or folder begins with _, are none of the data (Spark's `_temporary`).
    """
    above = above if _remote(fs) else (*above, os.path.realpath(folder))
    inside = sorted(fs.ls(folder, detail=True), key=lambda info: info["name"])
    named = {info["name"].rstrip("/").rpartition("/")[2]: info for info in inside}
    for name, info in named.items():
        path, kind = info["name"].rstrip("/"), _kind(name)
        stem, hidden = name.rpartition(".")[0], aside or name.startswith("_")
        if name.startswith("."):
            continue
        if info["type"] == "directory" or (info.get("islink") and files.is_folder(Path(path))):
            parts_of_a_scan = name == "parts" and "shards.jsonl" in named
            if not parts_of_a_scan and os.path.realpath(path) not in above:
                yield from _walk(fs, path, passed, above, hidden)
        elif kind == "table" and (f"{stem}.tar" in named or stem in named):
            continue  # img2dataset's, of the tar or folder beside it
        elif kind == "picture" or (kind and not hidden):
            yield path, info
        else:
            _pass_over(name, passed)


def _pass_over(name: str, passed: Counter[str]) -> None:
    """Count a file of no use by its kind, unless it is hidden or holds captions."""
    if not _captions(name) and not name.startswith("."):
        passed[f"*{PurePosixPath(name).suffix.lower()}" if "." in name else name] += 1


def _shards(entries: Iterable[_Entry], columns: Columns, passed: Counter[str]) -> Iterator[Shard]:
    """Shards of the files of one source. Pictures that follow each other in one folder share a shard."""
    for (kind, folder), group in groupby(entries, key=lambda entry: (entry.kind, entry.url.rpartition("/")[0])):
        while kind == "picture" and (some := list(islice(group, SLICE))):
            names = tuple(entry.url.rpartition("/")[2] for entry in some)
            prefix = some[-1].name.removesuffix(names[-1])
            yield Shard(0, "pictures", folder, sum(entry.size for entry in some), len(some), prefix=prefix, names=names)
        for entry in group:
            try:
                yield from _row_groups(entry, columns) if kind == "table" else [Shard(0, "tar", entry.url, entry.size)]
            except UsageError:
                if entry.named:
                    raise
                passed["tables without a column of pictures"] += 1


def _row_groups(entry: _Entry, columns: Columns) -> Iterator[Shard]:
    """A shard for each row group. A file that is no table makes one shard, whose only row says so."""
    fs, path = file_system(entry.url)
    with fs.open(path, "rb") as stream:
        try:
            found = table.open_table(stream)
        except ValueError:
            yield Shard(0, "table", entry.url, entry.size, rows=1, group=-1)
            return
        names = found.schema_arrow.names
        if not entry.named and entry.url.endswith("/metadata.parquet") and "file_name" in names:
            return  # captions of the pictures beside it
        table.columns_of(found.schema_arrow, columns, text(entry.url))
        first = 0
        for group in range(found.num_row_groups):
            held = found.metadata.row_group(group)
            if held.num_rows:
                yield Shard(0, "table", entry.url, held.total_byte_size, held.num_rows, group, first)
            first += held.num_rows
