"""Files written atomically, and JSON."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from foclip.errors import OutputError, UsageError


@contextmanager
def replacing(path: Path, sync: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to. At the end it is renamed to `path`, so `path` is there whole or not at all.

    With `sync`, its content is on the disk before it is renamed, and the new name when the block ends. An `OutputError`
    says that it cannot be written.
    """
    # The name has a fixed length: that of `path` may be as long as the file system allows.
    partial = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.part")
    try:
        yield partial
        if sync:
            _sync(partial)
        partial.replace(path)
        if sync and os.name == "posix":
            _sync(path.parent)
    except OSError as error:
        # Libraries add words to the operating system's message; take the message alone.
        reason = os.strerror(error.errno) if error.errno else error
        raise OutputError(f"{path}: cannot be written ({reason})") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all."""
    # File names may hold half a surrogate pair, which UTF-8 cannot; it is written as its number.
    write_bytes(path, text.encode(errors="backslashreplace"))


def to_json(value: Any) -> str:
    """JSON text. JSON has no infinities and no NaN; they become null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    return json.dumps(finite, indent=1, ensure_ascii=False)


def output_folder(path: Path) -> Path:
    """Make a folder for results; a `UsageError` if the path is a file, or it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"out: {path} cannot be made a folder ({getattr(error, 'strerror', error)})") from error
    return path


def output_files(*paths: Path) -> None:
    """Refuse paths for results that are folders or cannot be files, with a `UsageError`, before any work is done."""
    for path in paths:
        if is_folder(path):
            raise UsageError(f"out: {path} is a folder; choose another place for results")
        try:
            path.exists()
        except (OSError, ValueError) as error:
            raise UsageError(f"out: {path} cannot be written ({getattr(error, 'strerror', error)})") from error


def is_file(path: Path) -> bool:
    """Whether there is a file; False for names that no file can have, for which `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False for names that no folder can have."""
    return os.path.isdir(path)  # noqa: PTH112
