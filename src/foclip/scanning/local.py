"""Work spread over the cores of one machine.

The process that started reads the shards and hands out chunks of bytes; worker processes decode them, a bounded number
ahead. On a CPU they judge them too, one thread each: a small model gains more from another picture beside it than from
threads that share a picture, large weights are shared by all (the workers are forked), and nothing depends on their
number. With a GPU the pictures come back as the model sees them, 8 bits a channel, and are judged here.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from foclip.data.sources import Columns, Item, Shard
from foclip.machine import cores
from foclip.scanning.rows import CHUNK, Decoded, Judge, Row, chunks, decoded

#: Chunks in flight beside those that workers are at.
AHEAD = 4
#: Seconds after which workers notice that who started them is gone.
NOTICE = 0.2

#: Some rows of a shard, and the share of it that is done with them; no rows at its end.
Some = tuple[Shard, list[Row], float]
#: Which places of a shard are asked for.
Wanted = Callable[[Shard], Callable[[int], bool] | None]


def everything(shard: Shard) -> None:
    """A `Wanted` for all places."""


def work(
    shards: Iterable[Shard],
    judge: Judge,
    columns: Columns,
    workers: int | None = None,
    size: int = CHUNK,
    wanted: Wanted = everything,
    processes: bool = True,
) -> Iterator[Some]:
    """The rows of shards, in order.

    Args:
        shards: The shards.
        judge: Judges their pictures.
        columns: Names of columns.
        workers: How many at a time; None for one per core.
        size: Pictures in a chunk.
        wanted: Which places of a shard are asked for.
        processes: Workers are processes where the system can fork; else threads, which decode only.

    Raises:
        SourceError: A source is gone.
    """
    count = workers or cores()
    pool = _Pool(judge, count, processes)
    flying: deque[tuple[Shard, float, list[Item], Future[Any] | None]] = deque()

    def landed(leave: int) -> Iterator[Some]:
        while len(flying) > leave:
            shard, share, chunk, future = flying.popleft()
            yield shard, pool.rows(chunk, future) if future else [], share

    try:
        for shard in shards:
            rows = read = 0
            for chunk in chunks(shard, columns, size, wanted(shard)):
                rows, read = rows + len(chunk), read + sum(len(item.content) for item in chunk)
                share = rows / shard.rows if shard.rows > 0 else read / max(shard.size, 1)
                flying.append((shard, min(share, 0.999), chunk, pool.submit(chunk)))
                yield from landed(count + AHEAD)
            flying.append((shard, 1.0, [], None))
        yield from landed(0)
    finally:
        pool.close()


class _Pool:
    """Workers, and what is done when one of them dies."""

    def __init__(self, judge: Judge, workers: int, processes: bool) -> None:
        self.judge, self.workers = judge, workers
        self.forks = processes and sys.platform == "linux"
        self.judges = self.forks and judge.score.device.type == "cpu"
        self.executor = self._executor(workers)

    def _executor(self, workers: int) -> Executor:
        if not self.forks:
            return ThreadPoolExecutor(workers)
        context = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(workers, context, _begin, (self.judge, self.judges, os.getpid()))

    def submit(self, chunk: list[Item]) -> Future[Any]:
        """Begin a chunk."""
        try:
            return self._submit(self.executor, chunk)
        except BrokenProcessPool:  # found out late: those in flight see to themselves
            self.executor.shutdown(wait=False)
            self.executor = self._executor(self.workers)
            return self._submit(self.executor, chunk)

    def _submit(self, executor: Executor, chunk: list[Item]) -> Future[Any]:
        return executor.submit(_work, chunk) if self.forks else executor.submit(decoded, chunk, self._resize)

    @property
    def _resize(self) -> Any:
        return self.judge.score.encoder.resize

    def rows(self, chunk: list[Item], future: Future[Any]) -> list[Row]:
        """The rows of a chunk that was begun."""
        try:
            return self._judged(future.result())
        except BrokenProcessPool:
            return self._carefully(chunk)

    def _judged(self, found: Decoded | list[Row]) -> list[Row]:
        return self.judge(found) if isinstance(found, Decoded) else found

    def _carefully(self, chunk: list[Item]) -> list[Row]:
        """A chunk that may have killed a worker, in a process of its own, in ever smaller pieces down to one item."""
        alone = self._executor(1)
        try:
            return self._judged(self._submit(alone, chunk).result())
        except BrokenProcessPool:
            if len(chunk) > 1:
                half = len(chunk) // 2
                return self._carefully(chunk[:half]) + self._carefully(chunk[half:])
            error = "the process that decoded it died (a fault of the decoder, or no memory left)"
            return [{"key": chunk[0].key, "uid": chunk[0].uid, "caption": chunk[0].caption, "error": error}]
        finally:
            alone.shutdown(wait=False)

    def close(self) -> None:
        """End the workers; what is in flight is dropped."""
        self.executor.shutdown(wait=True, cancel_futures=True)


#: What workers were forked with.
_judge: Judge
_judges: bool


def _begin(judge: Judge, judges: bool, parent: int) -> None:
    global _judge, _judges
    _judge, _judges = judge, judges
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End with the process that started this one, however it ended."""
    while os.getppid() == parent:
        time.sleep(NOTICE)
    os._exit(1)


def _work(chunk: list[Item]) -> Decoded | list[Row]:
    found = decoded(chunk, _judge.score.encoder.resize)
    return _judge(found) if _judges else found
