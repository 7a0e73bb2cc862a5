"""The encoders that ship with the package: one open_clip `local-dir:` folder each.

`SHA256SUMS.json` lists every file a model needs with its SHA-256; `verified_path`
refuses a folder in which a byte has changed.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from foclip.errors import EncoderError

FOLDER = Path(__file__).parent
DEFAULT = "mini"
#: Hardened twins by the encoder they were made from.
TWINS = {"mini": "mini-robust"}


@cache
def _checksums() -> dict[str, str]:
    """SHA-256 by file, as `model/file` relative to this folder."""
    checksums: dict[str, str] = json.loads((FOLDER / "SHA256SUMS.json").read_text(encoding="utf-8"))
    return checksums


def names() -> list[str]:
    """Names of the embedded encoders, the default first."""
    found = {file.split("/")[0] for file in _checksums()}
    return sorted(found, key=lambda name: (name != DEFAULT, name))


def path(name: str) -> Path:
    """The folder of an embedded encoder; open_clip loads it as `local-dir:FOLDER`."""
    return FOLDER / name


def verified_path(name: str) -> Path:
    """The folder of an embedded encoder after checking every file against its checksum.

    Raises:
        EncoderError: A file is missing or differs from the one that was released.
    """
    for file, expected in _checksums().items():
        if not file.startswith(f"{name}/"):
            continue
        try:
            actual = hashlib.sha256((FOLDER / file).read_bytes()).hexdigest()
        except OSError as error:
            raise EncoderError(f"{name}: {FOLDER / file} cannot be read; reinstall foclip") from error
        if actual != expected:
            raise EncoderError(f"{name}: {FOLDER / file} is damaged (its SHA-256 differs); reinstall foclip")
    return path(name)
