"""Where attacks run: on this machine, or spread over a Ray cluster.

An actor of Ray is given a batch of pictures, as many as go through the model at once, and attacks it as this machine
would (`foclip.attacks.loop`). A picture's result depends on nothing but the picture, its prompts, the plan and the
score, so its file has the same bytes wherever it was made. If a node is lost, Ray repeats its batches elsewhere.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from typing import Any

import torch

from foclip.attacks import AttackPlan, AttackResult, AttackTask, run
from foclip.attacks.execution import default_workers
from foclip.attacks.loop import StepCallback
from foclip.cache import Cache
from foclip.core.attacking import RunAttack
from foclip.machine import available_memory
from foclip.models.scorer import Scorer
from foclip.runs.workers import RayActors, connected


@contextmanager
def running(engine: str, address: str | None = None, workers: int | None = None) -> Iterator[RunAttack]:
    """What attacks pictures on an engine, as long as the block lasts.

    Args:
        engine: "local" or "ray".
        address: Of a Ray cluster; None for Ray on this machine.
        workers: Batches at the same time; None for what suits the score, and on Ray for as many as there is room for.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
    """
    if engine == "local":
        yield partial(run, workers=workers)
    else:
        with connected(address) as ray:
            yield _Cluster(ray, workers)


class _Cluster:
    """Attacks pictures on actors of Ray; a `RunAttack`.

    A picture that was not finished when the run ended is begun anew: nodes need not share a disk.

    Args:
        ray: Ray, connected.
        workers: Actors at most; None for as many as there is room for.
    """

    def __init__(self, ray: Any, workers: int | None) -> None:
        self._ray, self._workers = ray, workers
        self._actors: RayActors | None = None
        self._attackers: dict[tuple[object, ...], _Attacker] = {}

    def __call__(
        self,
        tasks: Iterable[AttackTask],
        scorer: Scorer,
        plan: AttackPlan,
        *,
        on_step: StepCallback | None = None,
        states: Cache | None = None,
        memory: int | None = None,
    ) -> Iterator[AttackResult]:
        """As `foclip.attacks.loop.run`. There are no steps to call `on_step` for, and no states to keep."""
        plan.check(scorer)
        if self._actors is None:
            # As many as a pass has here, since another number of threads rounds differently.
            threads = max(1, torch.get_num_threads() // default_workers(scorer))
            self._actors = RayActors(self._ray, self._workers, threads, gpu=scorer.device.type == "cuda")
        identity = (scorer.fingerprint, scorer.info.scale, str(scorer.device))
        attacker = self._attackers.setdefault(identity, _Attacker(scorer))
        asked: dict[int, AttackTask] = {}
        for _, found in self._actors.map(attacker, _batches(plan, iter(tasks), plan.execution.slots(scorer), asked)):
            for number, *results in found:
                yield AttackResult(asked.pop(number), *results)


#: A plan, and tasks by their numbers.
Batch = tuple[AttackPlan, dict[int, AttackTask]]


def _batches(plan: AttackPlan, tasks: Iterator[AttackTask], size: int, asked: dict[int, AttackTask]) -> Iterator[Batch]:
    """Batches of at most `size` tasks for an actor; the tasks are added to `asked` by their numbers."""
    numbers = count()
    while batch := {number: task for task, number in zip(islice(tasks, size), numbers, strict=False)}:
        asked |= batch
        yield plan, batch


class _Attacker:
    """What an actor does: attack a batch."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, batch: Batch) -> list[tuple[Any, ...]]:
        """The number of each task, and the fields of its `AttackResult`."""
        plan, tasks = batch
        numbers = {task: number for number, task in tasks.items()}
        memory = available_memory(self._scorer.device)
        found = run(tasks.values(), self._scorer, plan, workers=1, memory=memory)
        return [(numbers[f.task], f.pixels, f.scores, f.steps, f.stopped_by, f.seconds) for f in found]
