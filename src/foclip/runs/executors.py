"""Where attacks run: on this machine, or spread over a Ray cluster, with the same bytes in the files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

from foclip.attacks import AttackPlan, AttackResult, AttackTask, run
from foclip.attacks.plan import threads_per_batch
from foclip.core.attacking import RunAttack
from foclip.machine import available_memory
from foclip.models.scorer import Scorer
from foclip.runs.workers import RayActors, connected


@contextmanager
def running(engine: str, address: str | None = None, workers: int | None = None) -> Iterator[RunAttack]:
    """What attacks pictures on an engine, as long as the block lasts.

    The engine is "local" or "ray", on the cluster at `address` or on this machine. `workers` are batches at the same
    time; None for what suits the score, and on Ray for as many as there is room for. Errors are those of `connected`.
    """
    if engine == "local":
        yield partial(run, workers=workers)
    else:
        with connected(address) as ray:
            yield _Cluster(ray, workers)


class _Cluster:
    """Attacks pictures on at most so many actors of Ray, each a batch as this machine would; a `RunAttack`.

    A picture that was not finished when the run ended is begun anew: nodes need not share a disk.
    """

    def __init__(self, ray: Any, workers: int | None) -> None:
        self._ray, self._workers = ray, workers
        self._actors: RayActors | None = None
        self._attackers: dict[tuple[object, ...], partial[Any]] = {}

    def __call__(
        self, tasks: Iterable[AttackTask], scorer: Scorer, plan: AttackPlan, **others: object
    ) -> Iterator[AttackResult]:
        """As `foclip.attacks.loop.run`. There are no steps to call `on_step` for, and no states to keep."""
        plan.check(scorer)
        if self._actors is None:
            threads = threads_per_batch(scorer)  # another number of threads rounds differently
            self._actors = RayActors(self._ray, self._workers, threads, gpu=scorer.device.type == "cuda")
        identity = (scorer.fingerprint, scorer.info.scale, str(scorer.device))  # it is sent to the actors once
        attacker = self._attackers.setdefault(identity, partial(_attack, scorer))
        queue, slots = iter(tasks), plan.execution.slots(scorer)
        batches = ((plan, batch) for batch in iter(lambda: list(islice(queue, slots)), []))
        for (_, batch), found in self._actors.map(attacker, batches):
            for place, *result in found:
                yield AttackResult(batch[place], *result)


def _attack(scorer: Scorer, batch: tuple[AttackPlan, list[AttackTask]]) -> list[tuple[Any, ...]]:
    """On an actor, attack a batch: the place of each task in it, and the other fields of its `AttackResult`."""
    plan, tasks = batch
    found = run(tasks, scorer, plan, workers=1, memory=available_memory(scorer.device))
    return [(tasks.index(f.task), f.pixels, f.scores, f.steps, f.stopped_by, f.seconds) for f in found]
