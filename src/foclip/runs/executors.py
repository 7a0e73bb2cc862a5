"""Where attacks run: on this machine, or spread over a Ray cluster.

What is handed to an actor of Ray is a batch of pictures, as many as go through the tower at once, and an actor does
with it what is done on one machine (`foclip.attacks.loop`). A picture's result depends on nothing but the picture, its
prompts, the attack and the score, so its file has the same bytes wherever it was made. A node that is lost costs the
batches it was at: Ray does them again elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import torch

from foclip.attacks import Attack, AttackResult, AttackTask, check, lanes, run, workers
from foclip.attacks.loop import StepCallback
from foclip.cache import Cache
from foclip.models.scores import Score
from foclip.runs.workers import RayActors, connected

#: Attacks pictures as `foclip.attacks.loop` does, given the attack, the score, the jobs, what to call after a step, and
#: where unfinished work is kept.
Run = Callable[[Attack, Score, Iterable[AttackTask | None], StepCallback | None, Cache | None], Iterator[AttackResult]]


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


class _Cluster:
    """Attacks pictures on actors of Ray; a `Run`.

    A picture that was not finished when the run ended is begun anew: nodes need not share a disk.

    Args:
        ray: Ray, connected.
        at_once: Actors at most; None for as many as there is room for.
    """

    def __init__(self, ray: Any, at_once: int | None) -> None:
        self._ray, self._at_once = ray, at_once
        self._actors: RayActors | None = None
        self._attackers: dict[tuple[object, ...], _Attacker] = {}

    def __call__(
        self,
        attack: Attack,
        score: Score,
        jobs: Iterable[AttackTask | None],
        on_step: StepCallback | None = None,
        store: Cache | None = None,
    ) -> Iterator[AttackResult]:
        check(attack, score)
        if self._actors is None:
            threads = max(1, torch.get_num_threads() // workers(score))  # another number of threads rounds otherwise
            self._actors = RayActors(self._ray, self._at_once, threads, gpu=score.device.type == "cuda")
        attacker = self._attackers.setdefault((score.fingerprint, score.scale, str(score.device)), _Attacker(score))
        asked: dict[int, AttackTask] = {}
        for _, found in self._actors.map(attacker, _batches(attack, jobs, lanes(attack, score), asked)):
            for number, *results in found:
                yield AttackResult(asked.pop(number), *results)


def _batches(
    attack: Attack, jobs: Iterable[AttackTask | None], size: int, asked: dict[int, AttackTask]
) -> Iterator[tuple[Attack, list[AttackTask]] | None]:
    """Batches for an actor, of tasks whose tags are their numbers in `asked`; None where there is no task for now."""
    batch: list[AttackTask] = []
    numbers = count()
    for job in jobs:
        if job is not None:
            asked[number := next(numbers)] = job
            batch.append(AttackTask(job.picture, job.prompts, number))
        if len(batch) == size or (batch and job is None):
            yield attack, batch
            batch = []
        elif job is None:
            yield None
    if batch:
        yield attack, batch


class _Attacker:
    """What an actor does: attack a batch."""

    def __init__(self, score: Score) -> None:
        self.score = score

    def __call__(self, asked: tuple[Attack, list[AttackTask]]) -> list[tuple[Any, ...]]:
        """The tag of each task, and the fields of its `AttackResult`."""
        done = run(asked[0], self.score, asked[1], at_once=1)
        return [(f.job.tag, f.pixels, f.scores, f.steps, f.stopped_by, f.seconds) for f in done]
