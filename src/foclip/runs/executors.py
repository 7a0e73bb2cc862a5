"""Where attacks run: on this machine, or spread over a Ray cluster.

What is handed to an actor of Ray is a batch of pictures, as many as go through the tower at once, and an actor does
with it what is done on one machine (`foclip.attacks.loop`). A picture's result depends on nothing but the picture, its
prompts, the attack and the score, so its file has the same bytes wherever it was made. A node that is lost costs the
batches it was at: Ray does them again elsewhere.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, Protocol

import torch

from foclip.attacks import AttackPlan, AttackResult, AttackTask, run
from foclip.attacks.execution import default_workers
from foclip.attacks.loop import StepCallback
from foclip.cache import Cache
from foclip.models.scorer import Scorer
from foclip.runs.workers import RayActors, connected


class Run(Protocol):
    """Attacks pictures as `foclip.attacks.loop.run` does."""

    def __call__(
        self,
        tasks: Iterable[AttackTask | None],
        scorer: Scorer,
        plan: AttackPlan,
        *,
        on_step: StepCallback | None = None,
        states: Cache | None = None,
    ) -> Iterator[AttackResult]:
        """The result of every task, as it finishes."""


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
        yield partial(run, workers=at_once)
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
        tasks: Iterable[AttackTask | None],
        scorer: Scorer,
        plan: AttackPlan,
        *,
        on_step: StepCallback | None = None,
        states: Cache | None = None,
    ) -> Iterator[AttackResult]:
        plan.check(scorer)
        if self._actors is None:
            threads = max(
                1, torch.get_num_threads() // default_workers(scorer)
            )  # another number of threads rounds otherwise
            self._actors = RayActors(self._ray, self._at_once, threads, gpu=scorer.device.type == "cuda")
        attacker = self._attackers.setdefault(
            (scorer.fingerprint, scorer.info.scale, str(scorer.device)), _Attacker(scorer)
        )
        asked: dict[int, AttackTask] = {}
        for _, found in self._actors.map(attacker, _batches(plan, tasks, plan.execution.slots(scorer), asked)):
            for number, *results in found:
                yield AttackResult(asked.pop(number), *results)


def _batches(
    plan: AttackPlan, tasks: Iterable[AttackTask | None], size: int, asked: dict[int, AttackTask]
) -> Iterator[tuple[AttackPlan, list[AttackTask]] | None]:
    """Batches for an actor, of tasks whose tags are their numbers in `asked`; None where there is no task for now."""
    batch: list[AttackTask] = []
    numbers = count()
    for task in tasks:
        if task is not None:
            asked[number := next(numbers)] = task
            batch.append(AttackTask(task.picture, task.prompts, number))
        if len(batch) == size or (batch and task is None):
            yield plan, batch
            batch = []
        elif task is None:
            yield None
    if batch:
        yield plan, batch


class _Attacker:
    """What an actor does: attack a batch."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def __call__(self, asked: tuple[AttackPlan, list[AttackTask]]) -> list[tuple[Any, ...]]:
        """The tag of each task, and the fields of its `AttackResult`."""
        plan, tasks = asked
        done = run(tasks, self.scorer, plan, workers=1)
        return [(f.task.tag, f.pixels, f.scores, f.steps, f.stopped_by, f.seconds) for f in done]
