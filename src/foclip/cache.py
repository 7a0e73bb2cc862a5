"""Pieces of work on disk: finished ones are found again, and unfinished ones go on where they were.

Each piece is named by a digest of everything its result depends on (`Cache.key`). A finished piece is one JSON file,
perhaps with further files of the same name beside it; an unfinished one is a file of tensors.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from foclip import files
from foclip.errors import UsageError

#: Part of every key: raise it when the same key would mean other content.
FORMAT = 3


class Cache:
    """A folder of pieces of work, made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(*parts: object) -> str:
        """Digest of everything a piece of work depends on; the `repr` of each part must tell all of the part."""
        return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:32]

    def path(self, key: str, suffix: str = ".json") -> Path:
        return self.folder / f"{key}{suffix}"

    def get(self, key: str) -> Any:
        """The content of a finished piece; None if it is not finished, or its file is damaged."""
        try:
            return json.loads(self.path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, key: str, content: Any) -> None:
        """Keep a finished piece (anything that JSON holds) in place of its unfinished state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(self.path(key), files.to_json(content))
        self.path(key, ".pt").unlink(missing_ok=True)

    def fill(self, keys: Sequence[str], compute: Callable[[list[int]], Iterable[tuple[int, Any]]]) -> list[Any]:
        """The contents of pieces; those that are not finished are computed, and kept one by one.

        Given places in `keys`, `compute` yields each place with its content as soon as it is finished. Contents are
        always read back from disk, so they are the same whether they were computed now or earlier.
        """
        first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))  # the same work is asked for once
        missing = sorted(place for key, place in first.items() if self.get(key) is None)
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True)
            for place, content in compute(missing):
                self.put(keys[place], content)
        return [self.get(key) for key in keys]

    def save(self, key: str, state: Mapping[str, Any]) -> None:
        """Keep the state of an unfinished piece: numbers, lists and tensors by name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()  # torch.save itself hides what the operating system says of a full disk
        torch.save(dict(state), buffer)
        files.write_bytes(self.path(key, ".pt"), buffer.getvalue())

    def load(self, key: str, device: torch.device) -> dict[str, Any] | None:
        """The state that `save` kept; None if there is none, or its file is damaged."""
        try:
            state: dict[str, Any] = torch.load(self.path(key, ".pt"), map_location=device, weights_only=True)
        except Exception:  # there is none, or it is cut off: this piece starts over
            return None
        return state

    def drop(self, key: str) -> None:
        """Forget a piece, and remove the folder once it is empty."""
        for suffix in (".json", ".pt"):
            self.path(key, suffix).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for this process as long as the block lasts; a `UsageError` if another process is at work there.

    Without a lock where there are none: on Windows, and on file systems of some clusters.
    """
    with ExitStack() as held:
        with suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)  # this lock leaves nothing behind, and ends with the process
            held.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"out: another run is at work in {folder}; wait for it or choose another") from None
        yield
