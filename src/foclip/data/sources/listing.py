"""From what a user names to shards: globs, folders, tars and tables, on this machine or at a URL that fsspec opens."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import Any

import fsspec

from foclip.data import images
from foclip.data.sources import table
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
        self._digests: list[_Digest] = []

    def __iter__(self) -> Iterator[Shard]:
        self._digests = [_Digest() for _ in self.sources]
        number = 0
        for source, digest in zip(self.sources, self._digests, strict=True):
            for shard in _shards(map(digest.add, _entries(source)), self.columns):
                yield replace(shard, number=number)
                number += 1

    def as_dicts(self) -> list[dict[str, Any]]:
        """Each source with its digest, for the manifest; complete after the last iteration."""
        found = zip(self.sources, self._digests, strict=True)
        return [{"source": source} | digest.as_dict() for source, digest in found]


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
    if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        return "tar"
    return "table" if name.endswith((".parquet", ".pq")) else ""


def _entries(source: str) -> Iterator[_Entry]:
    """The files of one source, in an order that depends on nothing but their names.

    Of a folder, hidden files are passed over, and so are the tables that img2dataset writes beside its tars.
    """
    fs, path = file_system(source)
    remote = "file" not in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)
    found = False
    try:
        pattern = any(mark in path for mark in "*?[") and not fs.exists(path)
        roots = sorted(fs.glob(path)) if pattern else [path] if fs.exists(path) else []
        if not roots:
            raise UsageError(f"source: {text(source)}: no such file or folder")
        for root in roots:
            about = fs.info(root)
            folder = about["type"] == "directory"
            if not folder and not _kind(root):
                raise UsageError(f"source: {text(root)}: neither a picture, a tar nor a Parquet table by its name")
            start = len(root.rstrip("/")) + 1 if folder else root.rfind("/") + 1
            for file, info in _walk(fs, root) if folder else [(root, about)]:
                found = True
                tag = next((info[key] for key in ("ETag", "etag", "md5Hash") if info.get(key)), None)
                url = str(fs.unstrip_protocol(file)) if remote else file
                yield _Entry(url, file[start:], _kind(file), int(info.get("size") or 0), tag)
    except (OSError, ValueError) as error:
        raise UsageError(f"source: {text(source)}: {text(getattr(error, 'strerror', None) or error)}") from error
    if not found:
        raise UsageError(f"source: {text(source)}: no pictures, tars or Parquet tables in it")


def _walk(fs: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files of use below a folder, folder by folder, so that the list of only one is in memory."""
    inside = sorted(fs.ls(folder, detail=True), key=lambda info: info["name"])
    named = {info["name"].rstrip("/").rpartition("/")[2]: info for info in inside}
    for name, info in named.items():
        path = info["name"].rstrip("/")
        if name.startswith("."):
            continue
        if info["type"] == "directory":
            if not info.get("islink"):  # links may go round in circles
                yield from _walk(fs, path)
        elif _kind(name) and not (_kind(name) == "table" and f"{name.rpartition('.')[0]}.tar" in named):
            yield path, info


def _shards(entries: Iterable[_Entry], columns: Columns) -> Iterator[Shard]:
    """Shards of the files of one source. Pictures that follow each other in one folder share a shard."""
    for (kind, folder), group in groupby(entries, key=lambda entry: (entry.kind, entry.url.rpartition("/")[0])):
        while kind == "picture" and (some := list(islice(group, SLICE))):
            names = tuple(entry.url.rpartition("/")[2] for entry in some)
            prefix = some[-1].name.removesuffix(names[-1])
            yield Shard(0, "pictures", folder, sum(entry.size for entry in some), len(some), prefix=prefix, names=names)
        for entry in group:
            yield from _row_groups(entry, columns) if kind == "table" else [Shard(0, "tar", entry.url, entry.size)]


def _row_groups(entry: _Entry, columns: Columns) -> Iterator[Shard]:
    """A shard for each row group. A file that is no table makes one shard, whose only row says so."""
    fs, path = file_system(entry.url)
    with fs.open(path, "rb") as stream:
        try:
            found = table.open_table(stream)
        except ValueError:
            yield Shard(0, "table", entry.url, entry.size, rows=1, group=-1)
            return
        table.columns_of(found.schema_arrow.names, columns, text(entry.url))
        first = 0
        for group in range(found.num_row_groups):
            held = found.metadata.row_group(group)
            if held.num_rows:
                yield Shard(0, "table", entry.url, held.total_byte_size, held.num_rows, group, first)
            first += held.num_rows
