"""Work spread over a cluster by Ray Data, whose rows are shards.

Every actor has a model, and does with a shard what the local engine does: the same chunks, in the same passes, in
a part that is written whole or not at all. Which shards are done is Ray Data's own checkpoint, with their number as
id; a part that is there already, from a run that ended before Ray could note it, is left as it is. All nodes see the
output folder.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foclip.data.sources import Columns
from foclip.detection import Detector, Method
from foclip.errors import OutputError, UsageError
from foclip.models.scores import CLIPScore, resolve
from foclip.runs.workers import SPARE, connected, unwrap_ray_error
from foclip.scanning import local
from foclip.scanning.parts import Folder, similarity, write
from foclip.scanning.rows import Judge

#: Where Ray keeps what it needs to go on.
STATE = ".ray"
#: Seconds between two looks at what is done.
PROBE = 1.0


def work(
    folder: Folder,
    count: int,
    judge: Judge,
    columns: Columns,
    workers: int | None,
    size: int,
    address: str | None,
    show: Callable[[int], None],
) -> None:
    """Do the shards of a folder that are not done.

    Args:
        folder: The folder of the scan, on a file system that all nodes share.
        count: Number of its shards.
        judge: What judges; its model is loaded anew by its name on every node.
        columns: Names of columns.
        workers: Actors at most; None for all cores, or all GPUs if there are any.
        size: Pictures in a chunk.
        address: Of the cluster; None for Ray on this machine.
        show: Called now and then with the number of parts that are there.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
        SourceError: A source is gone.
        OutputError: A part cannot be written.
    """
    with connected(address) as ray:
        from ray.data import ActorPoolStrategy, DataContext
        from ray.data.checkpoint import CheckpointConfig

        held = ray.cluster_resources()
        gpus = int(held.get("GPU", 0))
        actors = min(workers or 2**20, gpus or max(1, int(held.get("CPU", 1)) - SPARE))
        state = folder.out.resolve() / STATE
        context = DataContext.get_current()
        if hasattr(context, "use_datasource_v2"):  # its reader of checkpoints starts dozens of processes
            context.use_datasource_v2 = False
        context.enable_progress_bars, context.print_on_execution_start = False, False
        context.checkpoint_config = CheckpointConfig(id_column="id", checkpoint_path=str(state / "checkpoint"))
        asked = (judge.score.model, judge.score.name, judge.score.scale, judge.score.fingerprint)
        arguments = (str(folder.out.resolve()), *asked, judge.detector, judge.by, judge.fpr, columns, size, judge.draw)
        done = (
            # A block of one row for each, since an actor gets blocks. It is no read_parquet of the list, which starts
            # dozens of processes to look at the footer of one small file.
            ray.data.range(count, override_num_blocks=max(count, 1)).map_batches(
                _Scanner,
                batch_size=1,
                fn_constructor_args=arguments,
                compute=ActorPoolStrategy(min_size=1, max_size=actors),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
        )
        try:
            with _watched(folder, show):
                done.write_parquet(str(state / "done"))
        except Exception as error:  # Ray wraps what an actor raises in exceptions of its own
            raise unwrap_ray_error(error) from error
    shutil.rmtree(state, ignore_errors=True)
    if (missing := next(folder.pending(), None)) is not None:
        raise OutputError(f"{folder.part(missing.number)}: was removed since; give the same command again")


class _Scanner:
    """An actor: one model, and one shard at a time."""

    def __init__(
        self,
        out: str,
        model: str,
        score: str,
        scale: float,
        fingerprint: str,
        detector: Detector,
        by: Method,
        fpr: float | None,
        columns: Columns,
        size: int,
        draw: int | None = None,
    ) -> None:
        from pathlib import Path

        chosen = resolve(model, score, "cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(chosen, CLIPScore):
            chosen = CLIPScore(chosen.encoder, scale)
        if chosen.fingerprint != fingerprint:
            raise UsageError(f"model: {model} has other weights on this node ({chosen.fingerprint[:22]}…)")
        if chosen.device.type == "cpu":
            torch.set_num_threads(1)  # as in the processes of the local engine, for the same rounding
        self.folder, self.judge = Folder(Path(out)), Judge(chosen, detector, by, fpr, draw)
        self.columns, self.size = columns, size

    def __call__(self, batch: Any) -> Any:
        for number in batch["id"].tolist():
            if not self.folder.part(number).exists():
                shard = self.folder.shard(number)
                found = local.work([shard], self.judge, self.columns, 1, self.size, processes=False)
                write(self.folder, found, similarity(self.judge.score))
        return batch


@contextmanager
def _watched(folder: Folder, show: Callable[[int], None]) -> Iterator[None]:
    """Progress, from the parts that appear."""
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(PROBE):
            show(sum(1 for _ in folder.parts.glob("[0-9]*.parquet")))

    watcher = threading.Thread(target=probe, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
