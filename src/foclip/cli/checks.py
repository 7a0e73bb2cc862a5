"""What can be refused at once: these checks read names and small files, and import no torch, which takes seconds."""

import sys
from collections.abc import Sequence
from pathlib import Path

from foclip import files
from foclip.cli import console
from foclip.data import prompts as prompt_sets
from foclip.errors import PromptError, UsageError
from foclip.models import catalogue, embedded, registry
from foclip.outcome import Failure, Outcome


def prompts(prompt_set: str | None, texts: list[str] | None) -> list[str] | None:
    """The prompts of --prompts and --prompt; None if neither was given.

    Raises:
        PromptError: They are unusable.
    """
    if prompt_set == "-":
        texts, prompt_set = [line for line in sys.stdin.read().splitlines() if line.strip()] + (texts or []), None
    return None if prompt_set is None and not texts else prompt_sets.resolve(prompt_set, texts or [])


def images(paths: Sequence[Path], as_json: bool) -> None:
    """List pictures that are not there and exit with 1, if none of them is; else the others are worth the work."""
    if paths and all(map(_missing, paths)):
        failures = [Failure(str(path), f"{path}: no such file") for path in paths]
        console.show(Outcome([], failures), as_json, lambda rows: None)


def captions(name: str | None) -> None:
    """Refuse a file of captions that is not there.

    Raises:
        PromptError: It is not.
    """
    if name and name != "sidecar" and _missing(Path(name)):
        raise PromptError(f"captions: {name}: no such file")


def folders(argument: str, paths: Sequence[Path]) -> None:
    """Refuse folders, or files, that are not there; patterns are for whoever reads them.

    Raises:
        UsageError: One is not.
    """
    for path in paths:
        if _missing(path) and not set("*?[") & set(str(path)):  # it may be a pattern
            raise UsageError(f"{argument}: {path}: no such file or folder")


def models(*names: str) -> None:
    """Refuse names that stand for no encoder.

    Raises:
        EncoderError: One does not.
    """
    for name in names:
        if name not in embedded.names() and name.partition(":")[0] not in registry.schemes():
            catalogue.parse(name)


def score(name: str) -> None:
    """Refuse a score that nobody registered.

    Raises:
        UsageError: It is none of `foclip scores`.
    """
    if name not in registry.available():
        raise UsageError(f"score: {name!r} is none of {', '.join(registry.available())}")


def fpr(value: float | None) -> None:
    """Refuse a bound on false alarms that is no share.

    Raises:
        UsageError: It is none.
    """
    if value is not None and not 0 < value < 1:
        raise UsageError(f"fpr: {value} is not in (0, 1)")


def out(folder: Path, *names: str) -> None:
    """Make the folder for results, and refuse names in it that are folders.

    Raises:
        UsageError: The folder cannot be made, or there is a folder in the place of a file.
    """
    files.output_files(*(files.output_folder(folder) / name for name in names))


def engine(name: str, address: str | None) -> None:
    """Refuse an address that nothing would be done with.

    Raises:
        UsageError: It is given for this machine.
    """
    if address is not None and name != "ray":
        raise UsageError("--address: for --engine ray")


def _missing(path: Path) -> bool:
    try:
        return not path.exists()
    except (OSError, ValueError):  # no name that a file can have: whoever reads it says so
        return False
