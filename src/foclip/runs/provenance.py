"""What figures were made with: the code, the day, the machine, and the shipped parts that they rest on."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import foclip
from foclip import machine

PACKAGE = Path(foclip.__file__).parent
#: Where parts that figures rest on are, below the package.
ATTACKS, DETECTORS = "attacks/__init__.py", "detection/shipped"
#: Detectors, and the statistic for all other encoders. They name the fingerprints of the encoders they belong to.
SHIPPED = ("mini", "mini-vit", "mini-robust", "universal")


def made() -> dict[str, Any]:
    """Version, commit, day and machine, to write beside figures: no path, and no name of the machine."""
    import torch

    about = {"processor": machine.processor(), "cores": machine.cores(), "threads": torch.get_num_threads()}
    return {
        "foclip": foclip.__version__,
        "commit": _commit(),
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "machine": about | {"torch": torch.__version__},
    }


def parts(read: Callable[[str], bytes] | None = None) -> dict[str, str]:
    """What figures may rest on, by name, with what tells it from another one of that name.

    These are the `attack` by its revision, each `detector …` (`detector universal` for all other encoders) by a digest
    of its numbers, and the `weights …` of the embedded encoders by their fingerprints.

    Args:
        read: Returns a file's content by its path below the package; the files of this package by default.
    """
    found = {}
    read = read or (lambda path: (PACKAGE / path).read_bytes())
    for name in SHIPPED:
        detector = json.loads(read(f"{DETECTORS}/{name}.json"))
        detector.pop("provenance")
        found[f"detector {name}"] = hashlib.sha256(json.dumps(detector, sort_keys=True).encode()).hexdigest()[:16]
        if "fingerprint" in detector:
            known = {detector["model"]: detector["fingerprint"]} | detector["hardened"]
            found |= {f"weights {model}": fingerprint[:16] for model, fingerprint in known.items()}
    revision = [line for line in read(ATTACKS).decode().splitlines() if line.startswith("REVISION = ")]
    return found | {"attack": revision[0].split()[-1] if revision else "0"}


def _commit() -> str | None:
    """The commit of the code, marked if code was changed since; None if the package is in no checkout of its own."""

    def git(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        asked = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(asked, capture_output=True, check=check, text=True)  # noqa: S603  # our own words

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "--short", "HEAD").stdout.strip()
        changed = git("diff", "--quiet", "HEAD", "--", ":/src", ":/*.py", check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit
