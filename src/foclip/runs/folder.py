"""The folder that a run works in: locked, resumed, and described in `run.json`."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foclip import files
from foclip.cache import Cache, locked
from foclip.errors import UsageError

#: Where a run keeps unfinished work, from which a later run goes on; and what is needed to make its results again.
UNFINISHED, RECORD = ".unfinished", "run.json"
#: Packages that every figure depends on.
PACKAGES = ("foclip", "torch", "open_clip_torch", "pillow", "numpy")


class Run(ExitStack):
    """A folder that a run works in.

    ``with Run(out) as run:`` makes the folder, and locks it as long as the block lasts. `run.cache`, a folder of the
    name `cache` in it, holds finished and unfinished pieces of work. `record` writes `run.json`; that needs no lock.
    """

    def __init__(self, out: str | Path, cache: str = UNFINISHED) -> None:
        super().__init__()
        self.out = Path(out)
        self.cache = Cache(self.out / cache)

    def __enter__(self) -> "Run":
        """Make and lock the folder; a `UsageError` if it cannot be made, or another run is at work there."""
        files.output_folder(self.out)
        if self.cache.folder.exists() and not files.is_folder(self.cache.folder):
            raise UsageError(f"out: {self.cache.folder} is a file; choose another folder")
        self.enter_context(locked(self.out))
        return self

    def record(self, command: Sequence[str], facts: dict[str, Any], packages: Sequence[str] = ()) -> dict[str, Any]:
        """Write to `run.json`, and return, what was run; earlier runs that were recorded there stay, under `earlier`.

        That is the command line, other facts (model, settings, failures …), and versions of `PACKAGES` and others.
        """
        versions = {package: version(package) for package in (*PACKAGES, *packages)}
        this = {"command": list(command)} | facts | {"versions": versions | {"python": sys.version.split()[0]}}
        path = self.out / RECORD
        try:
            last = json.loads(path.read_text(encoding="utf-8"))
            earlier = [*last.pop("earlier", []), last]
        except (OSError, ValueError, AttributeError, TypeError):  # there is none, or it is none of ours
            earlier = []
        files.write_text(path, files.to_json(this | {"earlier": [run for run in earlier if run != this]}))
        return this
