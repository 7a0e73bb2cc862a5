"""Where attacks run: on this machine, or spread over a Ray cluster.

What is handed to an actor of Ray is a batch of pictures, as many as go through the tower at once, and an actor does
with it what is done on one machine (`foclip.attacks.loop`). A picture's result depends on nothing but the picture, its
prompts, the attack and the score, so its file has the same bytes wherever it was made. A node that is lost costs the
batches it was at: Ray does them again elsewhere.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import torch

from foclip.attacks import Attack, AttackResult, AttackTask, check, lanes, run, workers
from foclip.attacks.loop import StepCallback
from foclip.cache import Cache
from foclip.errors import FoclipError, UsageError
from foclip.machine import cores
from foclip.models.scores import Score

#: Attacks pictures as `foclip.attacks.loop` does, given the attack, the score, the jobs, what to call after a step, and
#: where unfinished work is kept.
Run = Callable[[Attack, Score, Iterable[AttackTask | None], StepCallback | None, Cache | None], Iterator[AttackResult]]

#: Cores that Ray's own tasks take beside the actors.
SPARE = 2


@contextmanager
def running(engine: str, address: str | None = None, at_once: int | None = None) -> Iterator[Run]:
    """What attacks pictures on an engine, as long as the block lasts.

    Args:
        engine: "local" or "ray".
        address: Of a Ray cluster; None for Ray on this machine.
        at_once: Batches at once at most; None for what suits the score, and on Ray for as many as there is room for.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
    """
    if engine == "local":
        yield partial(run, at_once=at_once)
    else:
        with connected(address) as ray:
            yield _Cluster(ray, at_once)


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, started on this machine or connected to a cluster, and left as it was found.

    Args:
        address: Of the cluster; None for Ray on this machine.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError("engine: ray is not installed; pip install foclip[ray]") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
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
    """The error of ours that is the cause of one of Ray's; that itself where there is none."""
    seen, current = set[int](), error
    while current is not None and id(current) not in seen:
        if isinstance(current, FoclipError):
            return current
        seen.add(id(current))
        current = getattr(current, "cause", None) or current.__cause__  # type: ignore[assignment]
    return error


class _Cluster:
    """Actors that attack pictures, started with the first of them; a `Run`.

    A picture that was not finished when the run ended is begun anew: nodes need not share a disk.

    Args:
        ray: Ray, connected.
        at_once: Actors at most; None for as many as there is room for.
    """

    def __init__(self, ray: Any, at_once: int | None) -> None:
        self._ray, self._at_once = ray, at_once
        self._idle: list[Any] = []
        self._scores: dict[tuple[object, ...], Any] = {}

    def __call__(
        self,
        attack: Attack,
        score: Score,
        jobs: Iterable[AttackTask | None],
        on_step: StepCallback | None = None,
        store: Cache | None = None,
    ) -> Iterator[AttackResult]:
        check(attack, score)
        identity = (score.fingerprint, score.scale, str(score.device))
        if identity not in self._scores:
            self._scores[identity] = self._ray.put(score)
        idle = self._idle = self._idle or self._actors(score)
        reading = iter(partial(next, iter(jobs), None), None)  # up to the next None, which is none for now or the end
        flying: dict[Any, tuple[Any, list[AttackTask]]] = {}
        while True:
            while idle and (batch := list(islice(reading, lanes(attack, score)))):
                actor = idle.pop()
                asked = [AttackTask(job.picture, job.prompts, place) for place, job in enumerate(batch)]
                flying[actor.attack.remote([self._scores[identity]], attack, asked)] = actor, batch
            if not flying:
                return
            (landed,), _ = self._ray.wait(list(flying))
            actor, batch = flying.pop(landed)
            idle.append(actor)
            try:
                found = self._ray.get(landed)
            except Exception as error:  # Ray wraps what an actor raises in exceptions of its own
                raise unwrap_ray_error(error) from error
            for place, *results in found:
                yield AttackResult(batch[place], *results)

    def _actors(self, score: Score) -> list[Any]:
        """As many as there is room for, with as many threads as the score has here: another number rounds otherwise."""
        threads = max(1, torch.get_num_threads() // workers(score))
        gpus = int(score.device.type == "cuda")
        held = self._ray.cluster_resources()
        room = int(held.get("GPU", 0)) if gpus else (int(held.get("CPU", 1)) - SPARE) // threads
        kind = self._ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Attacker)
        return [kind.remote(torch.get_num_threads()) for _ in range(max(1, min(room, self._at_once or room)))]


class _Attacker:
    """An actor: attacks one batch at a time, and keeps the score it was last given."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.held: Any = None

    def attack(self, held: list[Any], attack: Attack, jobs: list[AttackTask]) -> list[tuple[Any, ...]]:
        """The place of each task, and the fields of its `AttackResult`. In a list, Ray keeps the score a reference."""
        if held != self.held:
            import ray

            self.held, self.score = held, ray.get(held[0])
        done = run(attack, self.score, jobs, at_once=1)
        return [(f.job.tag, f.pixels, f.scores, f.steps, f.stopped_by, f.seconds) for f in done]
