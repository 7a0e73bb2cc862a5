"""Fool pictures: attack here or on a Ray cluster, write, then measure what was written.

Every figure in a `Result` is that of the file on disk, read back and scored through the model's own preprocessing.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from foclip.attacks import Attack, AttackPlan, AttackResult, AttackState, AttackTask, default_plan, run
from foclip.attacks.loop import StepCallback
from foclip.attacks.plan import threads_per_batch
from foclip.core.attacking import Attacked, RunAttack, attack_with
from foclip.core.scoring import samples_for
from foclip.data import images
from foclip.data.images import Source
from foclip.data.samples import PromptsOf, Sample
from foclip.machine import available_memory
from foclip.models import Encoder
from foclip.models.batching import TargetCache, read_figures
from foclip.models.registry import DEFAULT, resolve
from foclip.models.scorer import Scorer
from foclip.outcome import Failure, Outcome, Progress, mean, no_progress
from foclip.perceptual.fidelity import fidelity, psnr
from foclip.runs.folder import OutputSlot, Result, Results, Run, digest
from foclip.runs.workers import RayActors, connected

#: Points kept of the score over steps.
CURVE_POINTS = 200

#: Called with a result, and with the original and the written picture while they are in memory.
OnResult = Callable[[Result, Image.Image, Image.Image], None]


def fool(
    pictures: Source | Sequence[Source],
    prompts: PromptsOf = None,
    out: str | Path = "fooled",
    *,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    attack: AttackPlan | Attack | None = None,
    captions: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    progress: Progress = no_progress,
    on_step: StepCallback = lambda states: None,
    on_result: OnResult = lambda result, original, written: None,
) -> Outcome[Result]:
    """Fool pictures for prompts and write them to `out`, with `results.json`.

    A picture that cannot be read is a `Failure`; the others are done all the same. Runs in one folder add up: what was
    fooled there with the same settings is not fooled again, and what a stopped run began is continued. Files that were
    not written by such a run are not overwritten; a name that is taken gets a number.

    Args:
        pictures: Files, folders, PIL pictures or pixels (3, H, W), uint8 or float in [0, 1].
        prompts: For all pictures, a list of prompts or the name of a set, or one list per picture; None for the score's
            own.
        out: Folder for the fooled pictures; made if needed.
        model: A scorer, an encoder, or the name of one.
        score: Name of the score, unless `model` is a scorer.
        attack: A plan, or a method for a plan without a budget; None for FoCLIP as far as it is not noticed
            (`foclip.attacks.default_plan`).
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        workers: Batches of pictures that are attacked at the same time, each on a core of its own; None for what suits
            the model, and on Ray for as many as there is room for. Results do not depend on it.
        engine: "local", or "ray" for a cluster, with the same results.
        address: Of that cluster; None for Ray on this machine.
        progress: Shows progress, in steps; `foclip.print_progress` prints it.
        on_step: Called after every step with the pictures under attack; see `foclip.core.attack`.
        on_result: Called with each new result and its pictures.

    Returns:
        `Result` in the order of the pictures, and failures.

    Raises:
        FoclipError: Prompts, model or score are unusable.
        UsageError: `out` is unusable, or another run is at work there; or there is no such cluster.
    """
    scorer = resolve(model, score)
    plan = attack if isinstance(attack, AttackPlan) else AttackPlan(attack) if attack else default_plan(scorer)
    plan.check(scorer)
    samples = samples_for(scorer, pictures, prompts, captions, exclude=Path(out))
    failures = [*samples.failures]
    with Run(out) as folder:
        results, targets, slots = Results(folder), TargetCache(scorer), dict[Sample, OutputSlot]()
        shown, sized = _Shown(progress, max(plan.steps, 1), len(samples)), plan.sized(len(samples))

        def stepped(states: Sequence[AttackState]) -> None:
            shown.on_step(states)
            on_step(states)

        def pending(sample: Sample, task: AttackTask) -> bool:
            work = sized.key(scorer, task)
            slot = results.slot(sample.name, work if sized is plan else plan.key(scorer, task), work)
            if slot.done:
                shown.finished()
            else:
                slots[sample] = slot
            return not slot.done

        try:
            with running(engine, address, workers) as run_attack:
                for found in attack_with(
                    sized, samples, scorer, on_step=stepped, states=folder.cache, pending=pending, run=run_attack
                ):
                    if isinstance(found, Failure):
                        failures.append(found)
                        shown.finished()
                        continue
                    slot = slots.pop(found.sample)
                    images.write(found.image, slot.output)
                    written, original = images.read(slot.output), images.to_image(found.original)
                    result = _measured(slot, found, original, written, sized, scorer, targets)
                    results.write(slot, result)
                    on_result(result, original, written)
                    shown.finished()
        finally:  # whatever ends it, what is finished is listed
            results.save()
        return Outcome(results.of_this_run(), failures)


class _Shown:
    """Progress over the steps of all pictures."""

    def __init__(self, progress: Progress, steps: int, pictures: int) -> None:
        self._steps, self._pictures, self._done, self._most = steps, pictures, 0, 0
        self._report = progress("fooling, in steps", steps * pictures)

    def finished(self) -> None:
        """One more picture is done."""
        self._done += 1
        self._show(0)

    def on_step(self, states: Sequence[AttackState]) -> None:
        """These pictures have made a step."""
        self._show(sum(state.step for state in states), f", score {mean([state.scores[-1] for state in states]):.3f}")

    def _show(self, steps: int, note: str = "") -> None:
        # Pictures that end at the same step are written one by one: never back, and not all done before they are.
        missing = self._done < self._pictures
        made = min(self._done * self._steps + steps, self._steps * self._pictures - missing)
        self._most = max(self._most, made)
        self._report(self._most, f"{self._done} of {self._pictures} pictures{note}")


def _measured(
    slot: OutputSlot,
    attacked: Attacked,
    original: Image.Image,
    written: Image.Image,
    plan: AttackPlan,
    scorer: Scorer,
    targets: TargetCache,
) -> Result:
    """All figures of a written file, read back from disk."""
    prompts = attacked.sample.prompts
    looks = [scorer.preprocess.image(picture) for picture in (original, written)]
    looks += [scorer.preprocess.image(images.to_gray(picture)) for picture in (original, written)]
    before, after, gray_before, gray_after = read_figures(scorer, looks, [targets(prompts)] * 4)
    pixels = images.to_tensor(written)
    close = asdict(fidelity(pixels, attacked.original))
    close["psnr"] = close["psnr"] if close["linf"] else None
    close["ssim"] = None if math.isnan(close["ssim"]) else close["ssim"]
    rows, columns = scorer.preprocess.region(original.height, original.width)
    every = max(1, -(-len(attacked.curve) // CURVE_POINTS))
    return Result(
        source=slot.name,
        output=str(slot.output),
        prompts=list(prompts),
        score_before=mean(before),
        scores_before=before,
        score_after=mean(after),
        scores_after=after,
        gray_score_before=mean(gray_before),
        gray_score_after=mean(gray_after),
        psnr_seen=psnr(pixels[:, rows, columns], attacked.original[:, rows, columns]),
        **close,
        steps=attacked.steps,
        seconds=round(attacked.seconds, 3),
        stopped_by=attacked.stopped_by,
        score=scorer.info.name,
        model=scorer.model,
        fingerprint=scorer.fingerprint,
        config=plan.config(),
        seed=plan.method.seed,
        curve=[[step, round(value, 5)] for step, value in enumerate(attacked.curve)][::every],
        sha256=digest(slot.output),
        key=slot.key,
    )


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
