"""Work on disk: what is finished is found again, what was begun goes on where it was.

Each piece of work is named by a digest of everything its result depends on (`Cache.key`),
so nothing is ever continued, or taken for done, under other settings. StudyResult work is one
JSON file, with further files of the same name beside it where it makes any; unfinished work is one
file of tensors. Every file is written whole or not at all.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from foclip import files
from foclip.errors import UsageError

#: Part of every key: raise it when the same key would mean other content.
FORMAT = 5


class Cache:
    """A folder of work, made when first needed.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(*parts: object) -> str:
        """Digest of everything a piece of work depends on; each part must say all that it is in its `repr`."""
        return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:32]

    def path(self, key: str, suffix: str = ".json") -> Path:
        """The file of a piece of work."""
        return self.folder / f"{key}{suffix}"

    def get(self, key: str) -> Any:
        """The content of finished work; None if there is none, or none that is whole."""
        try:
            return json.loads(self.path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, key: str, content: Any) -> None:
        """Keep finished work (anything JSON holds), and drop what was kept of it while it was unfinished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(self.path(key), files.to_json(content))
        self.path(key, ".pt").unlink(missing_ok=True)

    def fill(self, keys: Sequence[str], compute: Callable[[list[int]], Iterable[tuple[int, Any]]]) -> list[Any]:
        """The contents of finished work; what is not there is computed and kept one by one.

        Contents are always what was read back, so they are the same whether they were
        computed now or by a run that ended early.

        Args:
            keys: One key per piece.
            compute: Given places in `keys`, yields each place with its content as soon as it is finished.
        """
        first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))  # the same work is asked for once
        missing = sorted(place for key, place in first.items() if self.get(key) is None)
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True)
            for place, content in compute(missing):
                self.put(keys[place], content)
        return [self.get(key) for key in keys]

    def save(self, key: str, state: Mapping[str, Any]) -> None:
        """Keep unfinished work: numbers, lists and tensors by name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()  # torch.save itself hides what the operating system says of a full disk
        torch.save(dict(state), buffer)
        files.write_bytes(self.path(key, ".pt"), buffer.getvalue())

    def load(self, key: str, device: torch.device) -> dict[str, Any] | None:
        """What `save` kept; None if there is none, or none that is whole."""
        try:
            state: dict[str, Any] = torch.load(self.path(key, ".pt"), map_location=device, weights_only=True)
        except Exception:  # none, or cut off: this work starts over
            return None
        return state

    def drop(self, key: str) -> None:
        """Forget a piece of work, and remove the folder once it is empty."""
        for suffix in (".json", ".pt"):
            self.path(key, suffix).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder to oneself while at work in it.

    The lock is the operating system's, on the folder itself: it leaves nothing behind and ends with the process.

    Raises:
        UsageError: Another process is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows: without a lock
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"out: another run is at work in {folder}; wait for it or choose another") from None
        yield
    finally:
        os.close(handle)
