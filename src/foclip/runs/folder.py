"""The folder that a run works in: locked, resumed, described in `run.json`; and `results.json`, which runs add to."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foclip import files
from foclip.cache import Cache, locked
from foclip.errors import UsageError

#: Where a run keeps unfinished work, from which a later run goes on; and what is needed to make its results again.
UNFINISHED, RECORD = ".unfinished", "run.json"
#: The list of fooled pictures in a folder.
RESULTS = "results.json"
#: Bytes of a file's stem at most, so that suffix and number fit into what file systems take (255).
LONGEST_STEM = 240
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


@dataclass(frozen=True)
class Result:
    """One fooled picture."""

    source: str  #: The original's file.
    output: str  #: The file written, PNG.
    prompts: list[str]  #: The prompts it was fooled for.
    score_before: float  #: Mean figure over the prompts of the original (CLIPScore: w = 2.5).
    scores_before: list[float]  #: Figure of the original per prompt.
    score_after: float  #: Mean figure of the written file.
    scores_after: list[float]  #: Figure of the written file per prompt.
    gray_score_before: float  #: Mean figure of the original in gray (BT.601 luma).
    gray_score_after: float  #: Mean figure of the written file in gray.
    psnr: float | None  #: PSNR of the written file against the original, dB; None where they are equal.
    psnr_seen: float | None  #: The same of the part that the model sees, after its crop.
    ssim: float | None  #: SSIM of the two; None below 11 × 11 pixels.
    linf: int  #: Largest change of a channel, in 8-bit levels.
    delta_e: float  #: Colour difference CIEDE2000 of the two, mean over pixels.
    delta_e99: float  #: Its 99th percentile.
    flip: float  #: FLIP, the visible difference, in [0, 1] at 67 pixels per degree, mean over pixels.
    flip99: float  #: Its 99th percentile.
    contrast: float  #: Visible contrast of the change, in thresholds (`foclip.perceptual.contrast`).
    steps: int  #: Updates made.
    seconds: float  #: Time they took.
    stopped_by: str  #: As for `foclip.attacks.AttackResult`.
    score: str  #: Name of the score.
    model: str  #: Name of the encoder.
    fingerprint: str  #: Digest of score, weights and preprocessing.
    config: dict[str, Any]  #: The attack's settings.
    seed: int  #: The attack's seed.
    curve: list[list[float]]  #: [step, mean figure] of the 8-bit iterate, at most 200 points.
    sha256: str | None  #: Digest of the file written.
    key: str  #: Names picture and settings; the same again is found by it.

    @property
    def gain(self) -> float | None:
        """Relative gain of the mean score, or None where the original's is 0."""
        return self.score_after / self.score_before - 1 if self.score_before > 0 else None


@dataclass(frozen=True)
class OutputSlot:
    """Where the result of one picture goes."""

    name: str  #: What the picture is called.
    work: str  #: The attack's key: the same picture under another name is the same work.
    key: str  #: Names the result.
    output: Path  #: The file to write.
    done: bool  #: Whether an earlier run wrote it.


class Results:
    """What earlier runs wrote to a locked folder, and what this one adds."""

    def __init__(self, run: Run) -> None:
        self._out, self._cache = run.out, run.cache
        self._results: dict[str, Result] = {result.key: result for result in read_results(run.out)}
        self._slots: list[OutputSlot] = []

    def slot(self, name: str, result: str, work: str) -> OutputSlot:
        """Where a result goes: where it was begun or done, else at a name that is free.

        `result` is the key by which an earlier one counts, `work` that of the attack that makes it now.
        """
        relative = os.path.relpath(Path(name).resolve(), self._out.resolve())  # the folders may move together
        key = Cache.key(result, relative)
        if same := [slot for slot in self._slots if slot.key == key]:  # a picture that is given twice is done once
            self._slots.append(replace(same[0], done=True))
            return self._slots[-1]
        if key not in self._results and (kept := _result(self._cache.get(key))):
            self._results[key] = kept
        known, taken = self._results.get(key), {slot.output for slot in self._slots}
        if known and known.stopped_by == "request":
            known = None  # it is not what was asked
        if known and (output := self._out / Path(known.output).name) not in taken and digest(output) == known.sha256:
            self._results[key] = replace(known, output=str(output))  # the folder may have moved
            self._slots.append(OutputSlot(name, work, key, output, True))
        else:
            begun = self._cache.get(_claim(key))
            output = self._out / begun if isinstance(begun, str) else _free(self._out, Path(name).stem, taken)
            self._cache.put(_claim(key), output.name)
            self._slots.append(OutputSlot(name, work, key, output, False))
        return self._slots[-1]

    def write(self, slot: OutputSlot, result: Result) -> None:
        """Keep a result whose file is written."""
        self._cache.put(slot.key, asdict(result))
        self._results[slot.key] = result

    def of_this_run(self) -> list[Result]:
        """The results of this run, in the order of its pictures."""
        return [self._results[slot.key] for slot in self._slots if slot.key in self._results]

    def save(self) -> None:
        """Write `results.json`, and drop the finished pieces of work that it replaces."""
        files.write_text(self._out / RESULTS, files.to_json([asdict(result) for result in self._results.values()]))
        for slot in self._slots:
            if slot.key in self._results:
                for key in (slot.work, slot.key, _claim(slot.key)):
                    self._cache.drop(key)


def _claim(key: str) -> str:
    """Names the piece of work that holds the name of a result's file."""
    return f"{key}-output"


def _free(out: Path, stem: str, taken: set[Path]) -> Path:
    """`out`/<stem>.png, or with the first number at which there is no such file."""
    stem = os.fsdecode(os.fsencode(stem)[:LONGEST_STEM])
    output, count = out / f"{stem}.png", 1
    while output in taken or output.exists():
        count += 1
        output = out / f"{stem}-{count}.png"
    return output


def read_results(out: Path) -> list[Result]:
    """The results that `results.json` of a folder lists; none without that file, a `UsageError` if it is other."""
    path = out / RESULTS
    if not path.exists():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(listed, list):
            raise TypeError("not a list")
        found = [result for entry in listed if (result := _result(entry))]
        if len(found) < len(listed):
            raise TypeError("other keys")
        return found
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"out: {path} is no list of results ({error}); choose another folder") from error


def _result(content: Any) -> Result | None:
    names = {f.name for f in fields(Result)}
    return Result(**content) if isinstance(content, dict) and content.keys() == names else None


def digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
