"""Files written atomically; and JSON, which is read into dataclasses with every name, type and range checked."""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from foclip.errors import OutputError, UsageError

T = TypeVar("T")

#: Characters of a wrong value that a message shows.
SHOWN = 60
#: What messages call the types of JSON.
_NAMES = {list: "a list", dict: "an object", str: "a text", bool: "true or false", int: "a whole number"}


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
        rename(partial, path)
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
    except OSError as error:  # file systems of clusters may not sync folders, or anything
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
            raise
    finally:
        os.close(handle)


def rename(old: Path, new: Path) -> None:
    """Rename a file, over another where there is one, also on file systems that only rename to free names."""
    try:
        old.replace(new)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EEXIST, errno.EACCES, errno.EINVAL) or not is_file(new):
            raise
        aside = new.with_name(f"{old.name[:200]}.aside")
        new.replace(aside)
        try:
            old.replace(new)
        except OSError:
            aside.replace(new)
            raise
        aside.unlink()


def await_file(path: Path, seconds: float = 20.0) -> bool:
    """Whether there is a file that another machine wrote: shared file systems may show it late."""
    end = time.monotonic() + seconds
    while not is_file(path) and time.monotonic() < end:
        with suppress(OSError):
            any(path.parent.iterdir())  # lets clients of NFS look again
        time.sleep(0.2)
    return is_file(path)


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


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; NaN is in no range."""

    low: float
    high: float


#: Any number that a plain `float` may be.
ANY = Range(-1e6, 1e6)
#: A share or a probability.
Share = Annotated[float, Range(0, 1)]


def from_json(kind: type[T], content: Any) -> T:
    """A dataclass of what `json.loads` gave; a `UsageError` if a field is missing, unknown or of a wrong value.

    Annotations say what a file may hold: `bool`, `int`, `str`, numbers in a `Range`, `list`, `dict` with texts as keys,
    further dataclasses, and `Any` for what is only shown. `__post_init__` checks what types cannot say.
    """
    return _restored(kind, content, "")  # type: ignore[no-any-return]


def _restored(kind: Any, content: Any, where: str) -> Any:
    if kind is Any:
        return content
    kind, limits = get_args(kind) if get_origin(kind) is Annotated else (kind, ANY)
    if kind is float:
        if type(content) not in (int, float) or not limits.low <= content <= limits.high:
            raise UsageError(f"{where}: {_short(content)} is not a number in [{limits.low:g}, {limits.high:g}]")
        return float(content)
    outer, inner = get_origin(kind) or kind, get_args(kind)
    expected = dict if is_dataclass(outer) else outer
    if type(content) is not expected:
        raise UsageError(f"{where or 'the file'}: {_short(content)} is not {_NAMES[expected]}")
    if is_dataclass(outer):
        return _dataclass(outer, dict(zip(getattr(outer, "__parameters__", ()), inner, strict=True)), content, where)
    if outer is list:
        return [_restored(inner[0], item, f"{where}[{place}]") for place, item in enumerate(content)]
    if outer is dict:
        return {key: _restored(inner[1], item, f"{where}[{_short(key)}]") for key, item in content.items()}
    return content


def _dataclass(kind: Any, types: dict[Any, Any], content: dict[str, Any], where: str) -> Any:
    """A dataclass; `types` are those that stand for its type variables."""
    hints, names = get_type_hints(kind, include_extras=True), [field.name for field in fields(kind)]
    start = f"{where}." if where else ""
    missing, unknown = [name for name in names if name not in content], sorted(content.keys() - set(names))
    if missing or unknown:
        problem = f"{_short(missing[0])} is missing" if missing else f"{_short(unknown[0])} is unknown"
        raise UsageError(f"{start}{problem}")
    values = {name: _restored(types.get(hints[name], hints[name]), content[name], f"{start}{name}") for name in names}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}" if where else str(error)) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
