"""`run.json`: what a folder of results needs to be made again."""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foclip import files

#: Packages that every figure depends on.
PACKAGES = ("foclip", "torch", "open_clip_torch", "pillow", "numpy")


def record(out: Path, command: Sequence[str], run: dict[str, Any], packages: Sequence[str] = ()) -> dict[str, Any]:
    """Write what was run to `out`/run.json; runs that were recorded there before stay, under `earlier`.

    Args:
        out: The folder.
        command: Arguments of the command line.
        run: What else there is to say: model, settings, failures …
        packages: Packages that matter besides `PACKAGES`.

    Returns:
        What was written of this run.
    """
    versions = {package: version(package) for package in (*PACKAGES, *packages)} | {"python": sys.version.split()[0]}
    this = {"command": list(command)} | run | {"versions": versions}
    path = out / "run.json"
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        earlier = [*last.pop("earlier", []), last]
    except (OSError, ValueError, AttributeError, TypeError):  # none, or none of ours
        earlier = []
    files.write_text(path, files.to_json(this | {"earlier": [run for run in earlier if run != this]}))
    return this
