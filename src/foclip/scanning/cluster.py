"""A scan on a Ray cluster.

An actor has a model and does one shard at a time, in the way that one machine does it. A part is written whole or not
at all, and one that is there is never made again, so a lost node costs the shards it was at. All nodes must see the
output folder and the sources.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foclip.data.sources import Columns, Shard
from foclip.errors import UsageError
from foclip.models.registry import resolve
from foclip.models.scores import CLIPScore
from foclip.runs.workers import RayActors, connected
from foclip.scanning.mapper import Mapper, mapped
from foclip.scanning.output import Folder, write
from foclip.scanning.reader import read


@dataclass
class ShardScan:
    """What an actor does with a shard.

    Attributes:
        out: The output folder.
        scorer: Name of the model and of the score; they are loaded on each node.
        scale: The score's scale.
        fingerprint: Of the score where the scan began.
        judge: The detector and the other arguments of `Mapper`.
        columns: Names of columns.
        batch_size: Items in a chunk.
    """

    out: Path
    scorer: tuple[str, str]
    scale: float
    fingerprint: str
    judge: tuple[Any, ...]
    columns: Columns
    batch_size: int

    @cached_property
    def mapper(self) -> Mapper:
        """Loaded by the first shard.

        Raises:
            UsageError: The model has other weights on this node.
        """
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
        if not folder.part(shard.number).exists():
            results = mapped(read([shard], self.columns, self.batch_size), self.mapper, workers=1, processes=False)
            write(folder, results, self.mapper.schema, lambda rows, share: counts.append(rows))
        return sum(counts)


def work(
    folder: Folder,
    mapper: Mapper,
    columns: Columns,
    shards: Iterable[Shard],
    report: Callable[[int, float], None],
    workers: int | None,
    batch_size: int,
    address: str | None,
) -> None:
    """Do shards on the GPUs of a cluster if it has any, else on its cores.

    Args:
        folder: The folder of the scan, on a file system that all nodes share.
        mapper: Its scorer is loaded by name on every node.
        columns: Names of columns.
        shards: The shards.
        report: Called with the number of new rows, and 1, when a shard is done.
        workers: Actors at most; None for as many as there is room for.
        batch_size: Items in a chunk.
        address: Of the cluster; None for Ray on this machine.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
        SourceError: A source is gone.
        OutputError: A part cannot be written.
    """
    scorer, judge = mapper.scorer, (mapper.detector, mapper.method, mapper.fpr, mapper.seed)
    names = scorer.model, scorer.info.name
    out = folder.out.resolve()
    scan = ShardScan(out, names, scorer.info.scale, scorer.fingerprint, judge, columns, batch_size)
    with connected(address) as ray:
        actors = RayActors(ray, workers, gpu=ray.cluster_resources().get("GPU", 0) > 0)
        for _, rows in actors.map(scan, shards):
            report(rows, 1.0)
