"""Finished work on disk, so that a study that was killed goes on where it was.

A cell is one JSON file whose name is a digest of everything its content depends on.
It is written whole or not at all, and a table is always made of what was read back, so
it is the same whether its cells were computed now or by a run that ended early.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from foclip import files

#: Part of every key: raise it when the same key would mean other content.
FORMAT = 1


class Cells:
    """A folder of cells, made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(*parts: object) -> str:
        """Digest of everything a cell depends on; each part must say all that it is in its `repr`."""
        return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:32]

    def path(self, key: str, suffix: str = ".json") -> Path:
        """The file of a cell."""
        return self.folder / f"{key}{suffix}"

    def fill(self, keys: Sequence[str], compute: Callable[[list[int]], Iterable[tuple[int, Any]]]) -> list[Any]:
        """The contents of cells; those that are not there are computed and written one by one.

        Args:
            keys: One key per cell.
            compute: Given places in `keys`, yields each place with its content
                (anything JSON holds) as soon as it is finished.
        """
        missing = [place for place, key in enumerate(keys) if key not in keys[:place] and self._read(key) is None]
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True)
            for place, content in compute(missing):
                files.write_text(self.path(keys[place]), files.to_json(content))
        return [self._read(key) for key in keys]

    def _read(self, key: str) -> Any:
        try:
            return json.loads(self.path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
