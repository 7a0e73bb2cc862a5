"""The encoders that ship with the package: one open_clip `local-dir:` folder each.

Of a twin that detectors look through, the folder has the image tower alone: everything else is its original's.
`SHA256SUMS.json` lists every file a model needs with its SHA-256.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from foclip.errors import EncoderError

FOLDER = Path(__file__).parent
DEFAULT = "mini"
#: Hardened twins by the encoder they were made from, the one that resists most first. A detector looks through them in
#: this order: what an attacker can do against the first look bounds what they get past all of them.
HARDENED = {"mini": ("mini-robust", "mini-robust-46"), "mini-vit": ("mini-vit-robust-44",)}
#: Whose text tower, tokenizer and configuration a folder that has an image tower alone goes with.
ORIGINALS = {"mini-robust-46": "mini", "mini-vit-robust-44": "mini-vit"}
#: The file of such an image tower.
TOWER = "image_tower.safetensors"


@cache
def _checksums() -> dict[str, str]:
    """SHA-256 by file, as `model/file` relative to this folder."""
    checksums: dict[str, str] = json.loads((FOLDER / "SHA256SUMS.json").read_text(encoding="utf-8"))
    return checksums


def names() -> list[str]:
    """Names of the embedded encoders, the default first."""
    return sorted({file.split("/")[0] for file in _checksums()}, key=lambda name: (name != DEFAULT, name))


def path(name: str) -> Path:
    """The folder of an embedded encoder; open_clip loads it as `local-dir:FOLDER`."""
    return FOLDER / name


def verified_path(name: str) -> Path:
    """The folder of an embedded encoder, if its files are those that were released; else an `EncoderError`."""
    for file, expected in _checksums().items():
        if file.startswith(f"{name}/"):
            try:
                actual = hashlib.sha256((FOLDER / file).read_bytes()).hexdigest()
            except OSError as error:
                raise EncoderError(f"{name}: {FOLDER / file} cannot be read; reinstall foclip") from error
            if actual != expected:
                raise EncoderError(f"{name}: {FOLDER / file} is damaged (its SHA-256 differs); reinstall foclip")
    return path(name)
