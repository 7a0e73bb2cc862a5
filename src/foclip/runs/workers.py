"""One function called on many items by workers: threads, processes or actors of a Ray cluster.

Workers may die: a decoder crashes, or a node is lost. For the item of a process that died there is a `WorkerDied`; Ray
gives the item to another worker.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from foclip.errors import FoclipError, UsageError
from foclip.machine import cores

T = TypeVar("T")
R = TypeVar("R")

#: Items that are handed out beyond one for each worker, so that no worker waits for the next one.
AHEAD = 4
#: Seconds after which worker processes notice that their parent process has ended.
NOTICE = 0.2
#: Cores that Ray's own tasks take beside the actors; and workers that one item may lose before the item is at fault.
SPARE, DEATHS = 2, 10


class WorkerDied:
    """The result of an item whose worker process died."""


@dataclass(frozen=True)
class LocalWorkers:
    """Workers on this machine; results come in the order of the items.

    Worker processes are forked, so they share the memory of what the function holds, such as the weights of a model.
    Each has one torch thread.
    """

    count: int  #: Number of workers.
    processes: bool = True  #: Workers are processes if the system can fork, else threads.

    @property
    def fork(self) -> bool:
        """Whether workers are processes."""
        return self.processes and sys.platform == "linux"

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | WorkerDied]]:
        """Each item with what the function returned for it; what the function raises is raised here.

        An item whose process died yields `WorkerDied`, as do others that were begun then.
        """
        pool = self._pool(function)
        call: Any = _call if self.fork else function
        waiting: deque[tuple[T, Future[R]]] = deque()

        def results(leave: int) -> Iterator[tuple[T, R | WorkerDied]]:
            while len(waiting) > leave:
                item, future = waiting.popleft()
                try:
                    yield item, future.result()
                except BrokenProcessPool:
                    yield item, WorkerDied()

        try:
            for item in items:
                try:
                    future = pool.submit(call, item)
                except BrokenProcessPool:  # `results` will find out which items are lost
                    pool.shutdown(wait=False)
                    pool = self._pool(function)
                    future = pool.submit(call, item)
                waiting.append((item, future))
                yield from results(self.count + AHEAD)
            yield from results(0)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, function: Callable[[T], R]) -> Executor:
        if self.fork:
            return ProcessPoolExecutor(self.count, multiprocessing.get_context("fork"), _begin, (function, os.getpid()))
        return ThreadPoolExecutor(self.count)


#: What a worker process calls. It has it from its fork.
_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any], parent: int) -> None:
    global _function
    _function = function
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent ends, in whatever way."""
    while os.getppid() == parent:
        time.sleep(NOTICE)
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)


class RayActors:
    """Workers that are actors of a Ray cluster; results come in the order in which they are finished.

    Functions, items and results are pickled. Actors are started by the first `map`, and kept with the last function.
    """

    def __init__(
        self,
        ray: Any,  # connected (`connected`)
        workers: int | None,  # actors at most; None for as many as there is room for
        threads: int = 1,  # cores, and torch threads, of each actor
        gpu: bool = False,  # each actor has a GPU
    ) -> None:
        resources = ray.cluster_resources()
        room = int(resources.get("GPU", 0)) if gpu else (int(resources.get("CPU", 1)) - SPARE) // threads
        self._ray, self._count = ray, max(1, min(room, workers or room))
        self._actor = ray.remote(num_cpus=threads, num_gpus=int(gpu))(_Actor)
        self._threads = threads
        self._idle: list[Any] = []
        self._held: tuple[Any, Any] | None = None
        #: What is awaited: reference to a result -> actor, and its item; none for an actor that is starting.
        self._awaited: dict[Any, tuple[Any, list[Any]]] = {}

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[tuple[T, R], None, None]:
        """Each item with what the function returned for it; what the function raises is raised here."""
        if self._held is None or self._held[0] is not function:
            self._held = function, self._ray.put(function)
        reading, end, again, deaths = iter(items), object(), deque[T](), Counter[int]()
        lost = self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError
        item: Any = None
        while len(self._idle) + len(self._awaited) < self._count:
            self._start()
        try:
            while True:
                while self._idle and (item := again.popleft() if again else next(reading, end)) is not end:
                    actor = self._idle.pop()
                    self._awaited[actor.call.remote([self._held[1]], item)] = actor, [item]
                if item is end and not any(asked for _, asked in self._awaited.values()):
                    return
                (landed,), _ = self._ray.wait(list(self._awaited))
                actor, asked = self._awaited.pop(landed)
                try:
                    result = self._ray.get(landed)
                except lost:  # the actor's process or node is gone
                    self._start()
                    for item in asked:
                        again.append(item)
                        deaths[id(item)] += 1
                        if deaths[id(item)] == DEATHS:
                            raise FoclipError(f"{DEATHS} workers died at the same work: {str(item)[:200]}") from None
                    continue
                except Exception as error:  # Ray wraps what an actor raises in exceptions of its own
                    self._idle.append(actor)
                    raise unwrap_ray_error(error) from error
                self._idle.append(actor)
                for item in asked:
                    yield item, result
        finally:  # what is still being worked on is no longer waited for
            self._awaited = {reference: (actor, []) for reference, (actor, _) in self._awaited.items()}

    def _start(self) -> None:
        """Ask for an actor. Items are given only to actors that answer, since Ray may have no room for one now."""
        actor = self._actor.remote(self._threads)
        self._awaited[actor.ready.remote()] = actor, []


class _Actor:
    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._held: Any = None

    def ready(self) -> None:
        """Answer as soon as the actor runs."""

    def call(self, held: list[Any], item: Any) -> Any:
        """The function's result. The reference to it is in a list, where Ray leaves it a reference."""
        if held != self._held:
            import ray

            self._held, self._function = held, ray.get(held[0])
        return self._function(item)


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at this address or started on this machine; what was started here is ended here.

    A `UsageError` says if Ray is not installed, or there is no cluster at this address.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("engine: ray is not installed; pip install foclip[ray]") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    started = not ray.is_initialized()
    if started:
        own = {} if address else {"num_cpus": cores() + SPARE}
        try:
            ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"address: no Ray cluster at {address} ({error})") from error
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def unwrap_ray_error(error: BaseException) -> BaseException:
    """The `FoclipError` that caused one of Ray's errors; the error itself where there is none."""
    seen, current = set[int](), error
    while current is not None and id(current) not in seen:
        if isinstance(current, FoclipError):
            return current
        seen.add(id(current))
        current = getattr(current, "cause", None) or current.__cause__  # type: ignore[assignment]
    return error
