"""Scan data sets: list the shards, do those that are not done on this machine or a Ray cluster, write a part for each.

A part is written whole or not at all, and one that is there is never made again, so a killed run or a lost node costs
the shards it was at.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from foclip.data.sources import Columns, Listing, Shard
from foclip.detection.detector import Detector, Method
from foclip.detection.peers import FDR
from foclip.detection.universal import universal
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.registry import DEFAULT, resolve
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.models.scores import CLIPScore
from foclip.outcome import Progress, no_progress
from foclip.runs.folder import Run
from foclip.runs.workers import RayActors, connected
from foclip.scanning import peers
from foclip.scanning.mapper import Mapper, detector_of, mapped
from foclip.scanning.output import CHUNK, FORMAT, Chunk, Folder, Row, read, write


@dataclass(frozen=True)
class Settings:
    """How a scan is done. No row depends on it."""

    workers: int | None = None  # processes, or actors; None for one per core, or as many as there is room for
    batch_size: int = CHUNK  # pictures handed to a process at a time
    retry_errors: bool = False  # do only the rows again that had an error
    address: str | None = None  # of a Ray cluster; None for this machine


def scan(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    detector: Detector | Path | str | None = None,
    method: Method = "combined",
    fpr: float | None = None,
    seed: int | None = None,
    fdr: float | None = None,
    scores_only: bool = False,
    columns: Columns | None = None,
    engine: str = "local",
    settings: Settings | None = None,
    progress: Progress = no_progress,
) -> Folder:
    """Give every row of data sets a score and a verdict, or an error that says why not.

    If it is stopped, a later call with the same arguments goes on where it was.

    Args:
        sources: Folders of pictures, WebDataset tars, Parquet tables, globs of them; paths or URLs that fsspec opens.
        out: Folder for parts and manifest; made if needed.
        model: A scorer, an encoder, or the name of one.
        score: Name of the score, unless `model` is one.
        detector: Or its file; None for the one that comes with the encoder. Without any, the rows are their own
            reference (`foclip.scanning.peers`), if the score has an embedding; else there are scores alone.
        method: As for `foclip.detect`, and so `fpr` and `seed`.
        fpr: Bound on false alarms.
        seed: Of the probes' random amounts.
        fdr: Share of false discoveries that is aimed at where the rows are their own reference; None for 10 %.
        scores_only: No verdicts, whether there is a detector or not.
        columns: Names of columns that are not found by their usual names.
        engine: "local", or "ray" for a cluster whose nodes all see `out` and the sources.
        settings: How it is done.
        progress: Progress, in shards.

    Returns:
        The folder, with all of its parts.

    Raises:
        UsageError: A source cannot be listed, the detector belongs to another encoder, `out` holds another scan, or
            there is no such cluster.
        SourceError: A source is gone that was there when the scan began.
        OutputError: A part cannot be written.
    """
    scorer, how, columns = resolve(model, score), settings or Settings(), columns or Columns()
    judge = None if scores_only else detector_of(scorer, detector)[0]
    mapper = Mapper(scorer, judge, method, fpr, seed, isinstance(scorer, EmbeddingScorer) and not scores_only)
    if fdr is not None and not mapper.peers:
        raise UsageError("fdr: for rows that are their own reference; a detector keeps to fpr")
    fdr = FDR if fdr is None else fdr
    if not 0 < fdr < 1:
        raise UsageError(f"fdr: {fdr} is not in (0, 1)")
    with Run(out):
        folder = Folder(Path(out))
        listing = Listing([str(source) for source in sources], columns)
        about = describe(mapper) | ({"share of false discoveries": fdr} if mapper.peers else {})
        report = _Progress(progress, folder, _begin(folder, about, listing, how.retry_errors))
        for unfinished in folder.parts.glob(".*.part"):  # of a run that was killed
            unfinished.unlink(missing_ok=True)
        if how.retry_errors:
            _retry(folder, mapper, columns, how, report)
        elif engine == "ray":
            with connected(how.address) as ray:
                actors = RayActors(ray, how.workers, gpu=ray.cluster_resources().get("GPU", 0) > 0)
                names, given = (scorer.model, scorer.info.name), (mapper.detector, method, fpr, seed, mapper.peers)
                place = folder.out.resolve(), names, scorer.info.scale, scorer.fingerprint
                work = ShardScan(*place, given, columns, how.batch_size)
                for _, rows in actors.map(work, report.pending(folder.misses)):
                    report.add(rows, 1.0)
        else:
            chunks = read(report.pending(folder.misses), columns, how.batch_size)
            write(folder, mapped(chunks, mapper, how.workers), mapper.schema, report.add)
        if mapper.peers:
            peers.judge(folder, fdr)
        return folder


def describe(mapper: Mapper) -> dict[str, Any]:
    """All that rows depend on besides the pictures, for the manifest."""
    scorer, detector = mapper.scorer, mapper.detector
    found: dict[str, Any] = {
        "model": scorer.model,
        "score": scorer.info.name,
        "scale": scorer.info.scale,
        "weights and preprocessing": scorer.fingerprint,
        "precision": str(torch.get_default_dtype()).removeprefix("torch."),
        "version": version("foclip"),
        "detector": None,
    }
    if mapper.peers:
        statistic = hashlib.sha256(repr(universal()).encode()).hexdigest()[:16]
        found |= {"reference": "its own rows", "statistic": statistic, "seed": mapper.seed}
    if detector is not None:
        content = json.dumps(asdict(detector), sort_keys=True, default=str)
        found["detector"] = f"{detector.name} {hashlib.sha256(content.encode()).hexdigest()[:16]}"
        bound = detector.fpr if mapper.fpr is None else mapper.fpr
        found |= {"method": mapper.method, "bound on false alarms": bound, "seed": mapper.seed}
    return found


def _begin(folder: Folder, judge: dict[str, Any], listing: Listing, retry: bool) -> int:
    """Begin a scan, or go on with an earlier one, unless it was another scan; the number of its shards."""
    columns = asdict(listing.columns)
    earlier = folder.manifest()
    if earlier is None:
        if retry:
            raise UsageError(f"out: {folder.out} holds no scan whose errors could be tried again")
        content = {"format": FORMAT, "judge": judge, "columns": columns}

        def manifest(count: int) -> dict[str, Any]:
            found = {
                "shards": count,
                "sources": listing.sources,
                "found": listing.as_dict(),
                "passed_over": dict(listing.passed_over),
            }
            return content | found

        return folder.begin(listing, manifest)

    def check(name: str, then: object, now: object) -> None:
        if then != now:
            raise UsageError(
                f"out: {folder.out} holds a scan with another {name} ({then} then, {now} now); choose another folder"
            )

    for part, settings in (("judge", judge), ("columns", columns)):
        for name, value in settings.items():
            check(name, earlier.get(part, {}).get(name), value)

    def same(count: int) -> None:
        """Compare what is found, not how it is named: it may be mounted elsewhere, or a glob be expanded."""
        now = listing.as_dict()
        for name in ("files", "names") if retry else ("files", "bytes", "names", "content"):
            then = earlier["found"].get(name)
            check(f"source {', '.join(listing.sources)[:200]}", f"{name} {then}", f"{name} {now[name]}")
        if not retry:
            check("number of shards", earlier.get("shards"), count)

    if retry:
        same(sum(1 for _ in listing))
    else:
        folder.begin(listing, same)
    return int(earlier["shards"])


def _retry(folder: Folder, mapper: Mapper, columns: Columns, settings: Settings, report: "_Progress") -> None:
    """Do the rows of finished parts again that had an error; all others stay as they are."""

    def failed(shard: Shard) -> bool:
        return not folder.misses(shard) and any(row["error"] for row in folder.rows_of(shard))

    def wanted(shard: Shard) -> Callable[[int], bool]:
        before = folder.rows_of(shard)
        return lambda place: place >= len(before) or bool(before[place]["error"])

    def results() -> Iterator[tuple[Chunk, list[Row]]]:
        chunks = read(report.pending(failed), columns, settings.batch_size, wanted)
        for shard, some in groupby(mapped(chunks, mapper, settings.workers), key=lambda result: result[0].shard):
            again = iter([row for _, rows in some for row in rows])
            rows = [next(again, None) if row["error"] else row for row in folder.rows_of(shard)]
            yield Chunk(shard, [], 1.0), [row for row in (*rows, *again) if row]

    write(folder, results(), mapper.schema, report.add)


@dataclass
class ShardScan:
    """What an actor of a cluster does with a shard: the same as one machine, with a model that it loads by name."""

    out: Path
    scorer: tuple[str, str]  # names of the model and of the score
    scale: float
    fingerprint: str  # of the score where the scan began
    judge: tuple[Any, ...]  # the detector and the other arguments of `Mapper`
    columns: Columns
    batch_size: int

    @cached_property
    def mapper(self) -> Mapper:
        """Loaded by the first shard; a `UsageError` if the model has other weights on this node."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        scorer = resolve(*self.scorer, device=device)
        if isinstance(scorer, CLIPScore):
            scorer = CLIPScore(scorer.encoder, self.scale)
        if scorer.fingerprint != self.fingerprint:
            raise UsageError(f"model: {scorer.model} has other weights on this node ({scorer.fingerprint[:22]}…)")
        if device == "cpu":
            torch.set_num_threads(1)  # as in the processes of one machine, so that figures are rounded alike
        return Mapper(scorer, *self.judge)

    def __call__(self, shard: Shard) -> int:
        """Write the part of a shard, unless it is there; the number of its new rows."""
        folder, counts = Folder(self.out), [0]
        if folder.misses(shard):
            results = mapped(read([shard], self.columns, self.batch_size), self.mapper, workers=1, processes=False)
            write(folder, results, self.mapper.schema, lambda rows, share: counts.append(rows))
        return sum(counts)


class _Progress:
    """Shards done, and pictures in a second."""

    def __init__(self, progress: Progress, folder: Folder, shards: int) -> None:
        self._advance, self._folder = progress("scanning shards", max(shards, 1)), folder
        self._done, self._pictures, self._since = 0, 0, time.monotonic()

    def pending(self, due: Callable[[Shard], bool]) -> Iterator[Shard]:
        """The shards that are due. The others count as done."""
        for shard in self._folder.shards():
            if due(shard):
                yield shard
            else:
                self._done += 1
                self._advance(self._done)

    def add(self, pictures: int, share: float) -> None:
        """So many more pictures are done, and this share of their shard."""
        self._pictures += pictures
        rate = self._pictures / max(time.monotonic() - self._since, 1e-3)
        self._advance(self._done + share, f"{self._pictures:,} pictures, {rate:,.1f}/s")
        self._done += share == 1
