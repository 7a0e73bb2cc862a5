"""Scan data sets: list the shards, do those that are not done, and say what was found."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import torch

from foclip import files
from foclip.cache import locked
from foclip.data.sources import Columns, Digest, Shard, shards
from foclip.detection import Detector, Method
from foclip.detection.detector import shipped
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, resolve
from foclip.outcome import Progress, no_progress
from foclip.scanning import local
from foclip.scanning.parts import FORMAT, Folder, Part, similarity, write
from foclip.scanning.rows import CHUNK, Judge, Row


@dataclass(frozen=True)
class Settings:
    """How a scan goes, besides what it finds.

    Attributes:
        workers: Processes at a time; None for one per core.
        batch_size: Pictures handed to a process at a time.
        retry_errors: Do nothing but the rows that had an error.
        address: Of a Ray cluster; None for this machine.
    """

    workers: int | None = None
    batch_size: int = CHUNK
    retry_errors: bool = False
    address: str | None = None


def scan(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Encoder | EmbeddingScore = "mini",
    score: str = DEFAULT,
    detector: Detector | Path | str | None = None,
    by: Method = "combined",
    fpr: float | None = None,
    draw: int | None = None,
    columns: Columns | None = None,
    engine: str = "local",
    settings: Settings | None = None,
    progress: Progress = no_progress,
) -> Folder:
    """Give every row of data sets a score, a verdict and a reason, or the reason why not.

    Stopped in the middle, a later call with the same arguments goes on where it was.

    Args:
        sources: Folders of pictures, WebDataset tars, Parquet tables, globs of them, paths or URLs that fsspec knows.
        out: Folder for parts and manifest; made if needed.
        model: An encoder, its name, or a score over one.
        score: Name of the score, unless `model` is one.
        detector: Or its file; None for the one that comes with the encoder.
        by: "combined", or "rule" for the paper's two thresholds.
        fpr: Bound on false alarms; None for the detector's own.
        draw: With which number the probes' amounts are drawn (`foclip.detect`); None for the usual ones.
        columns: Names of columns that are not recognised.
        engine: "local" or "ray".
        settings: How it goes.
        progress: Progress, in shards.

    Returns:
        The folder, with all of its parts.

    Raises:
        UsageError: A source cannot be listed, the detector belongs to another encoder, or an earlier run in `out` was
            another one.
        SourceError: A source has gone since.
        OutputError: A part cannot be written.
    """
    chosen, how, named = resolve(model, score), settings or Settings(), columns or Columns()
    if not isinstance(detector, Detector):
        detector = shipped(chosen.encoder) if detector is None else Detector.load(Path(detector))
    judge = Judge(chosen, detector, by, fpr, draw)
    with locked(files.output_folder(Path(out))):
        folder = Folder(Path(out))
        manifest = {"format": FORMAT, "judge": describe(judge), "columns": asdict(named)}
        count = _begin(folder, manifest, [str(source) for source in sources], named, how.retry_errors)
        folder.tidy()
        report = _Progress(progress, count)
        if how.retry_errors:
            retry(folder, judge, named, how, report)
        elif engine == "ray":
            from foclip.scanning import cluster

            cluster.work(folder, count, judge, named, how.workers, how.batch_size, how.address, report.show)
        else:
            todo = report.skipping(folder.shards(), folder)
            found = local.work(todo, judge, named, how.workers, how.batch_size)
            write(folder, found, similarity(chosen), report.add)
        return folder


def describe(judge: Judge) -> dict[str, Any]:
    """All that rows depend on besides the pictures, for the manifest."""
    detector = json.dumps(asdict(judge.detector), sort_keys=True, default=str)
    return {
        "model": judge.score.model,
        "score": judge.score.name,
        "scale": judge.score.scale,
        "weights and preprocessing": judge.score.fingerprint,
        "detector": f"{judge.detector.name} {hashlib.sha256(detector.encode()).hexdigest()[:16]}",
        "decided by": judge.by,
        "bound on false alarms": judge.detector.fpr if judge.fpr is None else judge.fpr,
        "precision": str(torch.get_default_dtype()).removeprefix("torch."),
        "version": version("foclip"),
    } | ({} if judge.draw is None else {"draw": judge.draw})


def _begin(folder: Folder, manifest: dict[str, Any], sources: list[str], columns: Columns, retry: bool) -> int:
    """Take up an earlier run, or begin one; the number of shards.

    Raises:
        UsageError: What is in the folder is the work of another run.
    """
    digests: list[Digest] = []
    listed = shards(sources, columns, digests)
    earlier = folder.manifest()
    if earlier is None:
        if retry:
            raise UsageError(f"out: {folder.out} holds no scan whose errors could be tried again")
        count = folder.list_shards(listed)
        folder.begin(manifest | {"shards": count, "sources": _sources(sources, digests)})
        return count
    for part in ("judge", "columns"):
        for name, value in manifest[part].items():
            if (then := earlier.get(part, {}).get(name)) != value:
                raise UsageError(_changed(folder, name, then, value))
    count = sum(1 for _ in listed)
    for then, now in zip(earlier["sources"], _sources(sources, digests), strict=False):
        compared = ("files", "names") if retry else ("files", "bytes", "names", "content")
        if differ := [name for name in compared if then.get(name) != now[name]]:
            told = (f"{differ[0]} {then.get(differ[0])}", f"{now[differ[0]]}")
            raise UsageError(_changed(folder, f"source {now['source']}", *told))
    if len(earlier["sources"]) != len(sources) or (count != earlier.get("shards") and not retry):
        raise UsageError(_changed(folder, "sources", len(earlier["sources"]), len(sources)))
    return int(earlier["shards"])


def _changed(folder: Folder, name: str, then: object, now: object) -> str:
    return f"out: {folder.out} holds a scan with another {name} ({then} then, {now} now); choose another folder"


def _sources(sources: Sequence[str], digests: Sequence[Digest]) -> list[dict[str, Any]]:
    return [{"source": source} | digest.as_dict() for source, digest in zip(sources, digests, strict=True)]


def retry(folder: Folder, judge: Judge, columns: Columns, settings: Settings, report: "_Progress") -> None:
    """Do the rows of finished parts again that had an error; all others stay as they are."""

    def before(shard: Shard) -> list[Row]:
        return list(parquet.read_table(folder.part(shard.number)).to_pylist())

    def wanted(shard: Shard) -> Callable[[int], bool]:
        old = before(shard)
        again = {place for place, row in enumerate(old) if row["error"]}
        return lambda place: place in again or place >= len(old)

    def todo() -> Iterator[Shard]:
        for shard in folder.shards():
            path = folder.part(shard.number)
            if path.exists() and any(row["error"] for row in before(shard)):
                yield shard
            else:
                report.finish()

    results = local.work(todo(), judge, columns, settings.workers, settings.batch_size, wanted)
    for shard, some in groupby(results, key=lambda found: found[0]):
        new = [row for _, rows, _ in some for row in rows]
        rows, again = [], iter(new)
        for row in before(shard):
            rows.append(next(again, None) if row["error"] else row)
        with Part(folder.part(shard.number), shard, similarity(judge.score)) as part:
            part.add([row for row in (*rows, *again) if row])
        report.add(len(new), 1.0)


class _Progress:
    """Shards done, and pictures in a second."""

    def __init__(self, progress: Progress, shards: int) -> None:
        self._advance = progress("scanning", max(shards, 1))
        self._done, self._pictures, self._since = 0, 0, time.monotonic()

    def skipping(self, shards: Iterable[Shard], folder: Folder) -> Iterator[Shard]:
        """The shards that have no part yet; the others count as done."""
        for shard in shards:
            if folder.part(shard.number).exists():
                self.finish()
            else:
                yield shard

    def add(self, pictures: int, share: float) -> None:
        """So many pictures more are done, and this share of their shard."""
        self._pictures += pictures
        rate = self._pictures / max(time.monotonic() - self._since, 1e-3)
        self._advance(self._done + share, f"{self._pictures:,} pictures, {rate:,.0f}/s")
        if share == 1:
            self._done += 1

    def finish(self) -> None:
        """A shard more is done."""
        self.show(self._done + 1)

    def show(self, done: int) -> None:
        """So many shards are done."""
        self._done = done
        self._advance(done)
